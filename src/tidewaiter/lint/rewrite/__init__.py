"""Dockerfiles written anew in small steps, each of which leaves the file as it is when it does not understand it."""
