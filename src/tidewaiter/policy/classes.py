"""Decisions once for each class of images: what a Rego package answers is worked out once for all that it may read.

A package answers from the policy input and from nothing else: rules have no clock, no network, no memory. So its answer
is the same for two documents that agree in every part of `input` that its rules can mention. What they can mention is
read off their text: outside of comments and strings every use of the input begins with the word `input`, and a path
that is written behind it bounds what is read.
"""

from collections import OrderedDict
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import NamedTuple, Protocol, Self, TypeVar

import msgspec

from tidewaiter.core import limits
from tidewaiter.oci.digest import Digest, of
from tidewaiter.policy.engine import Evaluation, PackageAnswer, PartEngine
from tidewaiter.policy.input import DocumentInput, PackagesInput, PolicyInput
from tidewaiter.policy.mentions import Needs, Path, begins, by_package, mentions
from tidewaiter.policy.pack import Pack

_EMPTY: dict[str, object] = {
    "packages": PackagesInput(python={}, deb={}, licenses={}),
    **dict.fromkeys(("programs", "exposed", "findings", "not_checked", "suppressed"), ()),
}
"""The large fields of the input, as they are asked about where nobody reads them."""
_WHOLE: tuple[tuple[Path, bytes], ...] = (((), b""),)
_PLAIN = (str, bool, DocumentInput)
"""Types whose values are written alike when they are equal; of numbers, 0.0 and -0.0 are not."""
_AT_ONCE = 500
"""Answers that wait to be kept."""
_TOGETHER = 50
"""Questions that are asked before it is seen that one failed."""
_ASKING = 2
"""Questions at once: one is evaluated while another is written, or its answer read."""


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


class Memory(Protocol):
    """Where answers outlive the process, by key."""

    def recall(self, keys: Collection[Digest]) -> Mapping[Digest, bytes]:
        """What is kept under `keys`."""

    def keep(self, answers: Mapping[Digest, bytes]) -> None:
        """Keep `answers`; they may be lost."""


