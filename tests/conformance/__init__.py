"""Conformance of the WebSocket with RFC 6455 and RFC 7692: vectors from the two texts, in both roles, against a raw peer."""
