"""Debian packages without dpkg: signed archives, `.deb` files, dependencies, maintainer scripts."""

TREE_VERSION = 2
"""Part of the layer cache key: raise it when the same packages and recipe give other files."""
