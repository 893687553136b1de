"""The serving contract (`apis`), its configuration files (`config`) and the embedded server (`server`)."""
