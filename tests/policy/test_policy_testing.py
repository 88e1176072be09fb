from pathlib import Path

import pytest
from policy_documents import PASSING, make_pack

from tidewaiter.core.errors import InputError
from tidewaiter.policy.pack import default_pack
from tidewaiter.policy.testing import run_tests


def test_default_pack_passes_its_own_tests() -> None:
    """Every test of the shipped pack passes in the embedded engine, and each rule has a passing and a failing case."""
    pack = default_pack()
    results = run_tests(pack)
    assert [item for item in results if item.status != "pass"] == []
    assert len(results) >= 30
    written = "".join(module.text for module in pack.tests)
    assert [rule.id for rule in pack.rules if f'fails(found, "{rule.id}"' not in written] == []
    assert [rule.id for rule in pack.rules if f'"{rule.id}"' not in written] == []


def test_false_undefined_broken_and_todo_tests_are_told_apart(tmp_path: Path) -> None:
    """A test passes only when it is true."""
    tests = """package p_test

import data.p

test_true if count(p.results) == 1

test_false := false

test_undefined if count(p.results) == 7

test_broken if to_number("x") == 1

test_document if {
	count(p.results) == 1 with input as {"image": {}}
}

todo_test_later if false

helper if false
"""
    results = run_tests(make_pack(tmp_path, {"p.rego": PASSING, "p_test.rego": tests}, "a.b"))
    assert {item.name.removeprefix("p_test."): item.status for item in results} == {
        "test_true": "pass",
        "test_false": "fail",
        "test_undefined": "fail",
        "test_broken": "error",
        "test_document": "pass",
        "todo_test_later": "todo",
    }
    assert {item.file for item in results} == {"p_test.rego"}


def test_typing_mistake_in_a_test_is_refused(tmp_path: Path) -> None:
    """A test that asks for a rule that does not exist would pass with `not`; it does not load."""
    tests = "package p_test\n\nimport data.p\n\ntest_it if not p.reslts\n"
    with pytest.raises(InputError, match=r"p_test\.rego:5: p\.reslts: neither a rule nor data"):
        run_tests(make_pack(tmp_path, {"p.rego": PASSING, "p_test.rego": tests}, "a.b"))
