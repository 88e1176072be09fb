"""Dockerfiles cut into instructions, beside a library that follows BuildKit's parser letter by letter."""

import sys

import pytest
from e2b_dockerfile_utils import DockerfileSyntaxError, is_space, parse_dockerfile_ast
from hypothesis import example, given
from hypothesis import strategies as st

from tidewaiter.lint.dockerfile import syntax

_PIECES = (
    *("FROM a", "from  a\tAS b", "RUN ", "run", "COPY ", "ADD ", "ENV ", "LABEL ", "ARG ", "CMD ", "ENTRYPOINT "),
    *(
        "HEALTHCHECK ",
        "HEALTHCHECK\t--interval=3s CMD ",
        "EXPOSE 1 2/tcp",
        "USER x",
        "VOLUME ",
        "NOPE ",
    ),
    *("--mount=type=cache,target='/a b' ", '--chown="a\\"b" ', "--", "-- ", "--from=x", "--x=\\", "--x=`y ", "-", "- "),
    *(
        "\n",
        "\r\n",
        "\\\n",
        "\\ \t\n",
        "\\\\\n",
        "`\n",
        "\n\n",
        "# said\n",
        "  # said \\\n",
        "\\",
        "`",
        "\t",
        " ",
        "\xa0",
    ),
    *("\u2003", "\x1f", "\x0b", "'", '"', "=", "a=b", 'a="b c"', "a='b c", "a b", "$x", "${x:-y}", '["a", "b"]'),
    *("[1]", "[", "[]", '["a"', '{"a": 1}', "<<E", "<<-E", "<<'E'", '<<"E F"', "3<<E", "<<", "<", "E", "\tE", "\nE\n"),
    *("# escape=`\n", "# escape = x\n", "#syntax=docker/dockerfile:1\n", "# check=skip\n", "# escape=\\\n", "\ufeff"),
)
_TEXT = st.lists(st.sampled_from(_PIECES), max_size=14).map("".join)


def theirs(content: str) -> object:
    try:
        read = parse_dockerfile_ast(content)
    except (DockerfileSyntaxError, RecursionError) as error:
        return str(error), getattr(error, "line", None)
    return [
        (
            one.name,
            one.flags,
            one.args,
            one.json,
            [each.content for each in one.heredocs],
            one.start_line,
            one.end_line,
        )
        for one in read.instructions
    ], read.escape_token


def ours(content: str) -> object:
    try:
        found, escape = syntax.statements(content)
    except DockerfileSyntaxError as error:
        return str(error), error.line
    return [tuple(one)[:-1] for one in found], escape  # the last field is of ONBUILD, which the library does not read


@given(_TEXT)
@example("# escape=`\nFROM a\nRUN x `\n  # said\n\n  y\nCOPY 'a b' \"c `\" d\\")
@example('FROM a\nRUN <<A <<-B\none\nA\n\ttwo\n\tB\nENV a=\'\\\' b="\\"" c=\\')
@example("FROM a\nCOPY --from=b -- --c d\nENV x\nLABEL a=b c")
def test_a_text_is_cut_as_the_library_cuts_it(content: str) -> None:
    """Names, flags, arguments, here-documents, lines and errors are the same."""
    assert ours(content) == theirs(content)


def test_blanks_are_those_of_go() -> None:
    """Letters that separate are the library's, over all of Unicode."""
    assert set(syntax._BLANKS) == {chr(code) for code in range(sys.maxunicode + 1) if is_space(chr(code))}


def test_long_lines_take_no_longer_for_each_letter() -> None:
    """Quotes that never end, and escapes in rows, are read in one go."""
    for word in ('"', "'", "\\", '\\"', 'a="\\', "--x='"):
        content = f"FROM a\nENV a={word * 50_000}\n"
        assert ours(content) is not None


@pytest.mark.parametrize("depth", [100_000])
def test_arrays_within_arrays_are_refused_or_taken_as_a_shell(depth: int) -> None:
    """JSON that nests too deeply ends in an answer, not in a crash."""
    assert ours(f"FROM a\nCMD {'[' * depth}\n") is not None
