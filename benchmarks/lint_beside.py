"""Findings of hadolint beside ours, one by one: the same mistake in the same instruction, or why only one says it.

What hadolint's rules are to us stands in docs/reference/lint-hadolint.md: rules of ours, or why there is none.
"""

import bisect
import collections
import itertools
import json
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from tidewaiter.core.errors import InputError
from tidewaiter.lint import kinds
from tidewaiter.lint.dockerfile.parse import Dockerfile, Instruction, Stage, parse
from tidewaiter.lint.files import Source
from tidewaiter.lint.finding import Finding
from tidewaiter.lint.requirement import TOOLS, PipInstall, is_pinned, pip_install
from tidewaiter.lint.rule import RULES
from tidewaiter.lint.text import Text

TABLE = Path(__file__).parents[1] / "docs/reference/lint-hadolint.md"
_ROW = re.compile(r"^\| (DL\d{4}) \| ([^|]+) \|$", re.MULTILINE)


class Said(NamedTuple):
    """A finding of hadolint."""

    path: str
    line: int
    code: str


class Place(NamedTuple):
    """An instruction of a file."""

    file: Dockerfile
    stage: Stage | None
    """None in front of the first FROM."""
    one: Instruction


Reason = tuple[str, Callable[[Place], bool]]


def _not_in_image(place: Place) -> bool:
    return place.stage is not None and place.stage not in place.file.runtime


def _always(_: Place) -> bool:
    return True


def _installs(place: Place) -> list[PipInstall]:
    return [found for command in place.one.commands if (found := pip_install(command)) is not None]


def _installers_only(place: Place) -> bool:
    return all(
        is_pinned(wanted) or wanted.name.lower() in TOOLS for found in _installs(place) for _, wanted in found.wanted
    )


def _variable(place: Place) -> bool:
    return any("$" in arg for arg in place.one.args)


def _base_unknown(place: Place) -> bool:
    return place.stage is not None and "$" in place.stage.image


def _earlier(place: Place) -> bool:
    """Whether an earlier COPY of the stage is the one that is reported."""
    return place.stage is not None and any(
        one is not place.one and not one.args[-1].startswith(("/", '"/', "$"))
        for one in itertools.takewhile(lambda one: one is not place.one, place.stage.all_of("COPY", "ADD"))
    )


def _workdir_below(place: Place) -> bool:
    return place.stage is not None and bool(place.stage.parent and place.stage.parent.inherited("WORKDIR"))


def _quiet(place: Place) -> bool:
    one = place.one
    mounted = any("type=cache" in mount for mount in one.flags.get("mount", ()))
    removed = any(command.program == "rm" and "cache" in " ".join(command.arguments) for command in one.commands)
    return mounted or removed or any(found.has("--no-cache-dir", "--no-cache") for found in _installs(place))


def _goes_on(place: Place) -> bool:
    """Whether a `cd` stands in front of other commands."""
    return any(command.program == "cd" for command in [*place.one.commands][:-1])


def _fetches_nothing(place: Place) -> bool:
    return not any(
        command.program in {"curl", "wget"} and command.after.startswith("|") and command.after != "||"
        for command in place.one.commands
    )


_IMAGE: Reason = ("the stage is not in the image", _not_in_image)
_NO_USER: Reason = ("root, which root-user is about", lambda place: place.one.args[0].partition(":")[0] == "root")
REASONS: dict[str, tuple[Reason, ...]] = {
    "DL3000": (("an absolute WORKDIR stands above", _always),),
    "DL3002": (("not the user that the image runs as", _not_in_image),),
    "DL3003": (("the folder holds for the commands behind the cd", _goes_on),),
    "DL3006": (("a variable names a stage", _variable),),
    "DL3009": (_IMAGE,),
    "DL3013": (
        ("pip, setuptools, wheel, uv: the newest is meant; or all is pinned", _installers_only),
        ("a variable says what is installed", _variable),
        ("a file of constraints pins it", lambda place: any(one.has("-c", "--constraint") for one in _installs(place))),
    ),
    "DL3019": (_IMAGE,),
    "DL3020": (("a pattern or variable that may be an archive", _always),),
    "DL3022": (("it names an image, with its folder", _always),),
    "DL3025": (
        ("a health check, whose shell nobody signals", lambda place: place.one.name == "HEALTHCHECK"),
        ("exec, or a shell as the program", lambda place: place.one.commands[:1] != ()),
    ),
    "DL3040": (_IMAGE,),
    "DL3042": (
        _IMAGE,
        ("the cache is off, mounted or removed", _quiet),
        ("uv, or nothing is downloaded", _always),
    ),
    "DL3045": (
        ("nobody says which base it is", _base_unknown),
        ("WORKDIR of the stage below", _workdir_below),
        ("scratch has no folder but /", lambda place: place.stage is not None and place.stage.image == "scratch"),
        ("said once for a stage", _earlier),
    ),
    "DL3046": (("a variable says the number, or it is small", _variable),),
    "DL3064": (("the name is that of no secret, or nothing is in it", _always),),
    "DL3066": (_NO_USER, _IMAGE, ("an earlier USER, not the one that counts", _always)),
    "DL3067": (("from an image, which may hold nothing but what is wanted", _always),),
    "DL4006": (
        ("nothing is downloaded into the pipe", _fetches_nothing),
        ("a checksum is compared behind it", lambda place: any("sum" in one.program for one in place.one.commands)),
    ),
}
"""Why we say nothing where hadolint does, by its code: the first that holds is the reason."""


