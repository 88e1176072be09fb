"""Rules about Compose files, by subject."""

from tidewaiter.lint.compose.rules import gpu, services

__all__ = ["gpu", "services"]
