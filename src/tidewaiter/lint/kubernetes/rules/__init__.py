"""Rules about Kubernetes' manifests, by subject."""

from tidewaiter.lint.kubernetes.rules import (
    gpu,
    images,
    objects,
    probes,
    resources,
    security,
    services,
    serving,
    training,
    volumes,
)

__all__ = [
    "gpu",
    "images",
    "objects",
    "probes",
    "resources",
    "security",
    "services",
    "serving",
    "training",
    "volumes",
]
