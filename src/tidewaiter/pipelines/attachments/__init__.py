"""Signatures and statements of images: made, attached, sent, taken over, outdated."""
