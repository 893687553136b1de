"""The official protobuf classes, which judge ours, and settings of the property tests."""

from __future__ import annotations

import os

import hypothesis

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

# Examples are the same on every run, and a slow machine is no failure.
hypothesis.settings.register_profile("tfbundle", deadline=None, derandomize=True, database=None, max_examples=100)
hypothesis.settings.load_profile("tfbundle")
