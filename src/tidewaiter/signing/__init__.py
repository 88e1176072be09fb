"""Keys, DSSE and cosign formats: who says what about a digest."""
