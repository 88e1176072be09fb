"""A policy pack: Rego files, their data, and a manifest that says which rules there must be.

A pack is a folder with `pack.toml`, `*.rego`, `*_test.rego` and at most one `data.json`. Everything is read under
limits before any engine sees it: some engines need minutes for a few nested brackets.
"""

import importlib.resources
import json
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from tidewaiter.core import limits
from tidewaiter.core.errors import InputError, LimitError
from tidewaiter.core.project import Environment
from tidewaiter.oci.digest import Digest, of

Level = Literal["deny", "warn", "off"]
RuleSeverity = Literal["critical", "high", "medium", "low"]
_Text = Annotated[str, msgspec.Meta(min_length=1, max_length=1000)]
_NEXT = "Mend the pack; `tidewaiter policy test` checks it."


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


class _Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: _Text
    rule: tuple[Rule, ...] = ()


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
    """Names what decides: manifest, data and rules, not the tests."""

    def rule(self, name: str) -> Rule | None:
        """The rule with this id."""
        return next((rule for rule in self.rules if rule.id == name), None)


def default_pack() -> Pack:
    """The pack that ships with the product."""
    with importlib.resources.as_file(importlib.resources.files(__package__) / "packs" / "default") as folder:
        return load(folder)


def load(folder: Path) -> Pack:
    """The pack in `folder`.

    Raises:
        InputError: a file is missing, of an unknown kind, or malformed; the message starts with the file.
        LimitError: the pack is larger or more deeply nested than accepted.
    """
    files = _read(folder)
    if "pack.toml" not in files:
        raise InputError(f"{folder}: there is no pack.toml", next_step="Name the folder of a policy pack.")
    try:
        manifest = msgspec.toml.decode(files["pack.toml"], type=_Manifest)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InputError(f"pack.toml: {error}", next_step=_NEXT, code="bad_pack") from error
    ids = [rule.id for rule in manifest.rule]
    for name in sorted({name for name in ids if ids.count(name) > 1}):
        raise InputError(f"pack.toml: rule {name} stands in it twice", next_step=_NEXT, code="bad_pack")
    modules = tuple(_module(path, data) for path, data in files.items() if path.endswith(".rego"))
    deciding = sorted((path, of(data)) for path, data in files.items() if not _is_test(path))
    return Pack(
        name=manifest.name,
        rules=manifest.rule,
        modules=tuple(module for module in modules if not _is_test(module.path)),
        tests=tuple(module for module in modules if _is_test(module.path)),
        data=_data(files.get("data.json", b"{}")),
        revision=of(msgspec.json.encode(deciding)),
    )


def _is_test(path: str) -> bool:
    return path.endswith("_test.rego")


def _read(folder: Path) -> dict[str, bytes]:
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder", next_step="Name the folder of a policy pack.")
    files: dict[str, bytes] = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink():
            raise InputError(f"{name}: a pack holds no symbolic links", next_step=_NEXT, code="bad_pack")
        if path.is_dir() or path.suffix == ".md":
            continue
        if not path.is_file() or not (path.suffix == ".rego" or name in {"pack.toml", "data.json"}):
            raise InputError(
                f"{name}: a pack holds pack.toml, data.json, *.rego and *.md only", next_step=_NEXT, code="bad_pack"
            )
        if len(files) >= limits.POLICY_MODULES:
            raise LimitError(f"{folder} holds over {limits.POLICY_MODULES} files", next_step="Split the pack.")
        limit = limits.POLICY_MODULE_BYTES if path.suffix == ".rego" else limits.POLICY_DATA_BYTES
        with path.open("rb") as file:
            files[name] = file.read(limit + 1)
        if len(files[name]) > limit:
            raise LimitError(f"{name}: the file is over {limit} bytes", next_step="Split the file.")
    return files


def _module(path: str, data: bytes) -> Module:
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise InputError(f"{path}:1: not UTF-8: {error}", next_step="Save the file as UTF-8.") from error
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
