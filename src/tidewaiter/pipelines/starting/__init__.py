"""The first day of a project: looks at what lies in its folder and writes what an image of it needs."""
