"""Other people's clients and servers at the other end."""
