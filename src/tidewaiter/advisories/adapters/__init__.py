"""What other programs and people say of an image: reports of scanners, and VEX documents."""
