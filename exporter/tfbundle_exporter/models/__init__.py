"""A loaded source as the exporter sees it: named inputs, named outputs, one call, its state."""
