"""What the source answers, and the gate that holds a staged version against it."""
