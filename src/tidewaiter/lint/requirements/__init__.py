"""Requirements files: how they are read, and their rules."""
