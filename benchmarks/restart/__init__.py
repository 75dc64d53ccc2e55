"""Restarts under load: the load, the servers and how each is restarted, what is done to them, the table."""
