"""A Dockerfile as rules read it: stages, instructions with their places, variables filled in, commands of `RUN`.

`syntax` cuts the text. What follows from it is worked out here: which stage stands on which, which stages the last one
is made of, and what an `ARG` or `ENV` means where it is used.
"""

import json
import re
from collections.abc import Iterator, Mapping
from functools import cached_property

from e2b_dockerfile_utils import DockerfileSyntaxError, ShellLex

from tidewaiter.core.errors import InputError
from tidewaiter.lint.dockerfile.syntax import Statement, statements
from tidewaiter.lint.finding import Edit, Span
from tidewaiter.lint.shell import Command, Word, commands
from tidewaiter.lint.text import Text

_PLATFORM = {
    f"{side}{word}": value
    for side in ("TARGET", "BUILD")
    for word, value in (("PLATFORM", "linux/amd64"), ("OS", "linux"), ("ARCH", "amd64"))
}
_RUNS = frozenset({"RUN", "CMD", "ENTRYPOINT", "HEALTHCHECK"})


_HEAD = {letter: re.compile(rf"(?:[ \t]*(?:{re.escape(letter)}[^\S\n]*\n|--\S*))*[ \t]*") for letter in ("\\", "`")}
"""What stands between the name of an instruction and its arguments: flags, and ends of lines that it goes on over."""
_ONBUILD = {
    letter: re.compile(
        rf"ONBUILD(?:[^\S\n]|{re.escape(letter)}[ \t]*\r?\n(?:[^\S\n]*(?:#[^\n]*)?\r?\n)*)+", re.IGNORECASE
    )
    for letter in ("\\", "`")
}
"""What stands in front of an instruction that is put off."""
_VARIABLE = re.compile(r"\"|\$(?:\{([A-Za-z_]\w*)\}|([A-Za-z_]\w*))", re.ASCII)


