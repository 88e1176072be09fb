"""Errors, settings, the project file, clock, limits and progress: what every room stands on."""
