"""Recipe and locks to layers to image, without Docker, without root, without running what is installed."""
