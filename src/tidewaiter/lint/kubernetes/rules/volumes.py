"""Where models and checkpoints are."""

import re
from collections.abc import Iterator

from tidewaiter.lint.finding import Found
from tidewaiter.lint.kubernetes.parse import Container, Manifest
from tidewaiter.lint.mending import added
from tidewaiter.lint.rule import rule
from tidewaiter.lint.tree import Map

_CHECKPOINTS = re.compile(r"checkpoint|ckpt", re.IGNORECASE)


def _source(container: Container, name: str) -> Map:
    for one in container.pod.spec.maps("volumes"):
        if one.string("name") == name:
            return one
    return Map(container.body.text, container.body.start, flow=True)


@rule("kubernetes/writable-model", "warning", mends=True)
def writable_model(manifest: Manifest) -> Iterator[Found]:
    """The model server can write its models.

    It never needs to. Whoever gets into it can replace what all its pods serve, and keeps that through restarts.
    """
    for container in manifest.containers:
        if not container.model_server:
            continue
        base = next((word.partition("=")[2] for word in container.words if word.startswith("--model_base_path=")), "")
        for mount in container.body.maps("volumeMounts"):
            path = mount.string("mountPath").rstrip("/")
            holds = path == "/models" or path.startswith("/models/") or (path and f"{base}/".startswith(f"{path}/"))
            source = _source(container, mount.string("name"))
            if not holds or mount.value("readOnly") is True or source.get("configMap") or source.get("secret"):
                continue
            if source.value("persistentVolumeClaim", "readOnly") is True:
                continue
            yield Found(
                span=mount.span_of("mountPath"),
                message=f"{container.name} can write below {path}.",
                remedy="Write `readOnly: true` in this mount.",
                edits=added(mount, "readOnly: true") if "readOnly" not in mount.entries else (),
            )


@rule("kubernetes/checkpoints-lost", "warning")
def checkpoints_lost(manifest: Manifest) -> Iterator[Found]:
    """Checkpoints end with the pod.

    An `emptyDir` is deleted with its pod: after an eviction or a failed node the training begins at its first step.
    """
    for container in manifest.containers:
        for mount in container.body.maps("volumeMounts"):
            path, name = mount.string("mountPath"), mount.string("name")
            if not (_CHECKPOINTS.search(path) or _CHECKPOINTS.search(name)):
                continue
            if "emptyDir" in _source(container, name).entries:
                yield Found(
                    span=mount.span_of("mountPath"),
                    message=f"{path} is an emptyDir, which is gone when the pod is.",
                    remedy="Mount a PersistentVolumeClaim, or write checkpoints to object storage.",
                )