class ClassEngine:
    """An engine that asks `engine` only what it has not answered for the same parts of the input.

    Answers that failed are asked for again. One thread at a time; use as a context manager, so that `memory` gets what
    was learned last.

    Args:
        engine: answers what is not known.
        memory: holds answers of other processes.
        name: of the program that answers, with everything beside pack and input that an answer may depend on.
    """

    def __init__(self, engine: PartEngine, memory: Memory | None = None, *, name: str = "") -> None:
        self._engine = engine
        self._memory = memory
        self._name = f"{name}\n{engine.pack.revision}\n"
        self._paths = paths_read(engine.pack)
        self._sorted = {
            package: [(path, ".".join(path).encode()) for path in sorted(paths)]
            for package, paths in self._paths.items()
        }
        # What reads the time is another question in a second, which nobody asks again.
        self._lasting = {
            name for name, paths in self._paths.items() if not any(begins(path, ("now",)) for path in paths)
        }
        self._needs = Needs(engine.pack)
        self._answers: OrderedDict[Digest, PackageAnswer] = OrderedDict()
        # Answers that read alike are one object, and so are evaluations of the same answers.
        self._alike: dict[bytes, PackageAnswer] = {}
        self._evaluations: dict[tuple[int, ...], Evaluation] = {}
        self._fresh: dict[Digest, bytes] = {}
        self._names: frozenset[str] | None = None
        self._prepared: dict[int, _Prepared] = {}
        self._unknown: set[Digest] = set()
        # Of the last document: what images of a class share is the same object in all of them.
        self._packages: tuple[PackagesInput, PackagesInput] | None = None
        self._fields: dict[str, object] = {}
        self._values: dict[Path, object] = {}
        self._parts: dict[Path, bytes] = {}
        self._keyed: dict[str, Digest] = {}
        self._readers: dict[str, dict[Path, list[str]]] = {}
        for package, paths in self._paths.items():
            for path in paths:
                self._readers.setdefault(path[0] if path else "", {}).setdefault(path, []).append(package)
        self.asked = 0
        """Documents that `engine` evaluated."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.keep()

    def keep(self) -> None:
        """Let `memory` have what was learned. Raises what it raises."""
        if self._memory is not None and self._fresh:
            self._memory.keep(self._fresh)
        self._fresh = {}

    @property
    def pack(self) -> Pack:
        """The pack of the engine."""
        return self._engine.pack

    def evaluate(self, document: PolicyInput) -> Evaluation:
        """As the engine; what it answers for a document depends on nothing but the document."""
        names = self._package_names()
        prepared = self._prepared.pop(id(document), None)
        document = prepared.needed if prepared else self._needed(document)
        if names is None:
            return self._ask(document, None, {})
        keys = prepared.named if prepared else self._keys(document, names)
        known = self._known(keys)
        missing = names - known.keys()
        return self._ask(document, missing, known) if missing else self._evaluation(known)

    def _evaluation(self, known: dict[str, PackageAnswer]) -> Evaluation:
        which = tuple([id(answer) for answer in known.values()])
        found = self._evaluations.get(which)
        if found is None:
            if len(self._evaluations) >= limits.POLICY_CLASSES:
                self._evaluations.clear()
            # It holds its answers, so that no other object gets their ids.
            found = self._evaluations[which] = Evaluation(known)
        return found

    def prepare(self, documents: Sequence[PolicyInput]) -> None:
        """Fetch what `memory` knows about the documents, and ask the engine for the rest, many at a time.

        They are evaluated as without this; what fails here is asked for again then.
        """
        if self._package_names() is None and documents:
            self.evaluate(documents[0])
        names = self._names
        if names is None:
            return
        self._prepared.clear()
        for one in documents:
            needed = self._needed(one)
            self._prepared[id(one)] = _Prepared(one, needed, self._keys(needed, names))
        wanted = {key for one in self._prepared.values() for key in one.named.values()}
        if self._memory is not None:
            missing = sorted(wanted - self._answers.keys())
            for start in range(0, len(missing), _AT_ONCE):
                self._take_in(self._memory.recall(missing[start : start + _AT_ONCE]))
        # What others learn from now on is not missed: it would only be looked up once more for each class.
        self._unknown = wanted - self._answers.keys()
        self._learn_missing()

    def _learn_missing(self) -> None:
        """Ask for what nobody answered about the prepared documents, until something fails."""
        waiting = islice(self._missing(), limits.POLICY_CLASSES // 2)  # others are not to be forgotten for them
        with ThreadPoolExecutor(_ASKING) as askers:
            while some := list(islice(waiting, _TOGETHER)):
                # The engine starts with the first question, which nobody may ask beside another one.
                found = [self._engine.evaluate(*some[0].asked)] if not self.asked else []
                found += askers.map(lambda one: self._engine.evaluate(*one.asked), some[len(found) :])
                self.asked += len(some)
                for one, evaluation in zip(some, found, strict=True):
                    if evaluation.failure:
                        return
                    fresh = {name: answer for name, answer in evaluation.packages.items() if name in one.keys}
                    if not self._take(fresh, one.keys):
                        return

    def _missing(self) -> Iterator["_Missing"]:
        """Each question once, whatever the number of documents that wait for its answer."""
        asked: set[Digest] = set()
        for one in self._prepared.values():
            keys = {name: key for name, key in one.named.items() if key in self._unknown and key not in asked}
            if keys:
                asked.update(keys.values())
                yield _Missing(keys, (self._reduced(one.needed, keys), keys.keys()))

    def _take_in(self, stored: Mapping[Digest, bytes]) -> None:
        for key, text in stored.items():
            answer = self._alike.get(text) or _decoded(text, PackageAnswer)
            if answer is not None and not answer.error:
                self._learn(key, answer, text)

    def _needed(self, document: PolicyInput) -> PolicyInput:
        found = self._needs.of(document)
        if self._packages is None or self._packages[0] is not document.packages:
            self._packages = document.packages, found.packages
        return msgspec.structs.replace(found, packages=self._packages[1])

    def _package_names(self) -> frozenset[str] | None:
        """Packages that give results; None when the engine has not said it yet."""
        if self._names is None and self._memory is not None:
            key = self._names_key()
            stored = self._memory.recall([key]).get(key)
            self._names = None if stored is None else _decoded(stored, frozenset[str])
        return self._names

    def _names_key(self) -> Digest:
        return of(self._name.encode())

    def _known(self, keys: Mapping[str, Digest]) -> dict[str, PackageAnswer]:
        """The answers under `keys`, by package."""
        missing = [key for key in keys.values() if key not in self._answers and key not in self._unknown]
        if missing and self._memory is not None:
            self._take_in(self._memory.recall(missing))
        return {name: self._answers[key] for name, key in keys.items() if key in self._answers}

    def _learn(self, key: Digest, answer: PackageAnswer, encoded: bytes) -> None:
        if len(self._alike) >= limits.POLICY_CLASSES:
            self._alike.clear()
        self._answers[key] = self._alike.setdefault(encoded, answer)
        while len(self._answers) > limits.POLICY_CLASSES:
            self._answers.popitem(last=False)

    def _ask(
        self, document: PolicyInput, wanted: Collection[str] | None, known: dict[str, PackageAnswer]
    ) -> Evaluation:
        """Let the engine answer for the packages `wanted`, None for all; the rest is `known`."""
        self.asked += 1
        found = self._engine.evaluate(document if wanted is None else self._reduced(document, wanted), wanted)
        if found.failure:
            return found
        if wanted is None:
            self._names = frozenset(found.packages)
            self._fresh[self._names_key()] = msgspec.json.encode(sorted(self._names))
        fresh = {name: answer for name, answer in found.packages.items() if wanted is None or name in wanted}
        self._take(fresh, self._keys(document, fresh))
        return Evaluation({**known, **fresh})

    def _take(self, fresh: Mapping[str, PackageAnswer], keys: Mapping[str, Digest]) -> bool:
        """Learn what packages answered just now; whether all of `keys` have an answer that is no error."""
        known = 0
        for name, answer in fresh.items():
            if not answer.error:
                known += 1
                encoded = msgspec.json.encode(answer)
                self._learn(keys[name], answer, encoded)
                if name in self._lasting and len(encoded) <= limits.POLICY_DECISION_BYTES:
                    self._fresh[keys[name]] = encoded
        if len(self._fresh) >= _AT_ONCE:
            self.keep()
        return known == len(keys)

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
        self._look_at(document)
        return {name: self._keyed.get(name) or self._key(document, name) for name in packages}

    def _look_at(self, document: PolicyInput) -> None:
        """Forget the keys of the last document whose packages may read something else in this one."""
        for field, readers in self._readers.items():
            value = getattr(document, field, None) if field else document
            if field in self._fields and self._fields[field] is value:
                continue
            self._fields[field] = value
            for path, packages in readers.items():
                found = _value(document, path)
                before = self._values.get(path)
                kind = type(found)
                if kind is type(before) and (before == found if kind in _PLAIN else _are_empty(before, found)):
                    continue
                self._values[path] = found
                data = _encode(found)
                if self._parts.get(path) != data:
                    self._parts[path] = data
                    for name in packages:
                        self._keyed.pop(name, None)

    def _key(self, document: PolicyInput, package: str) -> Digest:
        parts = (
            b"%s %s" % (name, self._parts.get(path) or _encode(_value(document, path)))
            for path, name in self._sorted.get(package, _WHOLE)
        )
        key = of(b"%s%s\n%s" % (self._name.encode(), package.encode(), b"\n".join(parts)))
        if package in self._paths:  # of others nobody forgets it
            self._keyed[package] = key
        return key


class _Prepared(NamedTuple):
    """A document that will be asked about, what rules can read of it, and that by digest."""

    document: PolicyInput
    needed: PolicyInput
    named: Mapping[str, Digest]


class _Missing(NamedTuple):
    """A question that nobody answered: what packages read, by digest, and what the engine is asked."""

    keys: Mapping[str, Digest]
    asked: tuple[PolicyInput, Collection[str]]


_T = TypeVar("_T")
_NOTHING = object()
"""The value of a field that the input has not."""


def _value(document: PolicyInput, path: Path) -> object:
    """The value at `path`; of a path that leads below a field that is no object, the whole field."""
    value: object = document
    for name in path:
        if not isinstance(value, msgspec.Struct):
            break
        if name not in value.__struct_fields__:
            return _NOTHING
        value = getattr(value, name)
    return value


def _are_empty(one: object, other: object) -> bool:
    """Whether both, which are of one type, are containers without anything in them; they are written alike then."""
    return isinstance(one, dict | tuple) and not one and not other


def _encode(value: object) -> bytes:
    return b"nothing" if value is _NOTHING else msgspec.json.encode(value, order="deterministic")


def _decoded(stored: bytes, kind: type[_T]) -> _T | None:
    """What is kept, or None when another program kept something else."""
    try:
        return msgspec.json.decode(stored, type=kind)
    except (ValueError, RecursionError):
        return None
