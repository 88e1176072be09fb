"""`TF_CONFIG`, the variable that tells TensorFlow's distribution strategies who else is there."""

import json
import re
from collections.abc import Iterator
from functools import cached_property
from typing import Any, NamedTuple

from tidewaiter.lint.finding import Span
from tidewaiter.lint.kubernetes.parse import Container, Manifest
from tidewaiter.lint.tree import Scalar

_ADDRESS = re.compile(r"(?P<host>[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9a-fA-F:]+\]):(?P<port>[0-9]{1,5})")


class Address(NamedTuple):
    """One process of the cluster."""

    task: str
    number: int
    text: str

    @property
    def host(self) -> str:
        found = _ADDRESS.fullmatch(self.text)
        return found["host"].lower() if found else ""

    @property
    def port(self) -> int:
        found = _ADDRESS.fullmatch(self.text)
        return int(found["port"]) if found else 0

    @property
    def valid(self) -> bool:
        return 0 < self.port < 65_536


class Config:
    """What one container is given."""

    def __init__(self, container: Container, value: Scalar) -> None:
        self.container = container
        self.value = value

    @cached_property
    def content(self) -> object:
        """The JSON; a ValueError in its place when it is none."""
        try:
            return json.loads(self.value.raw)
        except (ValueError, RecursionError) as error:
            return ValueError(str(error))

    def _part(self, name: str) -> dict[str, Any]:
        found = self.content.get(name) if isinstance(self.content, dict) else None
        return found if isinstance(found, dict) else {}

    @property
    def task(self) -> str:
        found = self._part("task").get("type")
        return found if isinstance(found, str) else ""

    @property
    def index(self) -> int | None:
        """Which of its type it is; None when that is no number, 0 when nothing is said."""
        found = self._part("task").get("index", 0)
        if isinstance(found, bool):
            return None
        return int(found) if isinstance(found, int) or (isinstance(found, str) and found.isdecimal()) else None

    @property
    def cluster(self) -> dict[str, Any]:
        return self._part("cluster")

    @cached_property
    def addresses(self) -> tuple[Address, ...]:
        return tuple(
            Address(task, number, text)
            for task, texts in self.cluster.items()
            if isinstance(texts, list)
            for number, text in enumerate(texts)
            if isinstance(text, str)
        )

    def place(self, word: str) -> Span:
        """Where `word` stands in the value; the value's first line when it is written otherwise."""
        text = self.value.text
        at = text.content.find(word, self.value.start, self.value.end) if word else -1
        if at < 0:
            line, column = text.place(self.value.start)
            return Span(line, column, line, max(len(text.line(line)) + 1, column))
        return Span(*text.place(at), *text.place(at + len(word)))


def configs(manifest: Manifest) -> Iterator[Config]:
    """The TF_CONFIG of every container that writes it out."""
    for container in manifest.containers:
        one = container.env.get("TF_CONFIG")
        value = one.scalar("value") if one is not None else None
        if value is not None and not value.filled_later:
            yield Config(container, value)
