"""Runs a pack's own tests (`test_…` rules of `*_test.rego`) in the embedded engine."""

from typing import Literal

import msgspec

from tidewaiter.policy.engine import EmbeddedEngine, PackageAnswer
from tidewaiter.policy.pack import Pack
from tidewaiter.policy.process import ChildError


class TestResult(msgspec.Struct, frozen=True, kw_only=True):
    """How one test came out: `fail` when the rule is false or undefined, `error` when it could not be evaluated."""

    __test__ = False

    name: str
    file: str
    status: Literal["pass", "fail", "error", "todo"]
    reason: str = ""


def run_tests(pack: Pack, *, inside: str = "") -> tuple[TestResult, ...]:
    """Results of all tests of `pack`, by file and name. `todo_test_…` rules are listed and not run.

    Args:
        pack: one pack, or layers of them.
        inside: only the tests of the layer with this name; they may use what stands in the tests of others.

    Raises:
        InputError: the pack or its tests do not load; the message starts with file and line.
        ChildError: no child could load the pack in time.
    """
    results = []
    with EmbeddedEngine(pack, with_tests=True) as engine:
        cases = {case for case in engine.tests if not inside or case.file.startswith(f"{inside}/")}
        for case in sorted(cases, key=lambda case: (case.file, case.name)):
            if case.name.rpartition(".")[2].startswith("todo_"):
                results.append(TestResult(name=case.name, file=case.file, status="todo"))
                continue
            try:
                status, reason = _judge(engine.run_test(case.name))
            except ChildError as error:
                status, reason = "error", error.message
            results.append(TestResult(name=case.name, file=case.file, status=status, reason=reason))
    return tuple(results)


def _judge(answer: PackageAnswer) -> tuple[Literal["pass", "fail", "error"], str]:
    if answer.error:
        return "error", answer.error
    value = bytes(answer.value)
    return ("pass", "") if value == b"true" else ("fail", f"it gave {value[:200].decode(errors='replace')}")
