"""GPUs in Compose files."""

from collections.abc import Iterator

from tidewaiter.lint.compose.parse import Compose, Service
from tidewaiter.lint.finding import Found
from tidewaiter.lint.mending import added
from tidewaiter.lint.rule import rule
from tidewaiter.lint.tree import Scalar

_WRITTEN = "deploy: {resources: {reservations: {devices: [{driver: nvidia, count: 1, capabilities: [gpu]}]}}}"


def has_gpu(service: Service) -> bool:
    """Whether it asks for a GPU, in whichever way."""
    return (
        bool(service.devices)
        or service.body.get("gpus") is not None
        or service.body.string("runtime") == "nvidia"
        or any("nvidia" in one.raw for one in service.body.list("devices") if isinstance(one, Scalar))
    )


@rule("compose/gpu-capabilities", "error", mends=True)
def capabilities(file: Compose) -> Iterator[Found]:
    """A reserved device does not say what it must be able to do.

    Compose refuses a device without `capabilities`. `gpu` means any NVIDIA GPU with its usual libraries.
    """
    for service in file.services:
        for one in service.devices:
            if one.string("driver") not in {"", "nvidia"} or one.list("capabilities"):
                continue
            key = "capabilities" if "capabilities" in one.entries else next(iter(one.entries), "")
            yield Found(
                span=one.span_of(key) if key else one.span,
                message="The device has no `capabilities`.",
                remedy="Write `capabilities: [gpu]`.",
                edits=added(one, "capabilities: [gpu]") if "capabilities" not in one.entries else (),
            )


@rule("compose/gpu-count-and-ids", "error")
def count_and_ids(file: Compose) -> Iterator[Found]:
    """A device is asked for by number and by name at once.

    Compose refuses a file with `count` and `device_ids`: they exclude each other.
    """
    for service in file.services:
        for one in service.devices:
            if one.get("count") is not None and one.get("device_ids") is not None:
                yield Found(
                    span=one.span_of("count"),
                    message="`count` and `device_ids` exclude each other.",
                    remedy="Keep `device_ids` where it must be these GPUs, else `count`.",
                )


@rule("compose/gpu-under-limits", "error")
def under_limits(file: Compose) -> Iterator[Found]:
    """A GPU is written under `limits`.

    Compose takes devices under `reservations` only; here it refuses them.
    """
    for service in file.services:
        limits = service.body.map("deploy").map("resources", "limits")
        if "devices" in limits.entries:
            yield Found(
                span=limits.span_of("devices"),
                message="Devices are no limit.",
                remedy=f"Write `{_WRITTEN}`.",
            )


@rule("compose/runtime-nvidia", "info")
def runtime(file: Compose) -> Iterator[Found]:
    """The GPU comes from `runtime: nvidia`.

    That is the way of nvidia-docker2: it works only where the daemon has such a runtime, and gives all GPUs of the
    machine unless NVIDIA_VISIBLE_DEVICES says otherwise.
    """
    for service in file.services:
        if service.body.string("runtime") == "nvidia":
            yield Found(
                span=service.body.span_of("runtime"),
                message=f"{service.name} relies on a runtime of that name in the daemon's settings.",
                remedy="Delete it: the device that the service reserves is enough."
                if service.devices
                else f"Write `{_WRITTEN}`.",
            )


@rule("compose/gpu-image-without-gpu", "warning")
def image_without_gpu(file: Compose) -> Iterator[Found]:
    """An image for GPUs runs without one.

    It is gigabytes larger than the one for the CPU, and without a reservation the container sees no GPU: TensorFlow
    logs that it found none and computes on the CPU.
    """
    for service in file.services:
        if service.image.tensorflow and service.image.for_gpu and not has_gpu(service):
            yield Found(
                span=service.body.span_of("image"),
                message=f"{service.name} runs {service.image.text} and reserves no GPU.",
                remedy=f"Write `{_WRITTEN}`, or use the image without `-gpu`.",
            )


@rule("compose/gpu-for-cpu-image", "warning")
def gpu_for_cpu_image(file: Compose) -> Iterator[Found]:
    """A service has a GPU, and an image that cannot use it.

    The images of TensorFlow without `-gpu` in their tag are built for the CPU; the GPU stays idle.
    """
    for service in file.services:
        image = service.image
        plain = image.tensorflow and image.known and image.tag and not image.for_gpu and "devel" not in image.tag
        if plain and not service.built and has_gpu(service):
            yield Found(
                span=service.body.span_of("image"),
                message=f"{image.text} is built for the CPU; the GPU of {service.name} stays idle.",
                remedy=f"Use {image.repository}:{image.tag}-gpu, or delete the reservation.",
            )
