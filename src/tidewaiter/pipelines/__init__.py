"""Workflows that string the steps together."""
