"""The engine's syntax tree of Rego files, as far as checking needs it."""

from typing import Any, NamedTuple

Node = dict[str, Any]
"""A node of the tree. Its shape is the engine's, whose version is pinned."""


class Module(NamedTuple):
    """One parsed file. `test` files may use `with`."""

    file: str
    source: bytes
    package: tuple[str, ...]
    imports: dict[str, tuple[str, ...]]
    rules: list[Node]
    test: bool


def only(node: Node) -> tuple[str, Any]:
    """The single tag and the body of a tagged node."""
    ((tag, body),) = node.items()
    return tag, body


def static(node: Node) -> str | None:
    tag, body = only(node)
    return body["value"] if tag in {"String", "RawString"} else None


def names(node: Node) -> tuple[str, ...]:
    """Parts of a reference without variables (packages, imports, rule names); stops at the first variable part."""
    tag, body = only(node)
    if tag == "Var":
        return (body["value"],)
    if tag == "RefDot":
        return (*names(body["refr"]), body["field"][1])
    if tag == "RefBrack":
        key = static(body["index"])
        return names(body["refr"]) if key is None else (*names(body["refr"]), key)
    return ()


def head(rule: Node) -> tuple[str, Node]:
    """Kind of a rule's head (`Compr`, `Set`, `Func`, `Default`) and its body."""
    tag, body = only(rule)
    return ("Default", body) if tag == "Default" else only(body["head"])


def parse(entries: list[Node], tests: frozenset[str]) -> list[Module]:
    """Modules of the engine's syntax tree; `tests` names the files that are tests."""
    modules = []
    for entry in entries:
        tree = entry["ast"]
        source = entry["source"]["contents"].encode()
        imports = {}
        for line in tree["imports"]:
            path = names(line["refr"])
            alias = line.get("as")
            name = source[alias["start"] : alias["end"]].decode() if alias else path[-1]
            if path[0] in {"input", "data"}:
                imports[name] = path
        file = entry["source"]["file"]
        package = names(tree["package"]["refr"])
        modules.append(Module(file, source, package, imports, tree["rules"], file in tests))
    return modules
