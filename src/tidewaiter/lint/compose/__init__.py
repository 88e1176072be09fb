"""Compose files: services, and the mistakes in them."""
