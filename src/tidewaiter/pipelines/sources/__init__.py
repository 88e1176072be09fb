"""Fetching the commit that a run builds, from repositories that may be hostile."""
