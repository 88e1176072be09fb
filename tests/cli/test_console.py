"""What commands print."""

import threading

import pytest

from tidewaiter.cli import console


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (12_345_678, "12.3 MB"), (5 * 10**12, "5.0 TB")]
)
def test_sizes(count: int, text: str) -> None:
    """Bytes are shown in powers of ten with one decimal."""
    assert console.size(count) == text


def test_control_characters_do_not_reach_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    """Escape sequences in foreign names are replaced."""
    console.emit("name\x1b[31m\nnext")
    assert capsys.readouterr().out == "name?[31m?next\n"


def test_invisible_and_steering_characters_are_shown_as_question_marks() -> None:
    """DEL, C1 controls, right-to-left overrides and lone surrogates go; letters of every script stay."""
    assert console.shown("a\x7f\x9b\u202e\u200b\udcff\u2028b") == "a??????b"
    assert console.shown("模型\u3000é\tx") == "模型\u3000é\tx"


def test_errors_and_notes_are_as_harmless_as_data(capsys: pytest.CaptureFixture[str]) -> None:
    """What goes to stderr keeps its lines and loses escape sequences."""
    console.tell("one\x1b[2J\n  two\x9b")
    assert capsys.readouterr().err == "one?[2J\n  two?\n"


def test_table_columns_line_up(capsys: pytest.CaptureFixture[str]) -> None:
    """Columns start at the same place in every row, and no line ends in blanks."""
    console.table(("a", "long header"), [("wide cell", "x"), ("b", "")])
    assert capsys.readouterr().out == "a          long header\nwide cell  x\nb\n"


def test_progress_from_many_threads() -> None:
    """Tasks may be opened and advanced from any thread, nested and at once."""
    bars = console.BarProgress()

    def work() -> None:
        with bars.task("one", total=10_000_000, unit="bytes") as outer, bars.task("two", total=3) as inner:
            for _ in range(10):
                outer.advance(1_000_001)
            inner.describe("still two")
            inner.advance()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert not any(thread.is_alive() for thread in threads)
