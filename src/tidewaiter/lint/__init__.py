"""Mistakes in Dockerfiles, manifests, requirements, scripts: found, explained, mended. Nothing that is read is run."""
