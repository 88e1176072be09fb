"""The name of an image, as manifests write it."""

import re

_MOVING = frozenset({"latest", "nightly", "devel", "edge", "main", "master", "stable"})
_UNSET = re.compile(
    r"[${<\[(%]|^(?:controller|image|img|place[-_]?holder|manager)(?::|$)|REPLACE|PLACE[-_]?HOLDER|TODO|IMAGE|YOUR"
)
_NAMED = re.compile(r"(?:[A-Za-z0-9.-]+(?::[0-9]+)?/)?[a-z0-9]+(?:[._/-]+[a-z0-9]+)*")
"""A registry and what it calls a repository, which has small letters only; anything else is filled in later."""
_SERVING = re.compile(r"(?:^|/)(?:tensorflow[-/_]serving|tf[-_]?serving)(?:[-_][a-z]+)*$")


class Image:
    """`[REGISTRY/]REPOSITORY[:TAG][@DIGEST]`, in its parts."""

    def __init__(self, text: str) -> None:
        self.text = text.strip()
        name, _, self.digest = self.text.partition("@")
        slash = name.rfind("/")
        self.repository, self.tag = name, ""
        if ":" in name[slash + 1 :]:
            self.repository, _, self.tag = name.rpartition(":")

    @property
    def known(self) -> bool:
        """Whether it names an image, not something that is filled in later."""
        return _NAMED.fullmatch(self.repository) is not None and _UNSET.search(self.text) is None

    @property
    def moves(self) -> bool:
        """Whether its tag is one that is set anew with each release; also no tag at all."""
        return not self.digest and re.split(r"[-_.]", self.tag or "latest")[0].lower() in _MOVING

    @property
    def serving(self) -> bool:
        """Whether it is TensorFlow Serving, by its name."""
        return _SERVING.search(self.repository.lower()) is not None

    @property
    def tensorflow(self) -> bool:
        """Whether it is one of TensorFlow's own images, or a mirror's copy."""
        return self.repository.endswith(("tensorflow/tensorflow", "tensorflow/serving"))

    @property
    def for_gpu(self) -> bool:
        """Whether one of TensorFlow's own tags says that it can use a GPU."""
        return "gpu" in self.tag
