"""Many files in several processes."""

import os
from collections.abc import Iterator

import pytest

from tidewaiter.core import limits
from tidewaiter.core.errors import UndeterminedError
from tidewaiter.core.project import LintSection
from tidewaiter.lint import many
from tidewaiter.lint.check import check
from tidewaiter.lint.files import Source

COUNT = 200


@pytest.fixture(autouse=True)
def _few_are_many(monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes are started from fewer files on, so that these tests are short."""
    monkeypatch.setattr(limits, "LINT_ALONE", 100)


def sources() -> list[Source]:
    return [Source(f"{number}/Dockerfile", "dockerfile", f"FROM a:{number}\nUSER root\n") for number in range(COUNT)]


def test_several_processes_find_what_one_finds() -> None:
    """Files come back in their order, each with its findings, as one process has them; settings hold there too."""
    wanted = LintSection(severity={"dockerfile/root-user": "error"})
    expected = [(source, check(source, wanted)) for source in sources()]
    assert any(one.severity == "error" for one in expected[0][1])
    assert list(many.check_all(sources(), wanted, processes=2)) == expected


def test_few_files_start_no_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Below the bound nothing is started: starting takes longer than looking."""

    def never(*_: object, **__: object) -> None:
        raise AssertionError("a process was started")

    monkeypatch.setattr(many, "ProcessPoolExecutor", never)
    few = sources()[: limits.LINT_ALONE - 1]
    assert [source for source, _ in many.check_all(few, LintSection(), processes=2)] == few


def test_files_are_read_as_they_are_needed() -> None:
    """Of very many files only some batches are held at once."""
    taken = 0

    def endless() -> Iterator[Source]:
        nonlocal taken
        while True:
            taken += 1
            yield Source("Dockerfile", "dockerfile", "FROM a:1\n")

    reading = many.check_all(endless(), LintSection(), processes=2)
    next(reading)
    reading.close()
    assert taken <= limits.LINT_ALONE + 5 * many._BATCH


class _Ending:
    """Ends the process that it is sent to."""

    def __reduce__(self) -> tuple[object, tuple[int]]:
        return os._exit, (1,)


def test_a_process_that_ends_is_no_answer() -> None:
    """What was not looked at is not said to be without findings."""
    with pytest.raises(UndeterminedError, match="ended before it answered"):
        list(many.check_all(sources(), _Ending(), processes=2))  # type: ignore[arg-type]  # ends whoever reads it
