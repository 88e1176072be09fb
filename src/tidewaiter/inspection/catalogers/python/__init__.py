"""Python distributions: metadata that installers leave beside the code."""
