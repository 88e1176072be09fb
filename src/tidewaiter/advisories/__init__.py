"""OSV feeds, version order and the matcher: which package versions are known to be vulnerable, and what is not known."""
