"""What stands in a version folder: SavedModel, warm-up records, metadata.json."""
