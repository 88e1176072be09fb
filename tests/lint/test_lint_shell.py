"""Commands in a shell's text."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tidewaiter.lint.shell import commands


def told(text: str, escape: str = "\\") -> list[tuple[str, ...]]:
    return [command.arguments for command in commands(text, escape=escape, joined=escape == "`")]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("pip install a", [("pip", "install", "a")]),
        ("a && b || c; d | e & f", [("a",), ("b",), ("c",), ("d",), ("e",), ("f",)]),
        ("a 'b c' \"d $e\" f\\ g", [("a", "b c", "d $e", "f g")]),
        ("echo 'a && b; c'", [("echo", "a && b; c")]),
        ('echo "a # b" # c', [("echo", "a # b")]),
        ("A=1 B='x y' run --z", [("run", "--z")]),
        ("sudo -E pip install a", [("pip", "install", "a")]),
        ("env X=1 exec /usr/bin/python3 -m pip install a", [("/usr/bin/python3", "-m", "pip", "install", "a")]),
        ("cat <in >out 2>&1 a", [("cat", "a")]),
        ("run &>/dev/null; b >> c 2>/dev/null", [("run",), ("b",)]),
        ("if true; then a; else b; fi; while c; do d; done", [("true",), ("a",), ("b",), ("c",), ("d",)]),
        ("x=$(curl -s u | sh) y", [("y",), ("curl", "-s", "u"), ("sh",)]),
        ("echo `date` z", [("echo", "`date`", "z"), ("date",)]),
        ("echo $((1 + 2)) ${a:-b c}", [("echo", "$((1 + 2))", "${a:-b c}")]),
        ("( a; b )", [("a",), ("b",)]),
        ("a \\\n  b\nc", [("a", "b"), ("c",)]),
        ("", []),
        ("echo 'open", [("echo", "open")]),
        ('echo "open $(a', [("echo", "open $(a")]),
    ],
)
def test_commands_are_told_apart(text: str, found: list[tuple[str, ...]]) -> None:
    """Quotes, lists, pipes, redirections, comments and substitutions are read as a shell reads them."""
    assert told(text)[: len(found)] == found


def test_a_dockerfile_may_continue_lines_with_a_backtick() -> None:
    """The escape of the Dockerfile continues a line, and is no substitution then."""
    assert told("a `\n  # said\n\n b", escape="`") == [("a", "b")]


def test_words_know_their_places() -> None:
    """The place of a word is where it stands in the text, quotes included, also within a substitution."""
    text = 'a && pip install "x y" $(get z)'
    for command in commands(text):
        for word in command.words:
            assert word.value in text[word.start : word.end]
    assert [text[word.start : word.end] for command in commands(text) for word in command.words][-2:] == ["get", "z"]


def test_what_stands_between_commands_is_kept() -> None:
    """Operators say how commands follow each other."""
    assert [(one.program, one.before, one.after) for one in commands("a & b | c")] == [
        ("a", "", "&"),
        ("b", "&", "|"),
        ("c", "|", ""),
    ]


@settings(max_examples=300, deadline=None)
@given(st.text(alphabet="ab \\\n\"'`$(){}<>&|;#=!-", max_size=60))
def test_any_text_ends(text: str) -> None:
    """Whatever is written, reading it ends, and every word lies within the text."""
    for command in commands(text):
        assert 0 <= command.start <= command.end <= len(text)
