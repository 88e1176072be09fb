"""What the rules of a pack can read of the policy input, by their text; an engine is sent nothing else.

Outside of comments and strings every use of the input begins with the word `input`, and a path that is written behind
it bounds what is read. Of the versions of packages less is enough where each use is one of

    input.packages.python["numpy"]

    some NAME in parameters.LIST
    some VERSION in input.packages.python[NAME]

with nothing between the two lines, where `parameters` is an import of data that is nothing else in any module, and LIST
holds strings: then only names that are written there, or stand in LIST, can ever be looked up. Of licences less is
enough where each use is

    some EXPRESSION, NAMES in input.packages.licenses
    some WORD in parameters.LIST
    contains(lower(EXPRESSION), lower(WORD))

since then an expression without any of the words never counts. Whatever is written in another way is read as reading
everything.
"""

import json
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import msgspec

from tidewaiter.policy.input import PolicyInput
from tidewaiter.policy.pack import Module, Pack

Path = tuple[str, ...]
EVERYTHING: frozenset[Path] = frozenset({()})

_NAME = r"[A-Za-z_][A-Za-z0-9_]*"
_PACKAGE = re.compile(rf"(?:[ \t\r\n]|#[^\n]*\n)*package[ \t]+({_NAME}(?:\.{_NAME})*)(?=[ \t\r\n#]|\Z)", re.ASCII)
_TOKEN = re.compile(
    rf"""
      \#[^\n]*
    | \binput\.packages\.(?P<written_in>python|deb)\["(?P<written>[A-Za-z0-9._+-]*)"\]
    | "(?:[^"\\\n]|\\.)*" | `[^`]*`
    | (?P<template>\$["`])
    | \bsome[ ](?P<variable>{_NAME})[ ]in[ ](?P<list>{_NAME}(?:\.{_NAME})+)[ \t]*(?:;|\r?\n)\s*
      (?:some[ ](?!(?P=variable)[ ])(?P<version>{_NAME})[ ]in[ ])?
      input\.packages\.(?P<listed_in>python|deb)\[(?P=variable)\]
    | \bsome[ ](?P<expression>{_NAME}),[ ](?!(?P=expression)[ ])(?P<holders>{_NAME})[ ]in[ ]
      input\.packages\.licenses[ \t]*(?:;|\r?\n)\s*
      some[ ](?!(?:(?P=expression)|(?P=holders))[ ])(?P<wanted>{_NAME})[ ]in[ ](?P<terms>{_NAME}(?:\.{_NAME})+)
      [ \t]*(?:;|\r?\n)\s*contains\(lower\((?P=expression)\),[ ]lower\((?P=wanted)\)\)
      (?=[ \t]*(?:\}}|(?:;|\r?\n)\s*(?!(?:in|with)\b)[A-Za-z_\}}]))
    | (?:(?<=\()|(?<=,[ ])|(?<==[ ]))lower(?=\()
    | \bimport[ ]+data(?P<imported>(?:\.{_NAME})+)(?:[ ]+as[ ]+(?P<alias>{_NAME}))?[ \t]*(?=[\r\n;\#]|\Z)
    | \b(?P<root>input|data)\b(?P<path>(?:\.{_NAME})*)
    | \b(?P<word>{_NAME})(?P<dotted>(?:\.{_NAME})*)
      (?P<defined>(?=(?:\s|\#[^\n]*\n)*(?:[\[({{]|:?=(?!=)|contains\b|if\b)))?
    """,
    re.ASCII | re.VERBOSE,
)
"""What matters of a text: comments and strings are tokens so that nothing in them is taken for anything else.

`lower` behind a bracket, a comma or an equals sign is a call; anywhere else it may be the name of a rule.
"""


_VARIABLES = ("variable", "version", "expression", "holders", "wanted")
"""Groups of `_TOKEN` that hold the name of a variable."""
_LICENSES = "licenses"
_LOWER = "lower"


class Mentions(NamedTuple):
    """What texts may read."""

    inputs: frozenset[Path]
    """Paths below `input`, without those of the next two."""
    written: frozenset[tuple[str, str]]
    """Kind of package, and the name that is looked up."""
    listed: frozenset[tuple[str, str, Path]]
    """Kind of package, or `licenses`, and where the names that are looked up stand: an import of data, the list."""
    data: frozenset[Path]
    words: frozenset[str]
    """Words that stand alone, or may be a rule's."""

    @property
    def reads(self) -> frozenset[Path]:
        """All paths below `input`."""
        kinds = {kind for kind, _ in self.written} | {kind for kind, _, _ in self.listed}
        return self.inputs | {("packages", kind) for kind in kinds}


_ALL = Mentions(EVERYTHING, frozenset(), frozenset(), EVERYTHING, frozenset())


def begins(one: Path, other: Path) -> bool:
    """Whether one of the two paths leads to, or below, the other."""
    return one[: len(other)] == other[: len(one)]


def by_package(modules: Iterable[Module]) -> dict[str, tuple[Module, ...]]:
    """Modules by their package; it is empty where that is not plainly written."""
    found: dict[str, list[Module]] = defaultdict(list)
    for module in modules:
        match = _PACKAGE.match(module.text)
        found[match[1] if match else ""].append(module)
    return {name: tuple(some) for name, some in found.items()}


