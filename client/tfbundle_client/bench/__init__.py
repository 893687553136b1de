"""How a server answers under load."""
