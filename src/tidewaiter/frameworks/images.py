"""Which images the TensorFlow project publishes, and what they contain; as far as somebody has said so."""

import re

import msgspec

from tidewaiter.frameworks import tables, tensorflow
from tidewaiter.frameworks.versions import major, numbers, release_series, series

TENSORFLOW = "tensorflow/tensorflow"
SERVING = "tensorflow/serving"
_KINDS = frozenset({"", "gpu", "jupyter", "gpu-jupyter"})
_SERVING_KINDS = frozenset({"", "gpu", "devel", "devel-gpu"})
_FIRST = (2, 2)
"""The first minor release whose tags were put together as `images.toml` says."""


class Contents(msgspec.Struct, frozen=True, kw_only=True):
    """What an image contains; empty where it has none or nobody has said."""

    python: str = ""
    cuda: str = ""
    cudnn: str = ""
    user: str = "root"
    sure: bool = True
    """False when the images came within days of a change of their Dockerfiles."""


def repository_of(name: str) -> str:
    """The canonical name of an official repository (`docker.io/tensorflow/serving` too); empty for any other."""
    plain = re.sub(r"^(?:(?:index\.)?docker\.io|registry-1\.docker\.io|registry\.hub\.docker\.com)/", "", name)
    return plain if plain in {TENSORFLOW, SERVING} else ""


def version_of(tag: str) -> str:
    """The release that a tag begins with: `2.15.0` of `2.15.0-gpu`; empty for `latest-gpu` and release candidates."""
    head = tag.partition("-")[0]
    return head if release_series(head) else ""


def kind_of(tag: str) -> str:
    """What stands behind the release: `gpu-jupyter` of `2.15.0-gpu-jupyter`."""
    return tag.partition("-")[2]


def why_unpublished(repository: str, tag: str) -> str:
    """Why that tag of an official repository cannot be pulled; empty when it can be, or nobody knows."""
    parts = tag.lower().split("-")
    if parts[0] == "serving":
        return {
            SERVING: f"tags of {SERVING} begin with the version",
            TENSORFLOW: f"images of TensorFlow Serving are in {SERVING}",
        }.get(repository, "")
    version = version_of(tag)
    if repository != TENSORFLOW or not version or numbers(version)[:2] < _FIRST:
        return ""
    images = tables.images()
    if odd := next((part for part in parts[1:] if any(re.fullmatch(one, part) for one in images.never)), ""):
        return f"no tag of TensorFlow {series(version)} says {odd}"
    if any(one.release == version and one.sure for one in images.unpublished):
        return f"TensorFlow {version} has wheels on PyPI and no image"
    wheels = tables.tensorflow().wheel
    if _between(version, series(wheels[-1].release), series(wheels[0].release)) and not tensorflow.wheel_of(version):
        return f"TensorFlow {version} was never released"
    return ""


def _between(version: str, oldest: str, newest: str) -> bool:
    return numbers(oldest) <= numbers(version)[:2] <= numbers(newest)


def nearest(repository: str, tag: str) -> str:
    """A tag that was published in place of one that was not: its release, or the newest image of the minor release.

    Empty when nothing is known for it.
    """
    found = re.search(r"\d+\.\d+(?:\.\d+)?", tag)
    if found is None:
        return ""
    if repository == SERVING:
        releases = [one for one in tables.images().serving_release if series(one) == series(found[0])]
        wanted = kind_of(tag) if kind_of(tag) in _SERVING_KINDS else "gpu" if "gpu" in tag else ""
    else:
        releases = published(series(found[0]))
        wanted = "-".join(one for one in ("gpu", "jupyter") if one in tag)
    version = found[0] if found[0] in releases else releases[-1] if releases else ""
    return "-".join(part for part in (version, wanted) if part) if version else ""


def published(minor: str) -> list[str]:
    """Releases of a minor release of TensorFlow that have images, oldest first; without `.post1`."""
    missing = {one.release for one in tables.images().unpublished}
    return [
        one.release
        for one in reversed(tables.tensorflow().wheel)
        if series(one.release) == minor and one.release not in missing and "post" not in one.release
    ]


def contents(repository: str, tag: str) -> Contents | None:
    """What the image of a tag contains; None for a tag whose release or kind is not known."""
    version, kind = version_of(tag), kind_of(tag)
    images = tables.images()
    if repository == SERVING and kind in {"", "gpu"}:
        row = next((one for one in images.serving if one.series == series(version)), None)
        if row is None:
            return None
        return Contents(cuda=row.cuda, cudnn=row.cudnn) if kind else Contents()
    if repository != TENSORFLOW or kind not in _KINDS:
        return None
    image = next((one for one in images.image if one.series == series(version)), None)
    state = next((one for one in images.state if image and one.day == image.day), None)
    if image is None or state is None:
        return None
    gpu = "gpu" in kind
    return Contents(
        python=state.python,
        cuda=state.cuda if gpu else "",
        cudnn=state.cudnn if gpu else "",
        sure=image.sure,
    )


def lacks_cudnn(tag: str) -> str:
    """Why TensorFlow finds no GPU in a `-gpu` image of tensorflow/tensorflow; empty when it does, or nobody knows.

    TensorFlow loads cuDNN by its major version, and without it goes on on the CPU.
    """
    found = contents(TENSORFLOW, tag)
    build = tensorflow.build_of(version_of(tag), gpu=True)
    if found is None or build is None or not found.cudnn or major(found.cudnn) == major(build.cudnn):
        return ""
    return f"TensorFlow {series(build.release)} loads cuDNN {major(build.cudnn)}, the image has {found.cudnn}"
