"""Should a version take over? Two versions are asked the same, and rules look at what came of it."""
