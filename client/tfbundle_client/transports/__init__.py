"""The ways to a server: gRPC and REST, blocking and asynchronous, to one address or several."""
