"""Decisions once for each class of images: what a Rego package answers is worked out once for all that it may read.

A package answers from the policy input and from nothing else: rules have no clock, no network, no memory. So its answer
is the same for two documents that agree in every part of `input` that its rules can mention. What they can mention is
read off their text: outside of comments and strings every use of the input begins with the word `input`, and a path
that is written behind it bounds what is read.
"""

from collections import OrderedDict
from collections.abc import Collection

import msgspec

from tidewaiter.core import limits
from tidewaiter.oci.digest import Digest, of
from tidewaiter.policy.engine import Engine, Evaluation, PackageAnswer
from tidewaiter.policy.input import PackagesInput, PolicyInput
from tidewaiter.policy.mentions import Path, begins, by_package, mentions
from tidewaiter.policy.pack import Pack

_EMPTY: dict[str, object] = {
    "packages": PackagesInput(python={}, deb={}, licenses={}),
    **dict.fromkeys(("programs", "exposed", "findings", "not_checked", "suppressed"), ()),
}
"""The large fields of the input, as they are asked about where nobody reads them."""


def paths_read(pack: Pack) -> dict[str, frozenset[Path]]:
    """What each Rego package of `pack` may read of the input, with the packages that it refers to; `()` is all of it.

    A module whose package is not plainly written counts for every package.
    """
    said = {name: mentions(some) for name, some in by_package(pack.modules).items()}
    found = {}
    for name in said:
        reached, waiting = {name}, [name]
        while waiting:
            data = said[waiting.pop()].data
            for other in said.keys() - reached:
                if not other or any(begins(path, tuple(other.split("."))) for path in data):
                    reached.add(other)
                    waiting.append(other)
        found[name] = frozenset[Path]().union(*(said[one].reads for one in reached))
    return found


class ClassEngine:
    """An engine that asks `engine` only what it has not answered for the same parts of the input.

    Answers that failed are asked for again. One thread at a time.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._paths = paths_read(engine.pack)
        self._answers: OrderedDict[tuple[str, Digest], PackageAnswer] = OrderedDict()
        self._names: frozenset[str] | None = None
        self.asked = 0
        """Documents that `engine` evaluated."""

    @property
    def pack(self) -> Pack:
        """The pack of the engine."""
        return self._engine.pack

    def evaluate(self, document: PolicyInput) -> Evaluation:
        """As the engine; what it answers for a document depends on nothing but the document."""
        if self._names is None:
            return self._ask(document, None, {})
        keys = self._keys(document, self._names)
        known = {name: self._answers[name, key] for name, key in keys.items() if (name, key) in self._answers}
        missing = self._names - known.keys()
        return self._ask(document, missing, known) if missing else Evaluation(known)

    def _ask(
        self, document: PolicyInput, wanted: Collection[str] | None, known: dict[str, PackageAnswer]
    ) -> Evaluation:
        """Let the engine answer for the packages `wanted`, None for all; the rest is `known`."""
        self.asked += 1
        found = self._engine.evaluate(document if wanted is None else self._reduced(document, wanted))
        if found.failure:
            return found
        if wanted is None:
            self._names = frozenset(found.packages)
        fresh = {name: answer for name, answer in found.packages.items() if wanted is None or name in wanted}
        for name, key in self._keys(document, fresh).items():
            if not fresh[name].error:
                self._answers[name, key] = fresh[name]
        while len(self._answers) > limits.POLICY_CLASSES:
            self._answers.popitem(last=False)
        return Evaluation({**known, **fresh})

    def _paths_of(self, package: str) -> frozenset[Path]:
        return self._paths.get(package, frozenset({()}))

    def _reduced(self, document: PolicyInput, wanted: Collection[str]) -> PolicyInput:
        """The document without the large fields that none of the packages reads."""
        read = {path[:1] for name in wanted for path in self._paths_of(name)}
        if () in read:
            return document
        return msgspec.structs.replace(
            document, **{name: empty for name, empty in _EMPTY.items() if (name,) not in read}
        )

    def _keys(self, document: PolicyInput, packages: Collection[str]) -> dict[str, Digest]:
        """What the packages may read of the document, by digest."""
        parts: dict[Path, bytes] = {}
        keys = {}
        for name in packages:
            paths = sorted(self._paths_of(name))
            for path in paths:
                if path not in parts:
                    parts[path] = _encoded(document, path)
            keys[name] = of(b"\n".join(b"%s %s" % (".".join(path).encode(), parts[path]) for path in paths))
        return keys


def _encoded(document: PolicyInput, path: Path) -> bytes:
    """The value at `path`; of a path that leads below a field that is no object, the whole field."""
    value: object = document
    for name in path:
        if not isinstance(value, msgspec.Struct):
            break
        if name not in value.__struct_fields__:
            return b"nothing"
        value = getattr(value, name)
    return msgspec.json.encode(value, order="deterministic")