def hadolint(files: Sequence[Source]) -> tuple[float, list[Said]]:
    """Seconds and findings of hadolint, with its own defaults, in one process."""
    program = Path(sys.executable).with_name("hadolint")
    started = time.perf_counter()
    said = subprocess.run(
        [program, "--no-fail", "--format", "json", *(one.path for one in files)],
        capture_output=True,
        text=True,
        check=False,
    ).stdout
    seconds = time.perf_counter() - started
    return seconds, [Said(row["file"], row["line"], row["code"]) for row in json.loads(said)]


def table() -> dict[str, str]:
    """What each of hadolint's rules is to us, by code, as the page says."""
    return dict(_ROW.findall(TABLE.read_text()))


class _File:
    """A file's instructions, by line."""

    def __init__(self, source: Source) -> None:
        self.file: Dockerfile | None = None
        self.starts: list[int] = []
        self.places: list[Place] = []
        try:
            file = parse(Text(source.path, source.content))
        except InputError:
            return
        self.file = file
        for stage, those in [
            (None, file.head),
            *((stage, [stage.start, *stage.instructions]) for stage in file.stages),
        ]:
            self.places += [Place(file, stage, one) for one in those]
        self.starts = [place.one.lines[0] for place in self.places]

    def at(self, line: int) -> int:
        """Which instruction stands at a line, or begins next."""
        at = bisect.bisect_right(self.starts, line) - 1
        if at >= 0 and self.places[at].one.lines[1] < line and at + 1 < len(self.places):
            at += 1
        return max(at, 0)


Mark = tuple[str, int, str]
"""Path, instruction, and the rule of hadolint (or of ours, where hadolint has none)."""


class Compared(NamedTuple):
    """Findings of rules that both have, by hadolint's code."""

    both: collections.Counter[str]
    only_theirs: dict[str, list[tuple[str, Said]]]
    """With the reason; an empty one where it is not known."""
    only_ours: collections.Counter[str]
    """By our rule."""


def compared(files: Sequence[Source], found: Sequence[Finding], theirs: Sequence[Said]) -> Compared:
    """The findings of both, matched by instruction."""
    kinds.parser("dockerfile")
    read = {source.path: _File(source) for source in files}
    codes: dict[str, set[str]] = collections.defaultdict(set)
    for rule in RULES.values():
        for code in rule.hadolint:
            codes[code].add(rule.id)
    ours = {(one.path, read[one.path].at(one.span.line), one.rule) for one in found}
    result = Compared(collections.Counter(), collections.defaultdict(list), collections.Counter())
    matched: set[tuple[str, int, str]] = set()
    for one in dict.fromkeys(theirs):
        at = read[one.path].at(one.line)
        same = {(one.path, at, rule) for rule in codes.get(one.code, ())} & ours
        if same:
            matched |= same
            result.both[one.code] += 1
        elif one.code in codes:
            result.only_theirs[one.code].append((_reason(read[one.path], at, one), one))
    result.only_ours.update(rule for path, at, rule in ours - matched)
    return result


def _reason(file: _File, at: int, one: Said) -> str:
    if file.file is None:
        return "we refuse the file, as BuildKit does"
    place = file.places[at]
    for reason, holds in REASONS.get(one.code, ()):
        if holds(place):
            return reason
    return ""


def told(files: Sequence[Source], found: Sequence[Finding], theirs: Sequence[Said]) -> Iterator[str]:
    """The comparison as lines of a table, and what is only ours or only theirs below it."""
    result, rows = compared(files, found, theirs), table()
    for code in sorted({*result.both, *result.only_theirs}):
        reasons = collections.Counter(reason or "NOT EXPLAINED" for reason, _ in result.only_theirs.get(code, ()))
        why = "; ".join(f"{count}: {reason}" for reason, count in reasons.most_common())
        yield f"| {code} | {result.both[code]} | {reasons.total()} | {why} |"
    others = collections.Counter(one.code for one in theirs if one.code not in result.both | result.only_theirs)
    shellcheck = sum(count for code, count in others.items() if code.startswith("SC"))
    yield f"only hadolint's rules: {shellcheck} of ShellCheck"
    for code, count in sorted(others.items()):
        if not code.startswith("SC"):
            yield f"  {count:5} {code} {rows.get(code, 'NOT IN THE TABLE')}"
    yield f"only ours: {result.only_ours.total()}"
    for rule, count in result.only_ours.most_common():
        yield f"  {count:5} {rule}"
