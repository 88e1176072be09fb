"""Finds references in Rego that can never hold: the typing mistakes that would make a rule pass by accident.

Reads the syntax tree that the engine made. `input.…` is followed through variables, comprehensions, rules and
function arguments, so that `some f in input.findings; f.severty` is caught as well as `input.imagee`. Names, `data.…`
references, built-ins and strings compared with a closed list of values are checked too.
"""

from tidewaiter.policy import builtins, syntax
from tidewaiter.policy.names import Problem, Resolver, Scope, nearest
from tidewaiter.policy.shapes import (
    SCALAR,
    UNKNOWN,
    Fields,
    Many,
    Scalar,
    Shape,
    Unknown,
    element,
    merge,
    merge_all,
)
from tidewaiter.policy.syntax import Module, Node

_ROUNDS = 8
_PROBLEMS = 20


class Checker(Resolver):
    """Checks all modules of a pack against the shape of `input` and the pack's data."""

    def run(self) -> list[Problem]:
        """All problems found, at most twenty, by file and line."""
        for _ in range(_ROUNDS):
            self._walk()
            if self.calls == self.arguments:
                break
            self.arguments = self.calls
        self.reporting = True
        self._walk()
        return sorted(self.problems)[:_PROBLEMS]

    def _walk(self) -> None:
        self.calls, self.known, self.open = {}, {}, set()
        for module in self.modules:
            for rule in module.rules:
                self._rule(module, rule)

    # Rules.

    def _rule_shape(self, path: tuple[str, ...]) -> Shape:
        if path in self.known:
            return self.known[path]
        if path in self.open:
            return UNKNOWN
        self.open.add(path)
        reporting, self.reporting = self.reporting, False
        shape = merge_all([self._rule(module, rule) for module, rule in self.rules[path]])
        self.reporting = reporting
        self.known[path] = shape
        return shape

    def _rule(self, module: Module, rule: Node) -> Shape:
        """Check one definition; the shape of what it gives."""
        kind, head = syntax.head(rule)
        scope = Scope()
        if kind == "Default":
            return self._shape(module, head["value"], scope)
        path = (*module.package, syntax.names(head["refr"])[0])
        if kind == "Func":
            given = self.arguments.get(path, [])
            for position, argument in enumerate(head["args"]):
                shape = given[position] if position < len(given) else UNKNOWN
                self._bind(module, argument, shape, scope, declare=True)
        shapes: list[Shape] = []
        bodies = rule["Spec"]["bodies"]
        for number, body in enumerate(bodies or [None]):
            inner = scope if body is None else self._query(module, body["query"], scope)
            assign = (body or {}).get("assign")
            if number == 0 and kind != "Set":
                # Parts of the rule's name in brackets are bound by its first body.
                self._head_keys(module, head["refr"], inner)
                assign = head.get("assign") or assign
            if kind == "Set":
                key = head["key"]
                shapes.append(SCALAR if key is None else self._shape(module, key, inner))
            elif assign:
                shapes.append(self._shape(module, assign["value"], inner))
            else:
                shapes.append(SCALAR)
        if kind == "Set":
            return Many(merge_all(shapes))
        simple = syntax.only(head["refr"])[0] == "Var"
        return merge_all(shapes) if simple else UNKNOWN

    def _head_keys(self, module: Module, reference: Node, scope: Scope) -> None:
        tag, body = syntax.only(reference)
        if tag == "RefBrack":
            self._shape(module, body["index"], scope)
            self._head_keys(module, body["refr"], scope)

    # Queries.

    def _query(self, module: Module, query: Node, outer: Scope) -> Scope:
        """Check the statements of a query; the scope that they make."""
        scope = Scope(outer)
        for statement in query["stmts"]:
            self._declare(module, statement["literal"], scope)
        reporting, self.reporting = self.reporting, False
        for _ in range(3):
            before = dict(scope.names)
            for statement in query["stmts"]:
                self._infer(module, statement["literal"], scope)
            if scope.names == before:
                break
        self.reporting = reporting
        for statement in query["stmts"]:
            self._statement(module, statement, scope)
        return scope

    def _declare(self, module: Module, literal: Node, scope: Scope) -> None:
        tag, body = syntax.only(literal)
        if tag == "SomeVars":
            for span in body["vars"]:
                scope.names[module.source[span["start"] : span["end"]].decode()] = UNKNOWN
        elif tag == "SomeIn":
            for part in (body["key"], body["value"]):
                if part is not None:
                    self._bind(module, part, UNKNOWN, scope, declare=True)
            self._declare_indexes(module, body["collection"], scope)
        elif tag in {"Expr", "NotExpr"}:
            kind, expression = syntax.only(body["expr"])
            if kind == "AssignExpr":
                declared = expression["op"] == "ColEq"
                self._bind(module, expression["lhs"], UNKNOWN, scope, declare=declared)
                if not declared:
                    self._bind(module, expression["rhs"], UNKNOWN, scope, declare=False)
            self._declare_indexes(module, body["expr"], scope)

    def _declare_indexes(self, module: Module, node: object, scope: Scope) -> None:
        """Variables that stand as an index are bound by the reference: `input.findings[i]`."""
        if isinstance(node, list):
            for item in node:
                self._declare_indexes(module, item, scope)
        elif isinstance(node, dict):
            for tag, body in node.items():
                if tag in {"ArrayCompr", "SetCompr", "ObjectCompr"}:
                    continue
                if tag == "RefBrack":
                    self._bind(module, body["index"], UNKNOWN, scope, declare=False)
                self._declare_indexes(module, body, scope)

    def _bind(self, module: Module, pattern: Node, shape: Shape, scope: Scope, *, declare: bool) -> None:
        """Give the variables of a pattern their shapes; without `declare`, only those that mean nothing else yet."""
        tag, body = syntax.only(pattern)
        if tag == "Var":
            name = body["value"]
            fresh = scope.find(name) is None and not self._is_name(module, name)
            if declare or fresh or isinstance(scope.names.get(name), Unknown):
                scope.names[name] = shape
        elif tag == "Array":
            for item in body["items"]:
                inner = shape.items if isinstance(shape, Many) else UNKNOWN
                self._bind(module, item, inner, scope, declare=declare)
        elif tag == "Object":
            for _, key, value in body["fields"]:
                name = syntax.static(key)
                inner = shape.fields.get(name or "", UNKNOWN) if isinstance(shape, Fields) else UNKNOWN
                self._bind(module, value, inner, scope, declare=declare)

    def _is_name(self, module: Module, name: str) -> bool:
        return name in {"input", "data"} or name in module.imports or (*module.package, name) in self.rules

    def _infer(self, module: Module, literal: Node, scope: Scope) -> None:
        tag, body = syntax.only(literal)
        if tag == "SomeIn":
            inner = element(self._shape(module, body["collection"], scope))
            self._bind(module, body["value"], UNKNOWN if inner is None else inner, scope, declare=True)
        elif tag == "Expr":
            kind, expression = syntax.only(body["expr"])
            if kind == "AssignExpr":
                left, right = expression["lhs"], expression["rhs"]
                if expression["op"] == "ColEq":
                    self._bind(module, left, self._shape(module, right, scope), scope, declare=True)
                else:
                    self._bind(module, left, self._shape(module, right, scope), scope, declare=False)
                    self._bind(module, right, self._shape(module, left, scope), scope, declare=False)

    def _statement(self, module: Module, statement: Node, scope: Scope) -> None:
        tag, body = syntax.only(statement["literal"])
        for modifier in statement.get("with_mods", ()):
            if not module.test:
                self._report(module, modifier["span"]["line"], "`with` may stand in tests only")
            self._shape(module, modifier["refr"], scope)
            self._shape(module, modifier["as"], scope)
        if tag == "SomeIn":
            self._iterate(module, body["collection"], scope)
        elif tag in {"Expr", "NotExpr"}:
            self._shape(module, body["expr"], scope)
        elif tag == "Every":
            inner = Scope(scope)
            shape = self._iterate(module, body["domain"], scope)
            for span, bound in ((body["key"], SCALAR), (body["value"], shape)):
                if span is not None:
                    inner.names[module.source[span["start"] : span["end"]].decode()] = bound
            self._query(module, body["query"], inner)

    def _iterate(self, module: Module, collection: Node, scope: Scope) -> Shape:
        inner = element(self._shape(module, collection, scope))
        if inner is None:
            line = syntax.only(collection)[1]["span"]["line"]
            self._report(
                module, line, f"{self._text(module, collection)} is an object with named fields; name the field"
            )
            return UNKNOWN
        return inner

    # Expressions.

    def _text(self, module: Module, node: Node) -> str:
        span = syntax.only(node)[1]["span"]
        return module.source[span["start"] : span["end"]].decode(errors="replace")[:120]

    def _shape(self, module: Module, node: Node, scope: Scope) -> Shape:
        """Check an expression; its shape."""
        tag, body = syntax.only(node)
        match tag:
            case "Var" | "RefDot" | "RefBrack":
                shape = self._reference(module, node, scope)
            case "Array" | "Set":
                shape = Many(merge_all([self._shape(module, item, scope) for item in body["items"]]))
            case "Object":
                shape = self._object(module, body, scope)
            case "ArrayCompr" | "SetCompr":
                shape = Many(self._shape(module, body["term"], self._query(module, body["query"], scope)))
            case "ObjectCompr":
                inner = self._query(module, body["query"], scope)
                self._shape(module, body["key"], inner)
                shape = Fields({}, self._shape(module, body["value"], inner))
            case "Call":
                shape = self._call(module, body, scope)
            case "BinExpr" | "ArithExpr":
                shape = merge(self._shape(module, body["lhs"], scope), self._shape(module, body["rhs"], scope))
            case _:
                shape = self._truth(module, tag, body, scope)
        return shape

    def _truth(self, module: Module, tag: str, body: Node, scope: Scope) -> Shape:
        """Check a comparison, membership, negated or literal value: all give single values."""
        if tag in {"BoolExpr", "AssignExpr"}:
            self._compare(module, body, scope)
        elif tag == "Membership":
            self._member(module, body, scope)
        elif tag == "UnaryExpr":
            self._shape(module, body["expr"], scope)
        return SCALAR

    def _object(self, module: Module, body: Node, scope: Scope) -> Shape:
        fields: dict[str, Shape] = {}
        rest: Shape | None = None
        for _, key, value in body["fields"]:
            name = syntax.static(key)
            shape = self._shape(module, value, scope)
            if name is None:
                self._shape(module, key, scope)
                rest = UNKNOWN
            else:
                fields[name] = shape
        return Fields(fields, rest)

    def _choice(self, module: Module, shape: Shape, literal: Node, other: Node) -> None:
        text = syntax.static(literal)
        if isinstance(shape, Scalar) and shape.choices is not None and text is not None and text not in shape.choices:
            line = syntax.only(literal)[1]["span"]["line"]
            values = ", ".join(sorted(shape.choices))
            self._report(module, line, f'"{text}" is no value of {self._text(module, other)}; its values: {values}')

    def _compare(self, module: Module, body: Node, scope: Scope) -> None:
        left, right = self._shape(module, body["lhs"], scope), self._shape(module, body["rhs"], scope)
        self._choice(module, left, body["rhs"], body["lhs"])
        self._choice(module, right, body["lhs"], body["rhs"])

    def _member(self, module: Module, body: Node, scope: Scope) -> None:
        shape = self._shape(module, body["value"], scope)
        self._shape(module, body["collection"], scope)
        tag, collection = syntax.only(body["collection"])
        if tag in {"Array", "Set"}:
            for item in collection["items"]:
                self._choice(module, shape, item, body["value"])
        if body["key"] is not None:
            self._shape(module, body["key"], scope)

    def _call(self, module: Module, body: Node, scope: Scope) -> Shape:
        shapes = [self._shape(module, parameter, scope) for parameter in body["params"]]
        parts = syntax.names(body["fcn"])
        name = ".".join(parts)
        line = body["span"]["line"]
        target = self._function(module, parts)
        if target is not None:
            known = self.calls.get(target)
            self.calls[target] = [merge(old, new) for old, new in zip(known, shapes, strict=False)] if known else shapes
            return self._rule_shape(target)
        if name not in builtins.ALLOWED:
            hint = nearest(name, builtins.ALLOWED)
            self._report(module, line, f"{name} is neither a function of this pack nor an allowed built-in{hint}")
            return UNKNOWN
        if name in builtins.SAME_TYPE and shapes:
            return shapes[0]
        if name in builtins.COMBINING:
            return merge_all(shapes)
        if name == "object.get" and len(shapes) == 3:
            return self._object_get(module, body, shapes)
        return SCALAR if name in builtins.SCALAR else UNKNOWN

    def _object_get(self, module: Module, body: Node, shapes: list[Shape]) -> Shape:
        key = syntax.static(body["params"][1])
        if key is None:
            return UNKNOWN
        return merge(self._step(module, shapes[0], key, body["span"]["line"], f"object.get of {key}"), shapes[2])

    # References.

    def _reference(self, module: Module, node: Node, scope: Scope) -> Shape:
        steps: list[str | None] = []
        root = node
        while True:
            tag, body = syntax.only(root)
            if tag == "RefDot":
                steps.append(body["field"][1])
            elif tag == "RefBrack":
                steps.append(syntax.static(body["index"]))
                if steps[-1] is None:
                    self._shape(module, body["index"], scope)
            else:
                break
            root = body["refr"]
        steps.reverse()
        line, text = syntax.only(node)[1]["span"]["line"], self._text(module, node)
        if tag != "Var":
            shape = self._shape(module, root, scope)
        else:
            shape, steps = self._root(module, body["value"], steps, scope, (line, text))
        for step in steps:
            shape = self._step(module, shape, step, line, text)
        return shape
