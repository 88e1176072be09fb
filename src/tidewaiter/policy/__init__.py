"""Facts in, verdict out."""