class Instruction:
    """One instruction, in the stage that it belongs to."""

    def __init__(
        self, text: Text, said: Statement, escape: str, variables: Mapping[str, str], *, before: int = 0
    ) -> None:
        self._before = before
        """Characters of `ONBUILD` in front of its name."""
        self._text = text
        self._said = said
        self._escape = escape
        self._variables = variables
        self.name = said.name
        """In capitals; for `ONBUILD RUN …` it is `ONBUILD`."""
        self.put_off = said.put_off
        """What stands behind `ONBUILD`, as it was cut; None for what is no instruction, and in all others."""
        self.args = said.args
        """As BuildKit cuts them; of `ENV` and `LABEL` triples of key, value, and `=` or nothing."""
        self.json = said.json
        """Whether it is in exec form."""
        self.lines = (said.start_line, said.end_line)
        self.heredocs = said.heredocs
        """The texts behind `<<NAME`."""

    @property
    def span(self) -> Span:
        """All of it, with `ONBUILD` where that puts it off."""
        return self._text.whole(*self.lines)

    @property
    def keyword(self) -> Span:
        """Where its name stands."""
        start = self._named
        return self.span_of(start, start + len(self.name))

    @cached_property
    def _named(self) -> int:
        """How many characters of the file stand before its name."""
        line = self._text.line(self.lines[0])
        return self._text.offset(self.lines[0], 1) + len(line) - len(line.lstrip()) + self._before

    @cached_property
    def flags(self) -> dict[str, list[str]]:
        """`--name=value`, by name; an empty value when there is none."""
        found: dict[str, list[str]] = {}
        for flag in self._said.flags:
            name, _, value = flag.removeprefix("--").partition("=")
            found.setdefault(name, []).append(value)
        return found

    def find(self, word: str) -> Span:
        """Where that stands in it; all of it when it does not."""
        return self._text.find(word, *self.lines)

    def expand(self, value: str) -> str:
        """The value with what `ARG` and `ENV` say up to here; what nobody says stays as it is written."""
        return _expanded(value, self._variables, self._escape)

    @cached_property
    def _source(self) -> tuple[int, str]:
        """The text behind name and flags, and how many characters of the file stand before it."""
        text, last = self._text, self.lines[1]
        start = self._named + len(self.name)
        end = text.offset(last, len(text.line(last)) + 1)
        head = _HEAD[self._escape].match(text.content, start, end)
        start = head.end() if head else end
        return start, text.content[start:end]

    @cached_property
    def commands(self) -> tuple[Command, ...]:
        """Simple commands of a `RUN`, `CMD`, `ENTRYPOINT` or `HEALTHCHECK`; places count from the file's beginning.

        The exec form is one command, unless it starts a shell with `-c`: then it is what that shell is given.
        """
        if self.name not in _RUNS:
            return ()
        offset, source = self._source
        if self.json:
            shell = len(self.args) > 2 and self.args[0].rpartition("/")[2] in {"sh", "bash", "ash", "dash"}
            if shell and "c" in self.args[1]:
                return self._of_shell(self.args[2])
            words = tuple(_at(self._text, self.find(f'"{one}"'), one) for one in self.args)
            return (Command(words, (), "", ""),) if words else ()
        if not self.heredocs:
            return tuple(commands(source, escape=self._escape, joined=True, offset=offset))
        # `RUN <<EOF` runs the text; `RUN cat <<EOF` feeds it to a command, which is seen as well.
        head, _, body = source.partition("\n")
        if not head.lstrip().startswith("<<"):
            return tuple(commands(head, escape=self._escape, joined=True, offset=offset))
        body = "".join(body.splitlines(keepends=True)[: self.heredocs[0].count("\n")])
        return tuple(commands(body, offset=offset + len(head) + 1))

    def _of_shell(self, said: str) -> tuple[Command, ...]:
        """The commands of a text in exec form; all at the place of the instruction where JSON's escapes shift words."""
        span = self.find(f'"{said}"')
        start, end = (
            self._text.offset(*place) for place in ((span.line, span.column), (span.end_line, span.end_column))
        )
        if self._text.content[start:end] == f'"{said}"':
            return tuple(commands(said, offset=start + 1))
        return tuple(_placed(commands(said), self._text, self.span))

    def option(self, word: Word, option: str) -> tuple[Edit, ...]:
        """The edit that puts an option behind a word of a command; none where that word has no place of its own."""
        here = self.span_of(word.end, word.end)
        written = self._text.content[word.start : word.end]
        if self.json and written == json.dumps(word.value):
            return (Edit(here, f", {json.dumps(option)}"),)
        return (Edit(here, f" {option}"),) if written == word.value or not self.json else ()

    def span_of(self, start: int, end: int) -> Span:
        """The span of these characters of the file, as words and commands name them."""
        return Span(*self._text.place(start), *self._text.place(end))


def _at(text: Text, span: Span, value: str) -> Word:
    return Word(value, text.offset(span.line, span.column), text.offset(span.end_line, span.end_column), quoted=True)


def _placed(found: Iterator[Command], text: Text, span: Span) -> Iterator[Command]:
    """Commands of a quoted text, all at the place of its instruction."""
    for one in found:
        yield Command(
            tuple(_at(text, span, word.value) for word in one.words),
            tuple(_at(text, span, word.value) for word in one.assignments),
            one.before,
            one.after,
        )


def _expanded(value: str, variables: Mapping[str, str], escape: str) -> str:
    simple = "'" not in value and escape not in value
    if simple and '"' not in value and "$" not in value:
        return value
    if simple and value.isascii() and value.count('"') % 2 == 0:
        names = _VARIABLE.findall(value)
        if value.count("$") == sum(map(any, names)):
            return _VARIABLE.sub(lambda found: _filled(found, variables), value)
    try:
        return str(ShellLex(escape, env=variables).process_word(value))
    except (ValueError, KeyError):
        return value


def _filled(found: re.Match[str], variables: Mapping[str, str]) -> str:
    """What stands in the place of a variable; nothing in that of a quote."""
    name = found[1] or found[2]
    return variables.get(name, found[0]) if name else ""


