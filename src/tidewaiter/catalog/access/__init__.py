"""Rows of users, tokens and sessions. What they allow is told in the room `access`."""
