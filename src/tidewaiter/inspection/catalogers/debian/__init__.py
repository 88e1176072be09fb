"""Debian packages: what dpkg recorded as installed, and their machine-readable copyright files."""
