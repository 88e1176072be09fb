"""Under which names a package is known to the advisory databases."""

import re

_TENSORFLOW = (
    "tensorflow",
    "tensorflow-cpu",
    "tensorflow-gpu",
    "tensorflow-intel",
    "tensorflow-cpu-aws",
    "intel-tensorflow",
    "tf-nightly",
)
"""Distributions of one code base with one line of versions: what is wrong with one is wrong with all."""

_NVIDIA = re.compile(r"(nvidia-[a-z0-9-]+?)(?:-cu(?:da)?[0-9]+)?")
_CUDA = ("", "-cu11", "-cu12", "-cu13", "-cuda110", "-cuda120", "-cuda130")
"""How NVIDIA's distributions of one library are told apart by the CUDA that they are for; newer ones have no suffix."""

_SEPARATORS = re.compile(r"[-_.]+")


def normalise(ecosystem: str, name: str) -> str:
    """`name` as `ecosystem` compares names: PEP 503 for PyPI, unchanged elsewhere."""
    return _SEPARATORS.sub("-", name).lower() if ecosystem == "PyPI" else name


def identities(ecosystem: str, name: str) -> tuple[str, ...]:
    """Every normalised name to look an advisory up under, the package's own first."""
    own = normalise(ecosystem, name)
    return (own, *(other for other in _names(own) if other != own)) if ecosystem == "PyPI" else (own,)


def _names(own: str) -> tuple[str, ...]:
    if own in _TENSORFLOW:
        return _TENSORFLOW
    nvidia = _NVIDIA.fullmatch(own)
    return tuple(nvidia[1] + suffix for suffix in _CUDA) if nvidia else ()
