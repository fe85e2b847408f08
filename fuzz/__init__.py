"""Automatic attacks over raw sockets and along the OpenAPI document: `make fuzz`."""
