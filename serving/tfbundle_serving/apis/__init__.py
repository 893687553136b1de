"""The contract that exporter, server and client share: messages, names, files and errors; numpy only."""
