"""OCI and Docker images as values: references, digests, manifests, layers, layouts and archives.

Pure but for its stores: no network, no database, no subprocess.
"""
