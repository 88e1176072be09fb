"""Whether a combination of TensorFlow, Python, CUDA and cuDNN is one that the TensorFlow project has tested."""

from typing import Literal

import msgspec
from packaging.specifiers import SpecifierSet

from tidewaiter.frameworks import cuda as cudas
from tidewaiter.frameworks import tables
from tidewaiter.frameworks.tables import TestedBuild, Wheel
from tidewaiter.frameworks.versions import major, numbers, ranged, release_series, series

DISTRIBUTIONS = frozenset(
    {
        "tensorflow",
        "tensorflow-cpu",
        "tensorflow-gpu",
        "tensorflow-intel",
        "tf-nightly",
        "tensorflow-cpu-aws",
        "intel-tensorflow",
    }
)
"""Normalised names under which TensorFlow is published on PyPI."""
_WITHOUT_GPU = frozenset({"tensorflow-cpu", "tensorflow-intel", "tensorflow-cpu-aws", "intel-tensorflow"})
_OF_OTHERS = frozenset({"tensorflow-cpu-aws", "intel-tensorflow"})

Tested = Literal["yes", "no", "unknown"]


class Combination(msgspec.Struct, frozen=True, kw_only=True):
    """What an image combines; empty where it has none or does not say."""

    tensorflow: str
    python: str
    cuda: str
    cudnn: str
    distribution: str = "tensorflow"
    """Normalised name of the Python distribution."""
    built_for_cuda: str = ""
    """By TensorFlow's build information."""
    built_for_cudnn: str = ""
    gpu_build: bool = True
    """False when the build information says that it was built without CUDA."""


class Judgement(msgspec.Struct, frozen=True, kw_only=True):
    """What the tables say about a combination."""

    tested: Tested
    reason: str
    nearest: str = ""
    """The tested combination nearest to it, in words; empty without TensorFlow."""
    conflicts: tuple[str, ...] = ()
    """Why it cannot work on a GPU, whatever was tested."""


def builds(*, gpu: bool) -> tuple[TestedBuild, ...]:
    """Tested build configurations on Linux, newest first."""
    return tables.tensorflow().gpu if gpu else tables.tensorflow().cpu


def build_of(version: str, *, gpu: bool) -> TestedBuild | None:
    """The tested configuration of the minor release that `version` belongs to."""
    wanted = series(version)
    return next((one for one in builds(gpu=gpu) if series(one.release) == wanted), None)


def wheel_of(version: str) -> Wheel | None:
    """The published wheels of exactly this release."""
    return next((one for one in tables.tensorflow().wheel if one.release == version), None)


def described(build: TestedBuild) -> str:
    """For example `TensorFlow 2.15 with Python 3.9-3.11, CUDA 12.2 and cuDNN 8.9`."""
    text = f"TensorFlow {series(build.release)} with Python {ranged(build.python)}"
    return f"{text}, CUDA {build.cuda} and cuDNN {build.cudnn}" if build.cuda else text


def for_driver(driver: str, *, python: str = "") -> tuple[TestedBuild, ...]:
    """Tested GPU configurations whose CUDA runs on a Linux driver, and whose Python is the one named; newest first."""
    return tuple(
        one
        for one in builds(gpu=True)
        if cudas.runs(one.cuda, driver) in {"yes", "limited"} and (not python or series(python) in one.python)
    )


def judge(it: Combination) -> Judgement:
    """Whether `it` is a tested combination.

    With CUDA or cuDNN beside a build for GPUs the GPU configurations count, else those without GPU: the wheel with CUDA
    code runs without a GPU too. A patch release counts as its minor release.
    """
    if not it.tensorflow:
        return Judgement(tested="unknown", reason="there is no TensorFlow in it")
    gpu = bool(it.gpu_build and it.distribution not in _WITHOUT_GPU and (it.cuda or it.cudnn))
    nearest = _nearest(it.tensorflow, gpu=gpu)
    tested, reason = _tested(it, gpu=gpu)
    return Judgement(
        tested=tested,
        reason=reason,
        nearest="" if nearest is None else described(nearest),
        conflicts=_conflicts(it) if gpu else (),
    )