class Stage:
    """What stands between one `FROM` and the next."""

    def __init__(
        self, index: int, start: Instruction, *, name: str, base: str, parent: "Stage | None", outside: bool = False
    ) -> None:
        self.index = index
        self.outside = outside
        """Whether it is a build in another file, `FROM` an image of this one: what ONBUILD puts off runs there."""
        self.start = start
        """Its `FROM`."""
        self.name = name
        """As `AS` says it, in small letters; empty without."""
        self.base = base
        """The image or stage that it stands on, variables filled in."""
        self.parent = parent
        """The stage that it stands on, when it is one."""
        self.instructions: list[Instruction] = []
        """Without `FROM`."""
        self.later: list[Instruction] = []
        """What `ONBUILD` puts off until another image or stage stands on this one."""
        self._by_name: dict[str, list[Instruction]] = {}

    def add(self, one: Instruction) -> None:
        """Put an instruction behind the others."""
        self.instructions.append(one)
        self._by_name.setdefault(one.name, []).append(one)

    @property
    def image(self) -> str:
        """The image at the bottom of it."""
        return self.parent.image if self.parent is not None else self.base

    def lineage(self) -> Iterator["Stage"]:
        """It, and what it stands on, upwards from it."""
        stage: Stage | None = self
        while stage is not None:
            yield stage
            stage = stage.parent

    def all_of(self, *names: str) -> Iterator[Instruction]:
        """Its own instructions with one of these names, in order."""
        if len(names) == 1:  # as nearly every rule asks
            return iter(self._by_name.get(names[0], ()))
        return (one for one in self.instructions if one.name in names)

    def inherited(self, *names: str) -> list[Instruction]:
        """Those instructions of the stages below it and of itself, in the order in which they take effect."""
        if self.parent is None:  # as most are
            return list(self.all_of(*names))
        return [one for stage in reversed(list(self.lineage())) for one in stage.all_of(*names)]

    def until(self, end: Instruction, name: str) -> list[Instruction]:
        """Those that take effect before `end`, one of its own."""
        here = self.instructions[: self.instructions.index(end)]
        return [*(self.parent.inherited(name) if self.parent else ()), *(one for one in here if one.name == name)]


class Dockerfile:
    """A parsed Dockerfile."""

    def __init__(
        self,
        text: Text,
        stages: list[Stage],
        *,
        escape: str,
        head: list[Instruction],
        outside: tuple["Dockerfile", ...] = (),
    ) -> None:
        self.text = text
        self.outside = outside
        """The same with one stage more, which stands on one of this file's and does what that puts off."""
        self.stages = stages
        self.escape = escape
        self.head = head
        """`ARG` before the first `FROM`."""

    @property
    def last(self) -> Stage:
        """The stage that is built when nobody names another."""
        return self.stages[-1]

    @property
    def runtime(self) -> list[Stage]:
        """The stages whose layers are in the image: the last one and what it stands on."""
        return list(self.last.lineage())

    def stage(self, name: str) -> Stage | None:
        """The stage of that name or number."""
        wanted = name.lower()
        return next((one for one in self.stages if wanted in {one.name or None, str(one.index)}), None)

    @property
    def instructions(self) -> Iterator[Instruction]:
        """All of them, `FROM` included, in order."""
        yield from self.head
        for stage in self.stages:
            yield stage.start
            yield from stage.instructions


