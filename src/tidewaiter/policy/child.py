"""The process that runs Rego: started by `engine`, without keys, environment, files or network.

Frames both ways are a length (four bytes, big-endian) and that many bytes. The first byte of a request says what it
is: `L` loads a pack, `E` evaluates a document, `P` some packages of it (their names in a line before the document), `T`
runs one test, `R` tells what rules read. Answers are JSON. Only the standard library and the engine are imported here,
so that a child starts fast and holds little that could be misused.
"""

import gc
import json
import re
import sys

import regorus

from tidewaiter.core import confined
from tidewaiter.policy import shapes, syntax
from tidewaiter.policy.check import Checker
from tidewaiter.policy.reading import Reader

_ERROR = re.compile(r"--> (.+):(\d+):\d+\n(?:.*\n)*?error: (.*)")
_PART = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_UNDEFINED = '"<undefined>"'
_MESSAGE = 500


class _Loaded:
    """The pack of this child: an engine that holds it, packages that give results, names of the tests."""

    def __init__(self) -> None:
        self.engine = regorus.Engine()
        self.packages: list[str] = []
        self.trees: list[syntax.Module] = []


def _reason(error: BaseException) -> tuple[str, int, str]:
    """File, line and cause of an engine's error; it comes with a stack trace that helps nobody."""
    text = str(error)
    match = _ERROR.search(text)
    if match:
        return match[1], int(match[2]), match[3][:_MESSAGE]
    return "", 0, (text.partition("Stack backtrace")[0].strip() or type(error).__name__)[:_MESSAGE]


def _refused(problems: list[tuple[str, int, str]]) -> bytes:
    return json.dumps(
        {"refused": [{"file": file, "line": line, "message": text} for file, line, text in problems]}
    ).encode()


def _load(loaded: _Loaded, request: dict[str, object]) -> bytes:
    modules, tests, data = request["modules"], request["tests"], request["data"]
    if not (isinstance(modules, list) and isinstance(tests, list) and isinstance(request["schema"], dict)):
        raise TypeError("malformed request")
    for path, text in modules:
        try:
            loaded.engine.add_policy(path, text)
        except Exception as error:  # noqa: BLE001  # the binding raises RuntimeError and more
            return _refused([_reason(error)])
    document = shapes.of_schema(request["schema"])
    try:
        trees = syntax.parse(json.loads(loaded.engine.get_ast_as_json()), frozenset(tests))
        problems = Checker(trees, document, data).run()
    except (RecursionError, LookupError, ValueError, TypeError) as error:
        # Rego that the checker cannot follow is not accepted unchecked.
        return _refused([("", 0, f"the pack could not be checked: {type(error).__name__}: {str(error)[:_MESSAGE]}")])
    if problems:
        return _refused([(problem.file, problem.line, problem.message) for problem in problems])
    loaded.engine.add_data_json(json.dumps(data))
    try:
        # Any query makes the engine analyse the pack; copies inherit that, and an evaluation takes half the time.
        loaded.engine.set_input_json("{}")
        loaded.engine.eval_query_as_json("1")
    except Exception as error:  # noqa: BLE001  # the binding raises RuntimeError and more
        return _refused([_reason(error)])
    answer = _contents(loaded, trees)
    # What was loaded stays: no collection looks at it again while somebody waits for an answer.
    gc.freeze()
    return answer


def _contents(loaded: _Loaded, trees: list[syntax.Module]) -> bytes:
    """Remember the packages that give results; they and the tests, as the answer."""
    found: dict[str, None] = {}
    cases = []
    for tree in trees:
        package = ".".join(tree.package)
        for rule in tree.rules:
            name = syntax.names(syntax.head(rule)[1]["refr"])[0]
            if name == "results" and not tree.test:
                if not all(_PART.fullmatch(part) for part in tree.package):
                    return _refused([(tree.file, 1, "a package that gives results has a plain name, as `team.images`")])
                found[package] = None
            if tree.test and name.startswith(("test_", "todo_test_")):
                cases.append({"file": tree.file, "name": f"{package}.{name}"})
    loaded.packages = sorted(found)
    loaded.trees = [tree for tree in trees if not tree.test]
    return json.dumps({"packages": loaded.packages, "tests": cases}).encode()


def _evaluate(loaded: _Loaded, document: bytes | bytearray, packages: list[str]) -> bytes:
    # A copy for each evaluation: nothing of one document is left for the next.
    engine = loaded.engine.clone()
    engine.set_input_json(document.decode())
    parts = []
    for package in packages:
        try:
            value = engine.eval_rule_as_json(f"data.{package}.results")
            answer = '{"error":"results is undefined"}' if value == _UNDEFINED else '{"value":' + value + "}"
        except Exception as error:  # noqa: BLE001  # the binding raises RuntimeError and more
            file, line, text = _reason(error)
            answer = json.dumps({"error": f"{file}:{line}: {text}" if file else text})
        parts.append(f"{json.dumps(package)}:{answer}")
    return ("{" + ",".join(parts) + "}").encode()


def _test(loaded: _Loaded, name: str) -> bytes:
    engine = loaded.engine.clone()
    engine.set_input_json("{}")
    try:
        value: str = engine.eval_rule_as_json(f"data.{name}")
    except Exception as error:  # noqa: BLE001  # the binding raises RuntimeError and more
        file, line, text = _reason(error)
        return json.dumps({"error": f"{file}:{line}: {text}" if file else text}).encode()
    return b'{"value":' + value.encode() + b"}"


def main() -> None:
    """Serve requests until the parent closes the pipe."""
    memory, largest, seconds = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
    out = confined.answers()
    kept = confined.confine(memory=memory)
    confined.send(out, json.dumps({"ready": True, "network": kept.network}).encode())
    loaded = _Loaded()
    while request := confined.receive(largest):
        confined.allow_cpu(seconds)
        kind, body = request[:1], request[1:]
        if kind == b"L":
            answer = _load(loaded, json.loads(body))
        elif kind == b"E":
            answer = _evaluate(loaded, body, loaded.packages)
        elif kind == b"P":
            names, _, document = body.partition(b"\n")
            wanted = set(json.loads(names))
            answer = _evaluate(loaded, document, [name for name in loaded.packages if name in wanted])
        elif kind == b"R":
            answer = json.dumps(Reader(loaded.trees).read(json.loads(body))).encode()
        elif kind == b"T":
            answer = _test(loaded, body.decode())
        else:
            return
        confined.send(out, answer)


if __name__ == "__main__":
    main()
