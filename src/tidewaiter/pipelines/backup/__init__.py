"""Backups of a home: written, read, restored."""
