"""Layers to facts: one pass over each layer, catalogers pick what they know, overlay rules merge the result."""
