"""Transparency logs: Merkle trees in tiles, signed checkpoints, proofs and witnesses, as C2SP specifies them.

No storage and no network: whoever keeps a log hands in tiles and takes them out.
"""
