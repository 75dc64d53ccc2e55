"""Byte streams, TCP, TLS, HTTP and WebSocket over real connections of the loopback."""
