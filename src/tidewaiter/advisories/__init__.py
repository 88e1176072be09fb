"""OSV feeds, version order and the matcher: which package versions are vulnerable, and what is not known."""
