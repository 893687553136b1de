"""Watching a model while it trains: when to export, on which inputs, and leaving the training as it was."""
