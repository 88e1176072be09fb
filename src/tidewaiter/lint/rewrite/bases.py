"""What is known of images by their names alone."""

import re

_ROOT = re.compile(
    r"(?:docker\.io/)?(?:library/)?(?:python|debian|ubuntu|golang|node)(?:[:@].*)?"
    r"|(?:docker\.io/)?(?:nvidia/cuda|tensorflow/tensorflow|pytorch/pytorch|continuumio/(?:mini|ana)conda3)(?:[:@].*)?"
    r"|nvcr\.io/nvidia/(?:cuda|tensorflow|pytorch)(?:[:@].*)?"
)
_PYTHON = re.compile(r"(?:docker\.io/)?(?:library/)?python(?::(?!.*(?:alpine|windows)).*)?(?:@.*)?")


def runs_as_root(image: str) -> bool:
    """Whether the image is known to run as root, and to need it for nothing."""
    return _ROOT.fullmatch(image) is not None


def is_python(image: str) -> bool:
    """Whether it is an official Python image on Debian, where pip installs to /usr/local."""
    return _PYTHON.fullmatch(image) is not None
