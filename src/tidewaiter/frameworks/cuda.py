"""Which driver a CUDA needs, which CUDA a cuDNN fits, and which GPUs compiled code runs on.

From CUDA 11 on, all minor versions of a major version run on the least driver of that major version ("minor version
compatibility"). Code that the driver has to compile (PTX) is not covered by that: it needs the driver that belongs to
the toolkit, or a newer one.
"""

import re
from typing import Literal

from tidewaiter.frameworks import tables
from tidewaiter.frameworks.versions import major, numbers, series

Runs = Literal["yes", "limited", "no", "unknown"]
"""`limited`: runs, but what the driver would have to compile does not."""
Code = Literal["compiled", "ptx", "none", "unknown"]

_TARGET = re.compile(r"(sm|compute)_(\d{1,3})")


def least_driver(cuda: str) -> str:
    """The oldest Linux driver on which this CUDA runs, for example `525.60.13`; empty when it is not known.

    A major version is enough from CUDA 11 on.
    """
    for family in tables.cuda().family:
        if family.major == major(cuda):
            return family.driver
    return toolkit_driver(cuda)


def toolkit_driver(cuda: str) -> str:
    """The Linux driver with which all of this CUDA works, PTX included; empty when it is not known."""
    wanted = series(cuda)
    return next((one.driver for one in tables.cuda().toolkit if one.cuda == wanted), "")


def runs(cuda: str, driver: str) -> Runs:
    """Whether CUDA `cuda` runs on the Linux driver `driver`."""
    have, least, full = numbers(driver), numbers(least_driver(cuda)), numbers(toolkit_driver(cuda))
    if not have or not least:
        return "unknown"
    if have < least[: len(have)]:  # `525` stands for the newest of its branch
        return "no"
    if not full:
        return "unknown"
    return "limited" if have < full[: len(have)] else "yes"


def cudnn_fits(cudnn: str, cuda: str) -> bool | None:
    """Whether this cuDNN was published for the major version of this CUDA; None when it is not known."""
    wanted, number = series(cudnn), major(cuda)
    known = next((one.cuda for one in tables.cuda().cudnn if one.series == wanted), None)
    return None if known is None or number is None else number in known


def capability_of(gpu: str) -> str:
    """Compute capability of a data center GPU, for example `7.5` of `NVIDIA T4` or `Tesla-T4`; empty when not known."""
    words = set(re.split(r"[^a-z0-9]+", gpu.lower()))
    for row in tables.cuda().gpu:
        if any(model.lower() in words for model in row.models):
            return row.capability
    return ""


def code_for(targets: tuple[str, ...], capability: str) -> Code:
    """What code for the targets (`sm_80`, `compute_90`) does on a GPU of `capability`.

    Compiled code runs on GPUs of the same major version and at least the same minor one; PTX on all newer ones, once
    the driver has compiled it.
    """
    gpu = numbers(capability)[:2]
    known = [(match[1], divmod(int(match[2]), 10)) for text in targets if (match := _TARGET.fullmatch(text))]
    if len(gpu) != 2 or not known:
        return "unknown"
    # TensorFlow's `compute_NN` is compiled code and PTX.
    if any(target[0] == gpu[0] and target <= gpu for _, target in known):
        return "compiled"
    return "ptx" if any(kind == "compute" and target <= gpu for kind, target in known) else "none"
