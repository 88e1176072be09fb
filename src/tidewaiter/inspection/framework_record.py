"""Versions of TensorFlow, Python, CUDA and cuDNN in an image, the driver they need, and whether it was tested."""

import re
from collections.abc import Iterable, Mapping, Sequence

from tidewaiter.frameworks import cuda as cudas
from tidewaiter.frameworks import tensorflow
from tidewaiter.frameworks.versions import major, numbers
from tidewaiter.inspection.catalogers.python.requirements import normalised
from tidewaiter.inspection.facts import Framework, FrameworkRecord
from tidewaiter.sbom.component import Component

# Packages that bring the library itself, by kind of package.
_PACKAGES: dict[str, dict[str, re.Pattern[str]]] = {
    "python": {
        "cuda": re.compile(r"nvidia-cuda-runtime(?:-cu\d+)?"),
        "cudnn": re.compile(r"nvidia-cudnn(?:-cu\d+)?"),
    },
    "deb": {
        "cuda": re.compile(r"cuda-cudart-\d+-\d+"),
        "cudnn": re.compile(r"libcudnn\d+(?:-cuda-\d+)?"),
    },
    "rpm": {
        "cuda": re.compile(r"cuda-cudart-\d+-\d+"),
        "cudnn": re.compile(r"libcudnn\d+(?:-cuda-\d+)?"),
    },
    "conda": {
        "cuda": re.compile(r"cuda-cudart|cudatoolkit"),
        "cudnn": re.compile(r"cudnn|libcudnn"),
    },
}
_INTERPRETER = re.compile(r"(?:lib)?python3\.\d+(?:-minimal)?")
_UPSTREAM = re.compile(r"(?:\d+:)?(\d+(?:\.\d+)+)")


def _packaged(components: Iterable[Component], library: str) -> list[str]:
    found = []
    for component in components:
        patterns = _PACKAGES.get(component.kind)
        name = normalised(component.name) if component.kind == "python" else component.name
        version = _UPSTREAM.match(component.version)
        if patterns is not None and version and patterns[library].fullmatch(name):
            found.append(version[1])
    return found


def _longest(versions: Iterable[str]) -> str:
    """The version that says most; the newest of equally long ones."""
    return max(versions, key=lambda text: (text.count("."), numbers(text), text), default="")


def _chosen(packaged: Sequence[str], shown: Sequence[str], built_for: str) -> str:
    """The version that TensorFlow loads: of the major version that it was built for where one is there.

    A package's word counts more than that of a file.
    """

    def fitting(versions: Sequence[str]) -> list[str]:
        return [one for one in versions if major(one) == major(built_for)]

    return _longest(fitting(packaged)) or _longest(fitting(shown)) or _longest(packaged) or _longest(shown)


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
    """The record; None when the image has no TensorFlow, TensorFlow Serving, Python, CUDA or cuDNN."""
    details = next((one.details for one in frameworks if one.name == "tensorflow" and one.details), {})
    shown = {
        name: [one.version for one in frameworks if one.name == name and one.version]
        for name in ("cuda", "cudnn", "tensorflow", "tensorflow-serving")
    }
    distributions = {
        one.version: normalised(one.name)
        for one in components
        if one.kind == "python" and normalised(one.name) in tensorflow.DISTRIBUTIONS
    }
    version = _longest(distributions)
    built_for = {"cuda": details.get("cuda_version", ""), "cudnn": details.get("cudnn_version", "")}
    combination = tensorflow.Combination(
        tensorflow=version or _longest(shown["tensorflow"]),
        distribution=distributions.get(version, "tensorflow"),
        python=_python(components, frameworks, env),
        cuda=_chosen(_packaged(components, "cuda"), shown["cuda"], built_for["cuda"]),
        cudnn=_chosen(_packaged(components, "cudnn"), shown["cudnn"], built_for["cudnn"]),
        built_for_cuda=built_for["cuda"],
        built_for_cudnn=built_for["cudnn"],
        gpu_build=details.get("is_cuda_build", "true") == "true",
    )
    serving = _longest(shown["tensorflow-serving"])
    # A model server may lie there without a version to be read.
    if not (
        combination.tensorflow
        or combination.python
        or combination.cuda
        or combination.cudnn
        or any(one.name == "tensorflow-serving" for one in frameworks)
    ):
        return None
    judgement = tensorflow.judge(combination)
    return FrameworkRecord(
        tensorflow=combination.tensorflow,
        python=combination.python,
        cuda=combination.cuda,
        cudnn=combination.cudnn,
        built_for_cuda=combination.built_for_cuda,
        built_for_cudnn=combination.built_for_cudnn,
        compute_capabilities=tuple(filter(None, details.get("cuda_compute_capabilities", "").split(","))),
        serving=serving,
        least_driver=cudas.least_driver(combination.cuda),
        toolkit_driver=cudas.toolkit_driver(combination.cuda),
        tested=judgement.tested,
        tested_reason=judgement.reason,
        nearest_tested=judgement.nearest,
        conflicts=judgement.conflicts,
    )
