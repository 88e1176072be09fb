"""GPUs, as the device plugin hands them out."""

import re
from collections.abc import Iterator

from tidewaiter.lint.finding import Found
from tidewaiter.lint.kubernetes.parse import Container, Manifest, Pod
from tidewaiter.lint.mending import added, replaced
from tidewaiter.lint.rule import rule
from tidewaiter.lint.tree import Map, Scalar

GPU = "nvidia.com/gpu"
_WHOLE = re.compile(r"[0-9]+(?:[kMGTPE]|[KMGTPE]i)?")


def _asked(container: Container, where: str) -> Scalar | None:
    found = container.resources.scalar(where, GPU)
    return None if found is None or found.filled_later else found


@rule("kubernetes/gpu-request-only", "error", mends=True)
def request_only(manifest: Manifest) -> Iterator[Found]:
    """A GPU is requested, but stands in no limits.

    GPUs are taken by limits: the API server refuses a request without a limit (`Limit must be set for non
    overcommitable resources`).
    """
    for container in manifest.all_containers:
        requested = _asked(container, "requests")
        if requested is None or container.resources.get("limits", GPU) is not None or not container.image.text:
            continue
        line = f"{GPU}: {requested.raw if requested.plain else repr(requested.raw)}"
        limits = container.resources.map("limits")
        yield Found(
            span=container.resources.map("requests").span_of(GPU),
            message=f"{container.name} requests {GPU} without a limit.",
            remedy=f"Write `{line}` under `limits`.",
            edits=added(limits, line)
            if limits.entries
            else added(container.resources, "limits:", f"  {line}")
            if container.resources.get("limits") is None
            else (),
        )


@rule("kubernetes/gpu-fraction", "error")
def fraction(manifest: Manifest) -> Iterator[Found]:
    """A part of a GPU is asked for.

    `nvidia.com/gpu` counts whole devices; the API server refuses fractions. GPUs are shared by time-slicing, MPS or
    MIG, which the administrator of the nodes sets up.
    """
    for container in manifest.all_containers:
        for where in ("limits", "requests"):
            found = _asked(container, where)
            if found is not None and not _WHOLE.fullmatch(found.raw.strip()):
                yield Found(
                    span=container.resources.map(where).span_of(GPU),
                    message=f"{found.raw} is no whole number of GPUs.",
                    remedy=f"Write `{GPU}: 1`, or the resource of a MIG slice, such as `nvidia.com/mig-1g.5gb: 1`.",
                )


@rule("kubernetes/gpu-request-differs", "error", mends=True)
def request_differs(manifest: Manifest) -> Iterator[Found]:
    """Request and limit of GPUs differ.

    GPUs cannot be overcommitted: the API server refuses a request that is not the limit.
    """
    for container in manifest.all_containers:
        limit, request = _asked(container, "limits"), _asked(container, "requests")
        if limit is not None and request is not None and limit.raw.strip() != request.raw.strip():
            yield Found(
                span=container.resources.map("requests").span_of(GPU),
                message=f"{container.name} requests {request.raw} and is limited to {limit.raw}.",
                remedy=f"Delete the request: it is the limit, {limit.raw}, by itself.",
                edits=replaced(request, limit.raw if limit.plain else f'"{limit.raw}"'),
            )


def _tolerates(pod: Pod) -> Map | None:
    """What lets it onto nodes that are tainted for their GPUs."""
    for one in pod.spec.maps("tolerations"):
        if "gpu" in one.string("key").lower() or (not one.string("key") and one.string("operator") == "Exists"):
            return one
    return None


def _has_gpu(pod: Pod) -> bool:
    """Whether anything in it asks for an accelerator, in whichever way."""
    if pod.spec.get("resourceClaims") is not None:
        return True
    if pod.spec.string("runtimeClassName"):
        return True  # NVIDIA's runtime gives the devices by itself
    for container in (*pod.containers, *pod.prepared_by):
        if "NVIDIA_VISIBLE_DEVICES" in container.env:
            return True
        for where in ("limits", "requests"):
            names = container.resources.map(where).entries
            if any("/" in name and not name.startswith("hugepages") for name in names):
                return True
        if container.resources.get("claims") is not None:
            return True
    return False


