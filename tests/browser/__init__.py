"""Chromium as the client: the chat's page, WebSocket, TLS."""