class _Builder:
    """Reads the instructions in order, and what variables mean by then."""

    def __init__(self, text: Text, escape: str, *, triggers: bool) -> None:
        self._text = text
        self._escape = escape
        self._triggers = triggers
        self._put_off: list[list[Statement]] = []
        """Of each stage, in order."""
        self._globals: dict[str, str] = dict(_PLATFORM)
        self._variables: dict[str, str] = self._globals
        self.stages: list[Stage] = []
        self.head: list[Instruction] = []
        self._scopes: list[dict[str, str]] = []

    def add(self, said: Statement) -> None:
        if said.name == "FROM":
            self._begin(said)
            return
        one = Instruction(self._text, said, self._escape, self._variables)
        if self.stages:
            self.stages[-1].add(one)
            if said.name == "ONBUILD":
                self._put_off[-1].append(said)
                self.stages[-1].later += self._triggered(said)
        else:
            self.head.append(one)
        self._learn(one)

    def _triggered(self, said: Statement) -> Iterator[Instruction]:
        """What stands behind `ONBUILD`, as an instruction of its own; nothing for what no build takes."""
        text, first = self._text, said.start_line
        indentation = len(text.line(first)) - len(text.line(first).lstrip())
        head = _ONBUILD[self._escape].match(text.content, text.offset(first, 1) + indentation)
        if head is None or said.put_off is None or misses(said.put_off):
            return
        if text.content[head.end() : head.end() + len(said.put_off.name)].upper() == said.put_off.name:
            yield Instruction(text, said.put_off, self._escape, self._variables, before=len(head[0]))

    def _trigger(self, stage: Stage, put_off: list[Statement]) -> None:
        """Do in a stage what the one below it puts off."""
        for said in put_off:
            for one in self._triggered(said):
                stage.add(one)
                self._learn(one)

    def outside(self) -> Iterator[Dockerfile]:
        """The file, and a build that stands on a stage that puts something off, for each that none here stands on."""
        taken = {stage.parent for stage in self.stages}
        for stage, put_off in zip(tuple(self.stages), self._put_off, strict=True):
            if put_off and (stage not in taken or stage is self.stages[-1]):
                self._variables = dict(_PLATFORM) | self._environment(stage)
                added = Stage(len(self.stages), stage.start, name="", base=stage.base, parent=stage, outside=True)
                self._trigger(added, put_off)
                yield Dockerfile(self._text, [*self.stages, added], escape=self._escape, head=self.head)

    def _begin(self, said: Statement) -> None:
        start = Instruction(self._text, said, self._escape, self._globals)
        args = said.args
        base = start.expand(args[0]) if args else ""
        name = args[2].lower() if len(args) > 2 and args[1].lower() == "as" else ""
        parent = next((one for one in self.stages if one.name and one.name == base.lower()), None)
        # `ENV` of the stage below holds here, its `ARG` does not.
        self._variables = dict(_PLATFORM) | (self._environment(parent) if parent is not None else {})
        self.stages.append(Stage(len(self.stages), start, name=name, base=base, parent=parent))
        self._put_off.append([])
        if self._triggers and parent is not None:
            self._trigger(self.stages[-1], self._put_off[parent.index])

    def _environment(self, stage: Stage) -> dict[str, str]:
        found: dict[str, str] = {}
        for one in stage.inherited("ENV"):
            found.update({key: one.expand(value) for key, value in zip(one.args[::3], one.args[1::3], strict=False)})
        return found

    def _learn(self, one: Instruction) -> None:
        learned: dict[str, str] = {}
        if one.name == "ENV":
            learned = {key: one.expand(value) for key, value in zip(one.args[::3], one.args[1::3], strict=False)}
        elif one.name == "ARG":
            for arg in one.args:
                key, sign, value = arg.partition("=")
                if sign:
                    learned[key] = one.expand(value)
                elif self.stages and key in self._globals:
                    learned[key] = self._globals[key]
        if learned:  # instructions hold what was known before them
            self._variables = self._variables | learned
            if not self.stages:
                self._globals = self._variables


def misses(one: Statement) -> str:
    """What BuildKit says about the arguments; empty when it takes them."""
    if one.name in {"COPY", "ADD"} and len(one.args) < 2:
        return f"{one.name} needs a source and a destination"
    if one.name == "FROM" and len(one.args) not in {1, 3}:
        return "FROM needs an image, or an image, AS and a name"
    return ""


def parse(text: Text, *, triggers: bool = False) -> Dockerfile:
    """The Dockerfile in the text.

    Args:
        text: all of it.
        triggers: whether what ONBUILD puts off is also done, where stages of the file and other files stand on it.

    Raises:
        InputError: BuildKit would refuse it; the message starts with path and line.
    """
    try:
        parsed, escape = statements(text.content)
    except DockerfileSyntaxError as error:
        line = error.line or 1
        raise InputError(
            f"{text.path}:{line}: {error}", next_step="Mend this line; BuildKit refuses it, too.", code="bad_dockerfile"
        ) from error
    builder = _Builder(text, escape, triggers=triggers)
    for one in parsed:
        if problem := misses(one):
            raise InputError(
                f"{text.path}:{one.start_line}: {problem}",
                next_step="Mend this line; BuildKit refuses it, too.",
                code="bad_dockerfile",
            )
        builder.add(one)
    if not builder.stages:
        raise InputError(
            f"{text.path}:1: there is no FROM", next_step="Begin with `FROM IMAGE`.", code="bad_dockerfile"
        )
    outside = tuple(builder.outside()) if triggers else ()
    return Dockerfile(text, builder.stages, escape=escape, head=builder.head, outside=outside)