@rule("kubernetes/gpu-toleration-only", "warning")
def toleration_only(manifest: Manifest) -> Iterator[Found]:
    """A pod tolerates GPU nodes, but asks for no GPU.

    A toleration lets a pod onto such nodes and gives it nothing: without a limit the container sees no GPU, TensorFlow
    goes on with the CPU, and the pod takes room on an expensive node.
    """
    for pod in manifest.pods:
        found = _tolerates(pod)
        if (
            found is None
            or not pod.whole
            or found.string("key") != GPU
            or _has_gpu(pod)
            or pod.of_the_cluster
            or pod.role.lower() in {"launcher", "head"}
        ):
            continue
        yield Found(
            span=found.opening,
            message=f"No container of the pod asks for {GPU}.",
            remedy=f"Write `resources: {{limits: {{{GPU}: 1}}}}` where it computes, or delete the toleration.",
        )


@rule("kubernetes/gpu-without-toleration", "warning")
def without_toleration(manifest: Manifest) -> Iterator[Found]:
    """A pod asks for a GPU, but does not tolerate the taint of GPU nodes.

    Where GPU nodes are tainted, as most clusters do to keep other pods away, it stays Pending, unless the cluster adds
    the toleration itself (admission plugin ExtendedResourceToleration, as on GKE). `taints` under `[lint]` says which
    taints there are.
    """
    for pod in manifest.pods:
        asking = next((one for one in pod.containers if one.gpus is not None and one.gpus.value != 0), None)
        if asking is None or not pod.whole:
            continue
        if manifest.text.taints is not None:
            yield from _taints(pod, asking, manifest.text.taints)
            continue
        if _tolerates(pod) or pod.spec.list("tolerations"):
            continue
        yield Found(
            span=asking.resources.map("limits").span_of(GPU),
            message=f"The pod tolerates no taint {GPU}, and stays Pending where GPU nodes have it.",
            remedy=f"Write `tolerations: [{{key: {GPU}, operator: Exists, effect: NoSchedule}}]` in the pod's spec.",
        )


def _taints(pod: Pod, asking: Container, taints: tuple[str, ...]) -> Iterator[Found]:
    """The taints that are there and that a pod does not tolerate."""
    keys = {one.string("key") for one in pod.spec.maps("tolerations")}
    for key in () if "" in keys else taints:
        if key not in keys:
            yield Found(
                span=asking.resources.map("limits").span_of(GPU),
                message=f"GPU nodes have the taint {key}, which the pod does not tolerate: it stays Pending.",
                remedy=f"Write `tolerations: [{{key: {key}, operator: Exists}}]` in the pod's spec.",
            )


@rule("kubernetes/gpu-for-cpu-image", "warning")
def gpu_for_cpu_image(manifest: Manifest) -> Iterator[Found]:
    """A container has a GPU, and an image that cannot use it.

    The images of TensorFlow without `-gpu` in their tag are built for the CPU. They start, say nothing, and the GPU
    stays idle.
    """
    for container in manifest.containers:
        gpus = container.gpus
        image = container.image
        if gpus is None or gpus.value == 0 or not image.tensorflow or not image.known or not image.tag:
            continue
        if not image.for_gpu and "devel" not in image.tag and "custom" not in image.tag:
            yield Found(
                span=container.body.span_of("image"),
                message=f"{image.text} is built for the CPU; the GPU of {container.name} stays idle.",
                remedy=f"Use {image.repository}:{image.tag}-gpu, or delete the limit.",
            )


@rule("kubernetes/gpu-image-without-gpu", "warning")
def gpu_image_without_gpu(manifest: Manifest) -> Iterator[Found]:
    """An image for GPUs runs without one.

    It is gigabytes larger, and without a limit the device plugin gives no device to the container: TensorFlow logs that
    it found no GPU and computes on the CPU.
    """
    for container in manifest.containers:
        if (
            container.image.tensorflow
            and container.image.for_gpu
            and container.pod.whole
            and not _has_gpu(container.pod)
        ):
            yield Found(
                span=container.body.span_of("image"),
                message=f"No container of the pod asks for {GPU}, and {container.image.text} finds no GPU.",
                remedy=f"Write `resources: {{limits: {{{GPU}: 1}}}}`, or use the image without `-gpu`.",
            )


@rule("kubernetes/serving-several-gpus", "warning")
def serving_several_gpus(manifest: Manifest) -> Iterator[Found]:
    """One model server has several GPUs.

    TensorFlow Serving loads a model for the first GPU and uses the others only for what the graph places there itself;
    they stay idle, and count as taken.
    """
    for container in manifest.containers:
        gpus = container.gpus
        if gpus is None or not container.model_server or not gpus.raw.isdigit() or int(gpus.raw) < 2:
            continue
        yield Found(
            span=container.resources.map("limits").span_of(GPU),
            message=f"{container.name} takes {gpus.raw} GPUs and computes on one.",
            remedy=f"Write `{GPU}: 1` and more replicas.",
        )
