"""The catalog in a browser and as JSON over HTTP: read-only pages, no script, nothing from elsewhere."""
