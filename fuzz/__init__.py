"""Attackers by machine, over raw sockets and over the OpenAPI document: `make fuzz`."""