def mentions(modules: Iterable[Module]) -> Mentions:
    """What the texts of all `modules` may read."""
    each = [_of_module(""), *(_of_module(module.text) for module in modules)]
    return Mentions(*(frozenset().union(*parts) for parts in zip(*each, strict=True)))


def _of_module(text: str) -> Mentions:
    tokens = [match.groupdict() for match in _TOKEN.finditer(text)]
    if any(token["template"] for token in tokens):
        return _ALL
    roots = [(token["root"], _path(token["path"])) for token in tokens if token["root"]]
    imports = {
        (token["alias"] or _path(token["imported"])[-1], _path(token["imported"]))
        for token in tokens
        if token["imported"]
    }
    words = {token[name] for token in tokens for name in _VARIABLES if token[name]}
    words |= {
        token["word"] for token in tokens if token["word"] and (not token["dotted"] or token["defined"] is not None)
    }
    words |= {_LOWER} & {name for name, _ in imports}
    listed = set()
    inputs = {path for root, path in roots if root == "input"}
    looked_up = {(token["listed_in"], token["list"]) for token in tokens if token["listed_in"]}
    looked_up |= {(_LICENSES, token["terms"]) for token in tokens if token["terms"]}
    for kind, where in looked_up:
        first, *rest = where.split(".")
        paths = [path for name, path in imports if name == first]
        if len(paths) == 1 and first != "data":
            listed.add((kind, first, (*paths[0], *rest)))
        else:
            inputs.add(("packages", kind))
    return Mentions(
        inputs=frozenset(inputs),
        written=frozenset((token["written_in"], token["written"]) for token in tokens if token["written_in"]),
        listed=frozenset(listed),
        data=frozenset(path for root, path in roots if root == "data") | {path for _, path in imports},
        words=frozenset(words),
    )


def _path(text: str) -> Path:
    return tuple(text.split(".")[1:])


_KINDS = ("python", "deb")
_LARGE: dict[str, dict[str, object]] = {
    "": dict.fromkeys(("programs", "exposed", "findings", "not_checked", "suppressed"), ()),
    "image": {"entrypoint": (), "cmd": (), "exposed_ports": (), "labels": {}, "annotations": {}},
    "packages": {"python": {}, "deb": {}, "licenses": {}},
}
"""Fields that may be large, by the field that they are in, as they are where no rule reads them."""


class Needs:
    """What an engine has to be told of a document, so that the rules of `pack` answer as if they were told all."""

    def __init__(self, pack: Pack) -> None:
        modules = by_package(pack.modules)
        said = mentions(pack.modules)
        read = EVERYTHING if "" in modules or "with" in said.words else said.inputs
        self._names: dict[str, tuple[str, ...]] = {}
        for kind in _KINDS:
            names = _names(kind, pack, said, modules)
            if names is None:
                read |= {("packages", kind)}
            else:
                self._names[kind] = tuple(sorted(names))
        words = _names(_LICENSES, pack, said, modules)
        if words is None or _LOWER in said.words or not all(map(str.isascii, words)):
            read |= {("packages", _LICENSES)}
        self._license = re.compile("|".join(map(re.escape, sorted(word.lower() for word in words or ()))) or r"(?!)")
        self._unread = {
            place: {name: empty for name, empty in fields.items() if not _touched(read, place, name)}
            for place, fields in _LARGE.items()
        }

    def of(self, document: PolicyInput) -> PolicyInput:
        """`document` without what no rule can read: those fields are empty, and those maps hold fewer names."""
        all_packages, unread = document.packages, dict(self._unread["packages"])
        for kind in _KINDS:
            if kind in unread:
                versions = all_packages.python if kind == "python" else all_packages.deb
                unread[kind] = {name: versions[name] for name in self._names[kind] if name in versions}
        if _LICENSES in unread:
            unread[_LICENSES] = self._licenses(all_packages.licenses)
        return msgspec.structs.replace(
            document,
            image=msgspec.structs.replace(document.image, **self._unread["image"]),
            packages=msgspec.structs.replace(all_packages, **unread),
            **self._unread[""],
        )

    def _licenses(self, found: Mapping[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
        """Those whose expression holds one of the words; engines need not agree with Python beyond ASCII."""
        together = "\n".join(found)
        if together.isascii() and not self._license.search(together.lower()):
            return {}
        return {
            expression: names
            for expression, names in found.items()
            if not expression.isascii() or self._license.search(expression.lower())
        }


def _touched(read: Iterable[Path], place: str, name: str) -> bool:
    field = (place, name) if place else (name,)
    return any(begins(path, field) for path in read)


def _names(kind: str, pack: Pack, said: Mentions, packages: Iterable[str]) -> frozenset[str] | None:
    """Names that rules can look up among the packages of a kind; None when that cannot be told."""
    names = {name for of, name in said.written if of == kind}
    for of, alias, path in said.listed:
        if of != kind:
            continue
        if alias in said.words or any(begins(tuple(package.split(".")), path) for package in packages):
            return None  # a rule or a variable may be meant, or stand where the list does
        value = json.loads(pack.data)
        for step in path:
            value = value.get(step) if isinstance(value, dict) else None
        if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
            return None
        names.update(value)
    return frozenset(names)
