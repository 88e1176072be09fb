"""What is known of published images."""

import pytest
from packaging.version import Version

from tidewaiter.frameworks import images, tables


@pytest.mark.parametrize(
    ("repository", "tag", "instead"),
    [
        ("tensorflow/tensorflow", "2.13.0-gpu-cuda11.8", "2.13.0-gpu"),
        ("tensorflow/tensorflow", "2.13.0-cpu", "2.13.0"),
        ("tensorflow/tensorflow", "2.15.1-gpu-jupyter", "2.15.0-gpu-jupyter"),
        ("tensorflow/tensorflow", "2.13.7", "2.13.0"),
        ("tensorflow/serving", "serving-2.13.0", "2.13.0"),
        ("tensorflow/serving", "serving-2.13.0-gpu", "2.13.0-gpu"),
    ],
)
def test_tags_that_were_never_published(repository: str, tag: str, instead: str) -> None:
    """They are named with a reason, and the nearest that was published."""
    assert images.why_unpublished(repository, tag)
    assert images.nearest(repository, tag) == instead
    assert not images.why_unpublished(repository, instead)


@pytest.mark.parametrize(
    ("repository", "tag"),
    [
        ("tensorflow/tensorflow", "2.15.0-gpu-jupyter"),
        ("tensorflow/tensorflow", "2.15.0.post1-gpu"),
        ("tensorflow/tensorflow", "latest-gpu"),
        ("tensorflow/tensorflow", "nightly-jupyter"),
        ("tensorflow/tensorflow", "2.19.1"),
        ("tensorflow/tensorflow", "2.99.0-gpu"),
        ("tensorflow/tensorflow", "1.15.5-gpu-py3"),
        ("tensorflow/tensorflow", "2.2.0rc2-gpu-py3"),
        ("tensorflow/serving", "2.15.0"),
        ("pytorch/pytorch", "2.13.0-cuda12.6"),
    ],
)
def test_nothing_is_said_of_what_nobody_is_sure_of(repository: str, tag: str) -> None:
    """Tags that exist, that are newer or older than the tables, and those of others."""
    assert images.why_unpublished(repository, tag) == ""


def test_names_of_the_official_repositories() -> None:
    """Docker Hub has several addresses; a mirror is not official."""
    assert images.repository_of("docker.io/tensorflow/serving") == "tensorflow/serving"
    assert images.repository_of("tensorflow/tensorflow") == "tensorflow/tensorflow"
    assert images.repository_of("registry.example/tensorflow/tensorflow") == ""


def test_contents_of_images() -> None:
    """What the Dockerfiles of the day installed; nothing beside a plain CPU image but Python."""
    assert images.contents("tensorflow/tensorflow", "2.14.0-gpu") == images.Contents(
        python="3.11", cuda="11.8", cudnn="8.6"
    )
    plain = images.contents("tensorflow/tensorflow", "2.16.1")
    assert plain is not None
    assert (plain.python, plain.cuda, plain.user) == ("3.11", "", "root")
    served = images.contents("tensorflow/serving", "2.20.0-gpu")
    assert served is not None
    assert (served.cuda, served.cudnn) == ("12.5", "9.3")
    assert images.contents("tensorflow/tensorflow", "latest") is None


def test_gpu_images_without_the_cudnn_that_is_loaded() -> None:
    """From 2.18 on TensorFlow loads cuDNN 9, and the images have 8."""
    assert images.lacks_cudnn("2.18.0-gpu")
    assert images.lacks_cudnn("2.21.0-gpu-jupyter")
    assert not images.lacks_cudnn("2.17.0-gpu")
    assert not images.lacks_cudnn("2.18.0")
    assert not images.lacks_cudnn("latest-gpu")


def test_rows_are_consistent() -> None:
    """Every image names a state that is there; releases of the server are in order."""
    here = tables.images()
    assert {one.day for one in here.image} <= {one.day for one in here.state}
    assert list(here.serving_release) == sorted(here.serving_release, key=Version)
    addresses = [one.url for one in here.unpublished] + [one.url for one in here.source]
    assert all(one.startswith("https://") for one in addresses)
