"""What is inside an image, as components, and the two documents that describe it to others."""
