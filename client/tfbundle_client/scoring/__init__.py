"""Whole files through a model: .npy, .npz, .csv, .parquet and .jsonl in and out."""
