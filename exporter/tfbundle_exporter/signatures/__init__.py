"""What clients call: names, the plain signature, and ready-made ones around it."""
