from typing import Any

import msgspec
import pytest

from tidewaiter.frameworks import tensorflow
from tidewaiter.frameworks.tensorflow import Combination, judge
from tidewaiter.frameworks.versions import series

GPU = Combination(
    tensorflow="2.18.1",
    python="3.11.9",
    cuda="12.5.82",
    cudnn="9.3.0.75",
    built_for_cuda="12.5.1",
    built_for_cudnn="9",
)
CPU = Combination(tensorflow="2.15.0.post1", python="3.10", cuda="", cudnn="")


def changed(it: Combination, **changes: Any) -> Combination:
    return msgspec.structs.replace(it, **changes)


def test_tested_combinations() -> None:
    """What the TensorFlow project lists is tested, patch releases included."""
    found = judge(GPU)
    assert (found.tested, found.conflicts) == ("yes", ())
    assert found.nearest == "TensorFlow 2.18 with Python 3.9-3.12, CUDA 12.5 and cuDNN 9.3"
    assert judge(CPU).reason == "TensorFlow 2.15 with Python 3.9-3.11 is a tested configuration"


def test_every_row_is_tested_by_itself() -> None:
    """Each configuration, taken as an image, is a tested one without conflict."""
    for gpu in (True, False):
        for row in tensorflow.builds(gpu=gpu):
            for python in row.python:
                found = judge(Combination(tensorflow=row.release, python=python, cuda=row.cuda, cudnn=row.cudnn))
                assert (found.tested, found.conflicts) == ("yes", ()), row


@pytest.mark.parametrize(
    ("it", "reason"),
    [
        (changed(CPU, python="3.12.1"), "Python 3.12 is not one of 3.9-3.11"),
        (changed(GPU, cuda="12.4.127"), "CUDA 12.4 is not 12.5"),
        (changed(GPU, cudnn=""), "cuDNN 9.3 is not there"),
        (changed(GPU, cuda="11"), "CUDA 11 is not 12.5"),
        (
            changed(GPU, built_for_cuda="12.8.0"),
            "this TensorFlow was built for CUDA 12.8, the published one for 12.5",
        ),
        (changed(GPU, python="3.13", cudnn="8.9.7"), "Python 3.13 is not one of 3.9-3.12; cuDNN 8.9 is not 9.3"),
        (
            changed(GPU, tensorflow="2.20.0", cuda="12.9.79", cudnn="9.10.2.21"),
            "CUDA 12.9 is not 12.5; cuDNN 9.10 is not 9.3; the extra and-cuda of 2.20.0 allows it",
        ),
        (
            changed(GPU, tensorflow="2.20.0", cuda="12.9.79", cudnn="9.10.2.21", python="3.14"),
            "Python 3.14 is not one of 3.9-3.13; CUDA 12.9 is not 12.5; cuDNN 9.10 is not 9.3",
        ),
    ],
)
def test_what_differs_is_named(it: Combination, reason: str) -> None:
    """A known difference is a no, with all that differs; what TensorFlow's own requirements allow is said."""
    found = judge(it)
    assert (found.tested, found.reason) == ("no", reason)
    assert found.nearest


@pytest.mark.parametrize(
    ("it", "reason"),
    [
        (changed(GPU, cuda="12"), "which CUDA 12 it is, is not known"),
        (changed(CPU, python=""), "the version of Python is not known"),
        (changed(CPU, tensorflow="2.99.0"), "no tested configuration of TensorFlow 2.99 is known"),
        (changed(CPU, tensorflow="2.16.0rc0"), "TensorFlow 2.16.0rc0 is not a release of the TensorFlow project"),
        (changed(CPU, tensorflow="2"), "TensorFlow 2 is not a release of the TensorFlow project"),
        (changed(CPU, tensorflow=""), "there is no TensorFlow in it"),
        (
            changed(CPU, distribution="intel-tensorflow"),
            "intel-tensorflow is not a build of the TensorFlow project",
        ),
    ],
)
def test_what_is_not_known_is_neither_yes_nor_no(it: Combination, reason: str) -> None:
    """Missing parts, pre-releases, builds of others and new releases are unknown."""
    found = judge(it)
    assert (found.tested, found.reason) == ("unknown", reason)


@pytest.mark.parametrize(
    "changes", [{"gpu_build": False}, {"distribution": "tensorflow-cpu"}, {"cuda": "", "cudnn": ""}]
)
def test_cuda_does_not_matter_to_a_build_without_it(changes: dict[str, Any]) -> None:
    """A build without CUDA, or an image without CUDA, is judged as one for the CPU."""
    found = judge(changed(changed(GPU, cuda="11.8", cudnn="8.6"), **changes))
    assert (found.tested, found.conflicts) == ("yes", ())


def test_conflicts_are_about_what_is_loaded() -> None:
    """Libraries of another major version are never found; without build information the table says which."""
    found = judge(changed(GPU, cuda="11.8.89", cudnn="8.7.0.84"))
    assert found.conflicts == (
        "TensorFlow loads CUDA 12, the image has CUDA 11.8.89",
        "TensorFlow loads cuDNN 9, the image has cuDNN 8.7.0.84",
    )
    bare = changed(GPU, cuda="11.8.89", built_for_cuda="", built_for_cudnn="")
    assert judge(bare).conflicts == ("TensorFlow loads CUDA 12, the image has CUDA 11.8.89",)
    mixed = changed(GPU, tensorflow="2.15.0", cuda="12.2.140", cudnn="8.7.0.84", built_for_cuda="", built_for_cudnn="")
    assert judge(mixed).conflicts == ("cuDNN 8.7 was not published for CUDA 12",)
    assert judge(changed(GPU, cuda="12.9")).conflicts == ()


@pytest.mark.parametrize(
    ("version", "nearest"),
    [("2.99.0", "2.21"), ("2.15.1", "2.15"), ("1.15.0", "2.0"), ("2.16.0rc0", "2.16"), ("3.0.0", "2.21")],
)
def test_nearest_is_the_same_release_or_the_next_older(version: str, nearest: str) -> None:
    """There is a nearest combination for every version."""
    assert judge(changed(CPU, tensorflow=version)).nearest.startswith(f"TensorFlow {nearest} with Python ")
    assert judge(changed(CPU, tensorflow="nightly")).nearest == ""


def test_configurations_for_a_driver() -> None:
    """A driver 525 runs CUDA 12 and older, 470 runs CUDA 11; Python narrows it down."""
    newest = tensorflow.builds(gpu=True)[0]
    assert tensorflow.for_driver("525.60.13")[0] == newest
    old = tensorflow.for_driver("470.82.01", python="3.11")
    assert [series(one.release) for one in old] == ["2.14", "2.13", "2.12"]
    assert tensorflow.for_driver("390.46") == ()
    assert tensorflow.for_driver("") == ()


def test_wheels_of_a_release() -> None:
    """What a release's wheels are built for and ask for, and nothing for a release that has none."""
    wheel = tensorflow.wheel_of("2.15.0")
    assert wheel is not None
    assert (wheel.cuda, wheel.cudnn, wheel.python) == ("12.2", "8", ("3.9", "3.10", "3.11"))
    assert wheel.and_cuda["nvidia-cudnn-cu12"] == "==8.9.4.25"
    assert "tensorrt" in wheel.and_cuda
    patched = tensorflow.wheel_of("2.15.1")
    assert patched is not None
    assert "tensorrt" not in patched.and_cuda
    assert tensorflow.wheel_of("2.15.9") is None
