"""Debian packages without dpkg: signed archives, `.deb` files, dependencies, maintainer scripts."""
