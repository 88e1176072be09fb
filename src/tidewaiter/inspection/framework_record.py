"""Which versions of TensorFlow, Python, CUDA and cuDNN an image combines."""

import re
from collections.abc import Iterable, Mapping, Sequence

from packaging.utils import canonicalize_name

from tidewaiter.inspection.facts import Framework, FrameworkRecord
from tidewaiter.sbom.component import Component

_TENSORFLOW = frozenset({"tensorflow", "tensorflow-cpu", "tensorflow-gpu", "tensorflow-intel", "tf-nightly"})
# Packages that bring the library itself, by kind; the wheels and Debian's archives of NVIDIA.
_PYTHON_PACKAGES = {"cuda": re.compile(r"nvidia-cuda-runtime(?:-cu\d+)?"), "cudnn": re.compile(r"nvidia-cudnn-cu\d+")}
_DEBIAN_PACKAGES = {"cuda": re.compile(r"cuda-cudart-\d+-\d+"), "cudnn": re.compile(r"libcudnn\d+(?:-cuda-\d+)?")}
_INTERPRETER = re.compile(r"(?:lib)?python3\.\d+(?:-minimal)?")
_UPSTREAM = re.compile(r"(?:\d+:)?(\d+(?:\.\d+)+)")


def _packaged(components: Iterable[Component], library: str) -> Iterable[str]:
    for component in components:
        patterns = {"python": _PYTHON_PACKAGES, "deb": _DEBIAN_PACKAGES}.get(component.kind)
        name = canonicalize_name(component.name) if component.kind == "python" else component.name
        version = _UPSTREAM.match(component.version)
        if patterns is not None and version and patterns[library].fullmatch(name):
            yield version[1]


def _longest(versions: Iterable[str]) -> str:
    """The version that says most; the greatest text of equally long ones."""
    return max(versions, key=lambda text: (text.count("."), text), default="")


def _python(components: Sequence[Component], frameworks: Sequence[Framework], env: Mapping[str, str]) -> str:
    """The interpreter's version: its header, Debian's or conda's package, else `PYTHON_VERSION` of official images."""
    headers = [one.version for one in frameworks if one.name == "python"]
    packages = [
        match[1]
        for one in components
        if (one.kind == "deb" and _INTERPRETER.fullmatch(one.name)) or (one.kind == "conda" and one.name == "python")
        if (match := _UPSTREAM.match(one.version))
    ]
    return _longest(headers) or _longest(packages) or env.get("PYTHON_VERSION", "")


def of(
    components: Sequence[Component], frameworks: Sequence[Framework], env: Mapping[str, str]
) -> FrameworkRecord | None:
    """The record; None when the image has none of the four."""
    details = next((one.details for one in frameworks if one.name == "tensorflow" and one.details), {})
    shown = {
        name: [one.version for one in frameworks if one.name == name and one.version]
        for name in ("cuda", "cudnn", "tensorflow")
    }
    distributions = [
        one.version for one in components if one.kind == "python" and canonicalize_name(one.name) in _TENSORFLOW
    ]
    record = FrameworkRecord(
        tensorflow=_longest(distributions) or _longest(shown["tensorflow"]),
        python=_python(components, frameworks, env),
        cuda=_longest(_packaged(components, "cuda")) or _longest(shown["cuda"]),
        cudnn=_longest(_packaged(components, "cudnn")) or _longest(shown["cudnn"]),
        built_for_cuda=details.get("cuda_version", ""),
        built_for_cudnn=details.get("cudnn_version", ""),
        compute_capabilities=tuple(filter(None, details.get("cuda_compute_capabilities", "").split(","))),
    )
    return record if record.tensorflow or record.python or record.cuda or record.cudnn else None
