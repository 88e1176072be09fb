"""What a thing came from and what it reached: where a question starts, the way up and down, the graph."""
