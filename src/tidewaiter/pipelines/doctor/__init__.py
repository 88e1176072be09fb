"""A look at a home and its machine: what is wrong, why, and which command mends it. Nothing is changed."""