def _tested(it: Combination, *, gpu: bool) -> tuple[Tested, str]:
    """The answer and the reason."""
    row = build_of(it.tensorflow, gpu=gpu)
    if it.distribution in _OF_OTHERS:
        return "unknown", f"{it.distribution} is not a build of the TensorFlow project"
    if not release_series(it.tensorflow):
        return "unknown", f"TensorFlow {it.tensorflow} is not a release of the TensorFlow project"
    if row is None:
        return "unknown", f"no tested configuration of TensorFlow {series(it.tensorflow)} is known"
    wrong, missing = _compared(it, row, gpu=gpu)
    if wrong:
        allowed = f"; the extra and-cuda of {it.tensorflow} allows it" if gpu and _allowed(it) else ""
        return "no", "; ".join(wrong) + allowed
    return ("unknown", "; ".join(missing)) if missing else ("yes", f"{described(row)} is a tested configuration")


def _compared(it: Combination, row: TestedBuild, *, gpu: bool) -> tuple[list[str], list[str]]:
    """What differs from the configuration, and what the image does not say."""
    wrong, missing = [], []
    if not series(it.python):
        missing.append("the version of Python is not known")
    elif series(it.python) not in row.python:
        wrong.append(f"Python {series(it.python)} is not one of {ranged(row.python)}")
    if not gpu:
        return wrong, missing
    if series(it.built_for_cuda) not in {"", row.cuda}:
        wrong.append(
            f"this TensorFlow was built for CUDA {series(it.built_for_cuda)}, the published one for {row.cuda}"
        )
    for name, found, tested in (("CUDA", it.cuda, row.cuda), ("cuDNN", it.cudnn, row.cudnn)):
        if not found:
            wrong.append(f"{name} {tested} is not there")
        elif numbers(found)[:2] == numbers(tested)[:2]:
            continue
        elif series(found) or major(found) != major(tested):
            wrong.append(f"{name} {series(found) or found} is not {tested}")
        else:
            missing.append(f"which {name} {found} it is, is not known")
    return wrong, missing


def _allowed(it: Combination) -> bool:
    """Whether it is the published wheel on a Python that it runs on, and its extra `and-cuda` asks for nothing else."""
    wheel = wheel_of(it.tensorflow)
    if wheel is None or series(it.python) not in wheel.python or it.built_for_cuda not in {"", wheel.cuda}:
        return False
    for name, found in (("nvidia-cuda-runtime-cu", it.cuda), ("nvidia-cudnn-cu", it.cudnn)):
        asked = next((text for package, text in wheel.and_cuda.items() if package.startswith(name)), None)
        if asked is None or not numbers(found) or not SpecifierSet(asked).contains(".".join(map(str, numbers(found)))):
            return False
    return True


def _conflicts(it: Combination) -> tuple[str, ...]:
    """A library is loaded by a name that holds its major version, so one of another major version is never found."""
    found = []
    published = build_of(it.tensorflow, gpu=True)
    for name, have, wanted in (
        ("CUDA", it.cuda, it.built_for_cuda or (published.cuda if published else "")),
        ("cuDNN", it.cudnn, it.built_for_cudnn or (published.cudnn if published else "")),
    ):
        if have and wanted and major(have) != major(wanted):
            found.append(f"TensorFlow loads {name} {major(wanted)}, the image has {name} {have}")
    if it.cuda and it.cudnn and cudas.cudnn_fits(it.cudnn, it.cuda) is False:
        found.append(f"cuDNN {series(it.cudnn)} was not published for CUDA {major(it.cuda)}")
    return tuple(found)


def _nearest(version: str, *, gpu: bool) -> TestedBuild | None:
    """The configuration of that minor release, else of the next older one, else the oldest."""
    if not numbers(version):
        return None
    older = (one for one in builds(gpu=gpu) if numbers(one.release)[:2] <= numbers(version)[:2])
    return next(older, builds(gpu=gpu)[-1])
