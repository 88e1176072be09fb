"""Stages, platforms and users, by what they are called."""

import re
from collections.abc import Iterator

from tidewaiter.lint.dockerfile.parse import Dockerfile
from tidewaiter.lint.finding import Edit, Found, Span
from tidewaiter.lint.rule import rule

_RESERVED = frozenset({"scratch", "context"})
_TARGET = frozenset({"$TARGETPLATFORM", "${TARGETPLATFORM}"})
_UID = re.compile(r"(?:-u|--uid)=?(?P<number>\d*)")
_LARGE = 6
"""Digits of a user's number from which on it matters."""


@rule("dockerfile/reserved-stage-name", "warning", hadolint=("DL3063",))
def reserved_stage_name(file: Dockerfile) -> Iterator[Found]:
    """A stage has a name that means something else.

    `FROM scratch` begins with nothing, and `context` is what BuildKit calls the files that are sent to a build. With a
    stage of that name nobody can tell which one a line means; BuildKit warns of it.
    """
    for stage in file.stages:
        if stage.name in _RESERVED:
            yield Found(
                span=stage.start.find(stage.start.args[-1]),
                message=f"{stage.name} already has a meaning in Dockerfiles.",
                remedy="Call the stage by what it is for.",
            )


@rule("dockerfile/redundant-platform", "info", hadolint=("DL3065",), mends=True)
def redundant_platform(file: Dockerfile) -> Iterator[Found]:
    """FROM asks for the platform that it would take anyway.

    Without the flag a stage is for the platform that is built for. Readers look for a reason that is not there.
    """
    for stage in file.stages:
        for value in stage.start.flags.get("platform", ()):
            if value in _TARGET:
                span = stage.start.find(f"--platform={value}")
                whole = Span(span.line, span.column, span.end_line, span.end_column + 1)
                blank = file.text.line(span.end_line)[span.end_column - 1 : span.end_column] == " "
                yield Found(
                    span=span,
                    message=f"{value} is what FROM takes without being told.",
                    remedy=f"Delete --platform={value}.",
                    edits=(Edit(whole, ""),) if blank and span != stage.start.span else (),
                )


@rule("dockerfile/user-by-name", "info", hadolint=("DL3066",))
def user_by_name(file: Dockerfile) -> Iterator[Found]:
    """The container runs as a user who is known by name only.

    Kubernetes does not look into the image for who that is: with `runAsNonRoot: true` it does not start the container,
    as it cannot tell that the user is not root. A number says so.
    """
    for one in file.last.inherited("USER")[-1:]:
        name = one.expand(one.args[0] if one.args else "").partition(":")[0]
        if name and not name.isdecimal() and name != "root" and "$" not in name and one in file.last.instructions:
            yield Found(
                span=one.span,
                message=f"With runAsNonRoot Kubernetes refuses to start this: {name} could be root's name.",
                remedy=f"Write the number of {name}, as in `USER 1000`.",
            )


@rule("dockerfile/large-user-number", "warning", hadolint=("DL3046",), mends=True)
def large_user_number(file: Dockerfile) -> Iterator[Found]:
    """A user with a large number makes the layer large.

    useradd writes into /var/log/lastlog and faillog at a place that grows with the number. On disk these files are
    nearly empty; in a layer they are as long as they look, hundreds of megabytes of zeros. `-l` leaves them out.
    """
    for stage in file.stages:
        for one in stage.all_of("RUN"):
            for command in one.commands:
                if command.program != "useradd" or any(_keeps_no_log(word) for word in command.arguments):
                    continue
                number = _number(tuple(one.expand(word) for word in command.arguments))
                if len(number.lstrip("0")) < _LARGE:
                    continue
                word = next(word for word in command.words if word.value.endswith("useradd"))
                yield Found(
                    span=one.span_of(command.start, command.end),
                    message=f"The logs of user {number} fill the layer with zeros.",
                    remedy="Add -l (--no-log-init).",
                    edits=one.option(word, "-l"),
                )


def _keeps_no_log(word: str) -> bool:
    return word == "--no-log-init" or re.fullmatch(r"-[a-zA-Z]*l[a-zA-Z]*", word) is not None


def _number(arguments: tuple[str, ...]) -> str:
    """The number that is asked for; empty when none is, or a variable says it."""
    for word, following in zip(arguments, (*arguments[1:], ""), strict=True):
        found = _UID.fullmatch(word)
        if found is not None:
            number = found["number"] or following
            return number if number.isdecimal() else ""
    return ""


@rule("dockerfile/copies-whole-filesystem", "info", hadolint=("DL3067",))
def copies_whole_filesystem(file: Dockerfile) -> Iterator[Found]:
    """A stage takes the whole file system of another.

    It is no smaller than the other one: compilers, caches and forgotten files come along. What comes not along is what
    is no file: ENV, USER, WORKDIR and ENTRYPOINT of the other stage.
    """
    for stage in file.stages:
        for one in () if stage.outside else stage.all_of("COPY"):
            source = next(iter(one.flags.get("from", ())), "")
            taken = file.stage(source) if source else None
            if taken is None or (taken.parent is None and not taken.instructions):
                continue  # an image may hold nothing but what is wanted, also under another name; a stage holds more
            if [path.strip("\"'") for path in one.args] == ["/", "/"]:
                yield Found(
                    span=one.span,
                    message=f"All of {source} is copied, and none of its settings.",
                    remedy=f"Copy the folders that are needed, or write `FROM {source}`.",
                )
