"""What a name in Rego stands for: a field of `input`, a rule, data, an import."""

import difflib
from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import NamedTuple

from tidewaiter.policy import syntax
from tidewaiter.policy.shapes import UNKNOWN, Fields, Many, Scalar, Shape, of_value
from tidewaiter.policy.syntax import Module, Node


class Problem(NamedTuple):
    """Something that may not stand in a pack; `line` counts from 1."""

    file: str
    line: int
    message: str


class Scope:
    """Variables of a query, on top of those around it."""

    def __init__(self, outer: "Scope | None" = None) -> None:
        self.names: dict[str, Shape] = {}
        self.outer = outer

    def find(self, name: str) -> Shape | None:
        scope: Scope | None = self
        while scope is not None:
            if name in scope.names:
                return scope.names[name]
            scope = scope.outer
        return None


def nearest(name: str, names: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, sorted(names), 1)
    return f"; did you mean {near[0]}?" if near else ""


class Resolver(ABC):
    """Knows the names of a pack: the shape of `input`, the pack's data, its rules. Collects problems."""

    def __init__(self, modules: list[Module], document: Shape, data: object) -> None:
        self.modules = modules
        self.document = document
        self.data = of_value(data)
        self.rules: dict[tuple[str, ...], list[tuple[Module, Node]]] = {}
        self.packages = {module.package for module in modules}
        for module in modules:
            for rule in module.rules:
                name = syntax.names(syntax.head(rule)[1]["refr"])[0]
                self.rules.setdefault((*module.package, name), []).append((module, rule))
        self.arguments: dict[tuple[str, ...], list[Shape]] = {}
        self.calls: dict[tuple[str, ...], list[Shape]] = {}
        self.known: dict[tuple[str, ...], Shape] = {}
        self.open: set[tuple[str, ...]] = set()
        self.reporting = False
        self.problems: dict[Problem, None] = {}

    def _report(self, module: Module, line: int, message: str) -> None:
        if self.reporting:
            self.problems[Problem(module.file, line, message)] = None

    @abstractmethod
    def _rule_shape(self, path: tuple[str, ...]) -> Shape:
        """Shape of what the rule with this path gives."""

    def _function(self, module: Module, parts: tuple[str, ...]) -> tuple[str, ...] | None:
        if not parts:
            return None
        candidates = [(*module.package, *parts)]
        if parts[0] in module.imports:
            candidates.append((*module.imports[parts[0]][1:], *parts[1:]))
        if parts[0] == "data":
            candidates.append(parts[1:])
        for candidate in candidates:
            definitions = self.rules.get(candidate, [])
            if any(syntax.head(rule)[0] == "Func" for _, rule in definitions):
                return candidate
        return None

    def _root(
        self, module: Module, name: str, steps: list[str | None], scope: Scope, where: tuple[int, str]
    ) -> tuple[Shape, list[str | None]]:
        """Shape of what a reference starts from, and the steps that are left."""
        if name == "input":
            return self.document, steps
        if name == "data":
            return self._data(module, steps, where)
        local = scope.find(name)
        if local is not None:
            return local, steps
        if (*module.package, name) in self.rules:
            return self._rule_shape((*module.package, name)), steps
        if name in module.imports:
            first, *rest = module.imports[name]
            return self._root(module, first, [*rest, *steps], scope, where)
        if name != "_":
            self._report(module, where[0], f"{name} is not defined")
        return UNKNOWN, []

    def _data(self, module: Module, steps: list[str | None], where: tuple[int, str]) -> tuple[Shape, list[str | None]]:
        path: list[str] = []
        for step in steps:
            if step is None:
                break
            path.append(step)
            if tuple(path) in self.rules:
                return self._rule_shape(tuple(path)), steps[len(path) :]
        whole = tuple(path)
        if any(package[: len(whole)] == whole for package in self.packages):
            # A whole package, or what lies above packages: nothing to check a step against.
            return UNKNOWN, []
        shape = self.data
        for position, step in enumerate(path):
            if not isinstance(shape, Fields):
                return shape, steps[position:]
            if step not in shape.fields:
                self._report(module, where[0], f"{where[1]}: neither a rule nor data has this name")
                return UNKNOWN, []
            shape = shape.fields[step]
        return shape, steps[len(path) :]

    def _step(self, module: Module, shape: Shape, step: str | None, line: int, text: str) -> Shape:
        """Shape of one field (None: of any) of `shape`; reports a field that is not there."""
        if isinstance(shape, Many):
            if step is not None and isinstance(shape.items, (Fields, Many)):
                self._report(module, line, f"{text}: {step!r} names a field of a list; index the list first")
            return shape.items
        if isinstance(shape, Fields):
            return self._field(module, shape, step, line, text)
        if isinstance(shape, Scalar):
            self._report(module, line, f"{text}: a single value has no fields")
        return UNKNOWN

    def _field(self, module: Module, shape: Fields, step: str | None, line: int, text: str) -> Shape:
        if step is None:
            if shape.fields:
                self._report(module, line, f"{text}: name the field, so that it can be checked")
        elif step in shape.fields:
            return shape.fields[step]
        elif shape.rest is None:
            hint = nearest(step, shape.fields) or f"; its fields: {', '.join(sorted(shape.fields))}"
            self._report(module, line, f"{text}: there is no field {step!r}{hint}")
        return UNKNOWN if shape.rest is None else shape.rest
