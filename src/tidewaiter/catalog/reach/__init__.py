"""What a vulnerability or a package reaches, and the cheapest fix."""
