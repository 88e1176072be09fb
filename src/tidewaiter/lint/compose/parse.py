"""The services of a Compose file."""

from functools import cached_property

from tidewaiter.lint import tree
from tidewaiter.lint.finding import Span
from tidewaiter.lint.image import Image
from tidewaiter.lint.text import Text
from tidewaiter.lint.tree import Map, Scalar, Tree


class Service:
    """One service."""

    def __init__(self, key: Scalar, body: Map) -> None:
        self.key = key
        self.name = key.raw
        self.body = body
        self.image = Image(body.string("image"))

    @property
    def span(self) -> Span:
        return self.key.span

    @property
    def built(self) -> bool:
        """Whether its image is built here, so that `image` only names it."""
        return "build" in self.body.entries

    @cached_property
    def environment(self) -> dict[str, tuple[str, Scalar]]:
        """Variables with their values and places, from a map or a list; without those that come from outside."""
        found: dict[str, tuple[str, Scalar]] = {}
        for name, (_, value) in self.body.map("environment").entries.items():
            if isinstance(value, Scalar) and value.value is not None:
                found[name] = (value.raw, value)
        for one in self.body.list("environment"):
            if isinstance(one, Scalar) and "=" in one.raw:
                name, _, text = one.raw.partition("=")
                found[name.strip()] = (text, one)
        return found

    @property
    def words(self) -> list[Scalar]:
        """Its command, when that is a list."""
        return [one for one in self.body.list("command") if isinstance(one, Scalar)]

    @property
    def devices(self) -> list[Map]:
        """The devices that it reserves."""
        return self.body.map("deploy").maps("resources", "reservations", "devices")


class Compose:
    """The services of a file."""

    def __init__(self, read: Tree) -> None:
        self.tree = read
        body = next((one for one in read.documents if isinstance(one, Map)), None)
        self.body = body or Map(read.text, 0, flow=True)
        self.services = tuple(
            Service(key, value) for key, value in self.body.map("services").entries.values() if isinstance(value, Map)
        )


def parse(text: Text) -> Compose:
    """The services of a Compose file.

    Raises:
        InputError: it is no YAML, or over a bound.
    """
    return Compose(tree.read(text))
