"""Dockerfiles as rules read them."""

import pytest
from e2b_dockerfile_utils import ShellLex
from hypothesis import given
from hypothesis import strategies as st

from tidewaiter.core.errors import InputError
from tidewaiter.lint.dockerfile.parse import Dockerfile, _expanded, parse
from tidewaiter.lint.finding import Span
from tidewaiter.lint.text import Text

MANY = """\
ARG TF=2.15.0
ARG BASE=tensorflow/tensorflow
FROM ${BASE}:${TF}-gpu AS Build
ENV HOME_OF=/opt
ENV HOME_OF=/other PATH="$HOME_OF/bin:$PATH"
ENV HOME_OF=/opt
ARG TF
RUN --mount=type=cache,target=/var/cache \\
    # said in between
    apt-get update && \\
    apt-get install -y gcc
FROM build
ARG TF
COPY --from=build --chown=1:1 /a /b
WORKDIR $HOME_OF/x
RUN <<END
set -e
pip install x
END
CMD ["sh", "-c", "python train.py & tensorboard"]
"""


def parsed(content: str) -> Dockerfile:
    return parse(Text("Dockerfile", content))


def test_stages_stand_on_each_other() -> None:
    """A stage that is named in FROM is the parent of the next, and the image below both is known."""
    file = parsed(MANY)
    assert [(stage.name, stage.base, stage.image) for stage in file.stages] == [
        ("build", "tensorflow/tensorflow:2.15.0-gpu", "tensorflow/tensorflow:2.15.0-gpu"),
        ("", "build", "tensorflow/tensorflow:2.15.0-gpu"),
    ]
    assert [stage.index for stage in file.runtime] == [1, 0]
    assert file.stage("BUILD") is file.stages[0]
    assert file.stage("1") is file.stages[1]
    assert file.stage("missing") is None


def test_variables_mean_what_they_mean_there() -> None:
    """ENV goes on into the next stage and counts from the next instruction on; ARG must be said again."""
    file = parsed(MANY)
    workdir = next(file.last.all_of("WORKDIR"))
    assert workdir.expand(workdir.args[0]) == "/opt/x"
    assert workdir.expand("$TF $UNKNOWN") == "2.15.0 $UNKNOWN"
    run = next(file.stages[0].all_of("RUN"))
    assert run.expand("$PATH") == "/opt/bin:$PATH"


def test_commands_have_their_lines() -> None:
    """Each command of RUN knows where it stands, across continued lines, comments and here-documents."""
    file = parsed(MANY)
    run = next(file.stages[0].all_of("RUN"))
    assert [(one.arguments, run.span_of(one.start, one.end)) for one in run.commands] == [
        (("apt-get", "update"), Span(10, 5, 10, 19)),
        (("apt-get", "install", "-y", "gcc"), Span(11, 5, 11, 27)),
    ]
    heredoc = next(file.last.all_of("RUN"))
    assert [(one.program, heredoc.span_of(one.start, one.end).line) for one in heredoc.commands] == [
        ("set", 17),
        ("pip", 18),
    ]


def test_a_shell_in_exec_form_is_looked_into() -> None:
    """`["sh", "-c", …]` is what that shell is given."""
    file = parsed(MANY)
    command = next(file.last.all_of("CMD"))
    assert [(one.program, one.after) for one in command.commands] == [("python", "&"), ("tensorboard", "")]
    plain = parsed('FROM a\nCMD ["python", "train.py && x"]\n')
    assert [one.arguments for one in next(plain.last.all_of("CMD")).commands] == [("python", "train.py && x")]


def test_flags_are_read() -> None:
    """Flags are known by name."""
    copy = next(parsed(MANY).last.all_of("COPY"))
    assert copy.flags == {"from": ["build"], "chown": ["1:1"]}


@pytest.mark.parametrize(
    ("content", "line"),
    [
        ("", 1),
        ("RUN x\n", 1),
        ("FROM a\nRUN <<END\nnever ends\n", 2),
    ],
)
def test_what_buildkit_refuses_is_refused(content: str, line: int) -> None:
    """The error says the line."""
    with pytest.raises(InputError, match=f"^Dockerfile:{line}: "):
        parsed(content)


_VALUES = st.lists(
    st.sampled_from(
        ("a", "/b c", "$A", "${A}", "$AB", "${B:-x}", "$1", "${1}", "$$", "$", '"', "'", "\\", "`", "<<", "{", "}", "é")
    ),
    max_size=8,
).map("".join)


@given(_VALUES, st.sampled_from(("\\", "`")))
def test_plain_values_are_filled_in_as_the_library_does_it(value: str, escape: str) -> None:
    """The short way for values without escapes ends where BuildKit's lexer ends; what that refuses stays as it is."""
    variables = {"A": 'one "two" $B', "B": ""}
    try:
        expected = ShellLex(escape, env=variables).process_word(value)
    except ValueError:
        expected = value
    assert _expanded(value, variables, escape) == expected
