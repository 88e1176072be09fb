"""A policy pack: Rego files, their data, and a manifest that says which rules there must be.

A pack is a folder with `pack.toml`, `*.rego`, `*_test.rego` and at most one `data.json`, or an OPA bundle of the same.
Everything is read under limits before any engine sees it: some engines need minutes for a few nested brackets. A pack
that changes what stands below it is a layer (`policy.layers`).
"""

import importlib.resources
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import msgspec

from tidewaiter.core import limits
from tidewaiter.core.errors import InputError, LimitError, NotVerifiedError
from tidewaiter.core.project import Environment
from tidewaiter.oci.digest import Digest, of
from tidewaiter.policy import bundle

if TYPE_CHECKING:
    from tidewaiter.policy.signatures import Trust

Level = Literal["deny", "warn", "off"]
RuleSeverity = Literal["critical", "high", "medium", "low"]
_Text = Annotated[str, msgspec.Meta(min_length=1, max_length=1000)]
_NEXT = "Mend the pack; `tidewaiter policy test` checks it."
_HIDDEN = re.compile("[\0-\x08\x0b\x0c\x0e-\x1f\x7f\u202a-\u202e\u2066-\u2069\ufeff]")
"""Some engines stop reading at a NUL; the others let a reviewer see another order, or another file, than engines do."""


