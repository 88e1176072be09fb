"""Shell scripts: read into commands, and their rules."""
