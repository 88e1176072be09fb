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

_ONE_IDENTITY: dict[tuple[str, str], tuple[str, ...]] = {("PyPI", name): _TENSORFLOW for name in _TENSORFLOW}

_SEPARATORS = re.compile(r"[-_.]+")


def normalise(ecosystem: str, name: str) -> str:
    """`name` as `ecosystem` compares names: PEP 503 for PyPI, unchanged elsewhere."""
    return _SEPARATORS.sub("-", name).lower() if ecosystem == "PyPI" else name


def identities(ecosystem: str, name: str) -> tuple[str, ...]:
    """Every normalised name to look an advisory up under, the package's own first."""
    own = normalise(ecosystem, name)
    return (own, *(other for other in _ONE_IDENTITY.get((ecosystem, own), ()) if other != own))
