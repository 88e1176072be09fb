"""Dockerfiles: parsed as BuildKit does, with stages, variables and the commands in `RUN`."""
