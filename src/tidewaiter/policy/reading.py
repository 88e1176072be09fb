"""Which fields of `input` each rule may read, told from the syntax tree, without running anything."""

from collections.abc import Iterator, Sequence

from tidewaiter.policy import syntax
from tidewaiter.policy.syntax import Module, Node

Path = tuple[str, ...]
_REFERENCES = frozenset({"Var", "RefDot", "RefBrack"})


class Reader:
    """Follows rules and functions of a pack to the fields of `input` that they name."""

    def __init__(self, modules: Sequence[Module]) -> None:
        self._rules: dict[Path, list[tuple[Module, Node]]] = {}
        for module in modules:
            for rule in module.rules:
                name = syntax.names(syntax.head(rule)[1]["refr"])[0]
                self._rules.setdefault((*module.package, name), []).append((module, rule))

    def read(self, names: Sequence[str]) -> dict[str, dict[str, object]]:
        """File, line and fields read of each rule named whose id stands written in a definition of `results`."""
        found: dict[str, dict[str, object]] = {}
        for path, definitions in self._rules.items():
            if path[-1] != "results":
                continue
            for module, rule in definitions:
                for name in set(_strings(rule)) & set(names):
                    fields = self._fields(module, rule, {path})
                    known = found.setdefault(name, {"file": module.file, "line": _line(rule), "reads": []})
                    known["reads"] = _outermost([*_paths(known["reads"]), *fields])
        return found

    def _fields(self, module: Module, rule: Node, seen: set[Path]) -> list[Path]:
        """Paths below `input` that a definition, or what it names, refers to."""
        fields: list[Path] = []
        for names in _references(rule):
            for path in self._meant(module, names):
                if path[0] == "input":
                    fields.append(path[1:])
                    continue
                target = next((path[1:end] for end in range(len(path), 1, -1) if path[1:end] in self._rules), None)
                if target is not None and target not in seen:
                    seen.add(target)
                    for other, definition in self._rules[target]:
                        fields += self._fields(other, definition, seen)
        return fields

    def _meant(self, module: Module, names: Path) -> list[Path]:
        """Full paths, from `input` or `data`, that a reference may stand for."""
        if names[0] in {"input", "data"}:
            return [names]
        if names[0] in module.imports:
            return [(*module.imports[names[0]], *names[1:])]
        return [("data", *module.package, *names)]


def _paths(value: object) -> list[Path]:
    return value if isinstance(value, list) else []


def _line(rule: Node) -> int:
    line: int = syntax.only(rule)[1]["span"]["line"]
    return line


def _outermost(paths: list[Path]) -> list[Path]:
    """`paths` without those inside another, by name."""
    kept: list[Path] = []
    for path in sorted(set(paths)):
        if path and not any(path[: len(outer)] == outer for outer in kept):
            kept.append(path)
    return kept


def _strings(node: object) -> Iterator[str]:
    for tag, body in _tagged(node):
        if tag in {"String", "RawString"}:
            yield body["value"]


def _references(node: object) -> Iterator[Path]:
    """Every reference in a tree by its written parts, up to the first that is a variable."""
    for tag, body in _tagged(node, whole=_REFERENCES):
        if tag in _REFERENCES:
            if names := syntax.names({tag: body}):
                yield names
            yield from _references(list(_indexes({tag: body})))


def _indexes(reference: Node) -> Iterator[Node]:
    """What stands in brackets in a reference, and what it starts from when that is no name."""
    tag, body = syntax.only(reference)
    while tag in {"RefDot", "RefBrack"}:
        if tag == "RefBrack":
            yield body["index"]
        tag, body = syntax.only(body["refr"])
    if tag != "Var":
        yield {tag: body}


def _tagged(node: object, whole: frozenset[str] = frozenset()) -> Iterator[tuple[str, Node]]:
    """Tags and bodies of a tree; nothing from inside of those in `whole`."""
    if isinstance(node, list):
        for item in node:
            yield from _tagged(item, whole)
    elif isinstance(node, dict):
        for tag, body in node.items():
            if isinstance(body, dict):
                yield tag, body
            if tag not in whole:
                yield from _tagged(body, whole)
