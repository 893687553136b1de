"""The whole path on real data: train, export, serve, call, compare, roll out, report."""
