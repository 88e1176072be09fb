"""Taking registries, stores and archives into the catalog."""