class Levels(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What failing a rule means in each environment."""

    research: Level
    staging: Level
    production: Level

    def of(self, environment: Environment) -> Level:
        return {"research": self.research, "staging": self.staging, "production": self.production}[environment]


class Rule(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One rule as the manifest promises it."""

    id: Annotated[str, msgspec.Meta(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*(\.[a-z0-9]+(-[a-z0-9]+)*)+$", max_length=100)]
    title: _Text
    """What the rule asks for."""
    failure: _Text
    """One sentence for an image that fails it."""
    why: _Text
    severity: RuleSeverity
    levels: Levels
    waivable: bool = True
    """Whether a waiver may cover its failure."""


class Parameter(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A value that rules read at `data.ROOT.parameters.NAME`, and what a layer above may do with it."""

    name: Annotated[str, msgspec.Meta(pattern=r"^[a-z][a-z0-9_]*$", max_length=100)]
    meaning: _Text
    tighter: Literal["lower", "higher", "more", "fewer", "stays"]
    """Which change of the number (`lower`, `higher`) or of the list (`more`, `fewer`) asks more of an image."""


class Levelled(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Levels that a layer gives to a rule from below; None leaves what is there."""

    research: Level | None = None
    staging: Level | None = None
    production: Level | None = None


class Tighten(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a layer changes of those below it."""

    rules: dict[str, Levelled] = {}
    parameters: dict[str, int | float | tuple[str, ...]] = {}


class _Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: _Text
    rule: tuple[Rule, ...] = ()
    parameter: tuple[Parameter, ...] = ()
    tighten: Tighten = Tighten()


class Module(msgspec.Struct, frozen=True):
    """One Rego file: path inside the pack, and text."""

    path: str
    text: str


class Pack(msgspec.Struct, frozen=True, kw_only=True):
    """A pack that was read and is within limits; its Rego is not parsed yet."""

    name: str
    rules: tuple[Rule, ...]
    modules: tuple[Module, ...]
    tests: tuple[Module, ...]
    data: bytes
    """JSON object."""
    revision: Digest
    """Names what decides: manifest, data and rules of all layers, not the tests."""
    parameters: tuple[Parameter, ...] = ()
    layers: tuple[str, ...] = ()
    """Names of the packs that it is made of, the lowest first; empty when it is one pack as written."""
    homes: dict[str, frozenset[str]] = {}
    """Rule to the roots of its layer, where its results must come from; empty when it is one pack as written."""

    def rule(self, name: str) -> Rule | None:
        """The rule with this id."""
        return next((rule for rule in self.rules if rule.id == name), None)


def default_pack() -> Pack:
    """The pack that ships with the product."""
    with importlib.resources.as_file(importlib.resources.files(__package__) / "packs" / "default") as folder:
        return load(folder)


class Layer(msgspec.Struct, frozen=True):
    """A pack as written, and what it changes of those below it."""

    pack: Pack
    tighten: Tighten


def load(source: Path) -> Pack:
    """The pack in a folder, or in an OPA bundle, that stands for itself.

    Raises:
        InputError: a file is missing, of an unknown kind, or malformed, or it is a layer that needs others below it;
            the message starts with the file.
        LimitError: the pack is larger or more deeply nested than accepted.
    """
    layer = load_layer(source)
    if layer.tighten != Tighten():
        raise InputError(
            "pack.toml: [tighten] changes a pack below this one, and there is none", next_step=_NEXT, code="bad_pack"
        )
    return layer.pack


def load_layer(source: Path, trusted: "Trust | None" = None) -> Layer:
    """The pack in a folder or bundle, and what it changes of those below it; raises as `load` and `bundle.read` do."""
    files = read_files(source, trusted)
    if "pack.toml" not in files:
        raise InputError(f"{source}: there is no pack.toml in it", next_step="Name a policy pack.", code="bad_pack")
    try:
        manifest = msgspec.toml.decode(files["pack.toml"], type=_Manifest)
    except (ValueError, RecursionError) as error:
        raise InputError(f"pack.toml: {error}", next_step=_NEXT, code="bad_pack") from error
    for what, names in (
        ("rule", [rule.id for rule in manifest.rule]),
        ("parameter", [parameter.name for parameter in manifest.parameter]),
    ):
        for name in sorted({name for name in names if names.count(name) > 1}):
            raise InputError(f"pack.toml: {what} {name} stands in it twice", next_step=_NEXT, code="bad_pack")
    modules = tuple(_module(path, data) for path, data in files.items() if path.endswith(".rego"))
    deciding = sorted((path, of(data)) for path, data in files.items() if not _is_test(path))
    pack = Pack(
        name=manifest.name,
        rules=manifest.rule,
        modules=tuple(module for module in modules if not _is_test(module.path)),
        tests=tuple(module for module in modules if _is_test(module.path)),
        data=_data(files.get("data.json", b"{}")),
        revision=of(msgspec.json.encode(deciding)),
        parameters=manifest.parameter,
    )
    return Layer(pack, manifest.tighten)


def _is_test(path: str) -> bool:
    return path.endswith("_test.rego")


def read_files(source: Path, trusted: "Trust | None" = None) -> dict[str, bytes]:
    """The files of a pack by path, each within its limit; raises as `load_layer` does."""
    if source.is_file():
        files = bundle.read(source, trusted)
    elif source.is_dir():
        if trusted is not None and trusted.required:
            raise NotVerifiedError(
                f"{source} is a folder, and policy must be signed",
                next_step="Write a signed bundle of it with `tidewaiter policy bundle --key`, and name that.",
                code="unsigned_pack",
            )
        files = _folder(source)
    else:
        raise InputError(
            f"{source} is neither a folder nor a file", next_step="Name the folder or the bundle of a policy pack."
        )
    return dict(sorted(files.items()))


def _folder(folder: Path) -> dict[str, bytes]:
    files: dict[str, bytes] = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink():
            raise InputError(f"{name}: a pack holds no symbolic links", next_step=_NEXT, code="bad_pack")
        if path.is_dir() or path.suffix == ".md":
            continue
        if not path.is_file() or not bundle.belongs(name):
            raise InputError(
                f"{name}: a pack holds pack.toml, data.json, *.rego and *.md only", next_step=_NEXT, code="bad_pack"
            )
        if len(files) >= limits.POLICY_MODULES:
            raise LimitError(f"{folder} holds over {limits.POLICY_MODULES} files", next_step="Split the pack.")
        with path.open("rb") as file:
            files[name] = file.read(bundle.limit(name) + 1)
        bundle.check_size(name, len(files[name]))
    return files


def _module(path: str, data: bytes) -> Module:
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise InputError(f"{path}:1: not UTF-8: {error}", next_step="Save the file as UTF-8.") from error
    hidden = _HIDDEN.search(text)
    if hidden is not None:
        line = text.count("\n", 0, hidden.start()) + 1
        raise InputError(
            f"{path}:{line}: it holds the character U+{ord(hidden[0]):04X}, which hides what is written",
            next_step="Take the character out of the file.",
            code="bad_pack",
        )
    check_nesting(path, text)
    return Module(path, text)


def _data(data: bytes) -> bytes:
    check_nesting("data.json", data.decode(errors="replace"))
    try:
        content = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise InputError(f"data.json: not JSON: {error}", next_step=_NEXT, code="bad_pack") from error
    if not isinstance(content, dict):
        raise InputError("data.json: not a JSON object", next_step=_NEXT, code="bad_pack")
    return data


def check_nesting(path: str, text: str) -> None:
    """Refuse brackets nested deeper than `limits.POLICY_NESTING`, outside of strings and comments.

    Raises:
        LimitError: the message starts with file and line.
    """
    depth, line, position, end = 0, 1, 0, len(text)
    while position < end:
        character = text[position]
        if character == "\n":
            line += 1
        elif character in "([{":
            depth += 1
            if depth > limits.POLICY_NESTING:
                raise LimitError(
                    f"{path}:{line}: brackets are nested over {limits.POLICY_NESTING} deep",
                    next_step="Give the inner parts names of their own.",
                )
        elif character in ")]}":
            depth -= 1
        elif character == "#":
            position = _find(text, "\n", position) - 1
        elif character == '"':
            position = _closing_quote(text, position)
        elif character == "`":
            stop = _find(text, "`", position + 1)
            line += text.count("\n", position, stop)
            position = stop
        position += 1


def _find(text: str, character: str, start: int) -> int:
    found = text.find(character, start)
    return len(text) if found < 0 else found


def _closing_quote(text: str, start: int) -> int:
    """Position of the quote that ends the string at `start`, or the last character of its line."""
    position = start + 1
    while position < len(text) and text[position] not in '"\n':
        position += 2 if text[position] == "\\" else 1
    return position - 1 if position < len(text) and text[position] == "\n" else position
