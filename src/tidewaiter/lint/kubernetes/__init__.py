"""Kubernetes manifests, also those that Helm and Kustomize wrote: documents with the places of their values."""
