"""The process that runs Rego: started by `engine`, without keys, environment, files or network.

Frames both ways are a length (four bytes, big-endian) and that many bytes. The first byte of a request says what it
is: `L` loads a pack, `E` evaluates a document, `T` runs one test. Answers are JSON. Only the standard library and the
engine are imported here, so that a child starts fast and holds little that could be misused.
"""

import ctypes
import json
import os
import re
import resource
import sys

import regorus

from tidewaiter.policy import shapes, syntax
from tidewaiter.policy.check import Checker

_CLONE_NEWUSER = 0x10000000
_CLONE_NEWNET = 0x40000000
_PR_SET_NO_NEW_PRIVS = 38
_ERROR = re.compile(r"--> (.+):(\d+):\d+\n(?:.*\n)*?error: (.*)")
_MESSAGE = 500


class _Loaded:
    """The pack of this child: an engine that holds it, packages that give results, names of the tests."""

    def __init__(self) -> None:
        self.engine = regorus.Engine()
        self.packages: list[str] = []


def _isolate(address_space: int) -> bool:
    """Give up what evaluating a rule does not need; whether the network is gone."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    # A new user namespace lets an ordinary user leave the network; hosts may forbid it, and then this is left out.
    apart: bool = libc.unshare(_CLONE_NEWUSER | _CLONE_NEWNET) == 0 or libc.unshare(_CLONE_NEWNET) == 0
    for kind, value in (
        (resource.RLIMIT_AS, address_space),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_NPROC, 0),
        # No further file: also the name look-up and any socket end here.
        (resource.RLIMIT_NOFILE, 0),
    ):
        resource.setrlimit(kind, (value, value))
    return apart


def _allow_cpu(seconds: float) -> None:
    """End this process some seconds of computing from now, should the parent not be there to do it."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    soft = int(used.ru_utime + used.ru_stime + seconds) + 2
    resource.setrlimit(resource.RLIMIT_CPU, (soft, resource.getrlimit(resource.RLIMIT_CPU)[1]))


def _read(size: int) -> bytes:
    """Exactly `size` bytes; empty at the end of the input."""
    parts = bytearray()
    while len(parts) < size:
        part = os.read(0, min(size - len(parts), 1 << 20))
        if not part:
            return b""
        parts += part
    return bytes(parts)


def _write(out: int, data: bytes) -> None:
    frame = memoryview(len(data).to_bytes(4, "big") + data)
    while frame:
        frame = frame[os.write(out, frame) :]


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
    return _contents(loaded, trees)


def _contents(loaded: _Loaded, trees: list[syntax.Module]) -> bytes:
    """Remember the packages that give results; they and the tests, as the answer."""
    found: dict[str, None] = {}
    cases = []
    for tree in trees:
        package = ".".join(tree.package)
        for rule in tree.rules:
            name = syntax.names(syntax.head(rule)[1]["refr"])[0]
            if name == "results" and not tree.test:
                found[package] = None
            if tree.test and name.startswith(("test_", "todo_test_")):
                cases.append({"file": tree.file, "name": f"{package}.{name}"})
    loaded.packages = sorted(found)
    return json.dumps({"packages": loaded.packages, "tests": cases}).encode()


def _evaluate(loaded: _Loaded, document: bytes) -> bytes:
    # A copy for each evaluation: nothing of one document is left for the next.
    engine = loaded.engine.clone()
    engine.set_input_json(document.decode())
    parts = []
    for package in loaded.packages:
        try:
            answer = '{"value":' + engine.eval_rule_as_json(f"data.{package}.results") + "}"
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
    address_space, largest, seconds = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
    # Whatever a library prints must not land between two frames.
    out = os.dup(1)
    os.dup2(2, 1)
    apart = _isolate(address_space)
    _write(out, json.dumps({"ready": True, "network": not apart}).encode())
    loaded = _Loaded()
    while header := _read(4):
        size = int.from_bytes(header, "big")
        if size > largest:
            return
        request = _read(size)
        _allow_cpu(seconds)
        kind, body = request[:1], request[1:]
        if kind == b"L":
            answer = _load(loaded, json.loads(body))
        elif kind == b"E":
            answer = _evaluate(loaded, body)
        elif kind == b"T":
            answer = _test(loaded, body.decode())
        else:
            return
        _write(out, answer)


if __name__ == "__main__":
    main()
