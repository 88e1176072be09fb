"""Training scripts in Python, read with `ast` and never run."""
