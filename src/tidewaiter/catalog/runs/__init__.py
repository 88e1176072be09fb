"""Runs of pipelines: what was asked for, how far it is, what it said, and what came of it."""
