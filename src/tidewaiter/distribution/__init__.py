"""The registry client (distribution-spec)."""
