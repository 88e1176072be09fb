"""Tidewaiter governs AI container images from the commit to the running container."""

__version__ = "0.1.0"
