"""The client's commands, their options, and what they print."""
