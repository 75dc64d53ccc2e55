"""nginx and HAProxy in front of the server, and what they and it make of the same bytes."""
