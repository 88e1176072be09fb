"""Pipelines that survive any crash: runs are kept in the catalog, carried out by workers, and resumed by others."""
