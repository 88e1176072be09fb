"""A whole Dockerfile, written anew step by step.

1. What `--fix` mends.
2. The steps below, in order. What a step changes is kept when the file still parses and no rule finds more than before.
3. Again, until nothing changes: a second run has nothing left to do.

A step is left out where a finding of its rule is ignored: somebody wants that as it is.
"""

from collections.abc import Sequence

import msgspec

from tidewaiter.core import limits
from tidewaiter.core.errors import InputError
from tidewaiter.core.project import LintSection
from tidewaiter.lint import fixing
from tidewaiter.lint.check import check
from tidewaiter.lint.dockerfile.parse import parse
from tidewaiter.lint.files import Source
from tidewaiter.lint.finding import Finding
from tidewaiter.lint.fixing import Mended
from tidewaiter.lint.rewrite.copying import requirements_first
from tidewaiter.lint.rewrite.installing import apt_lists, no_recommends, pip_mounts, test_packages
from tidewaiter.lint.rewrite.pinning import pinned
from tidewaiter.lint.rewrite.stages import build_stage
from tidewaiter.lint.rewrite.starting import exec_form
from tidewaiter.lint.rewrite.step import Around, Rewrite, Step
from tidewaiter.lint.rewrite.step import left as left_as_it_is
from tidewaiter.lint.rewrite.user import numeric_user
from tidewaiter.lint.text import Text, edited

STEPS: tuple[tuple[str, Rewrite], ...] = (
    ("dockerfile/base-without-digest", pinned),
    ("dockerfile/test-packages", test_packages),
    ("dockerfile/apt-recommends", no_recommends),
    ("dockerfile/apt-lists", apt_lists),
    ("dockerfile/copy-before-install", requirements_first),
    ("dockerfile/compilers-left", build_stage),
    ("dockerfile/pip-cache", pip_mounts),
    ("dockerfile/shell-form", exec_form),
    ("dockerfile/root-user", numeric_user),
)
"""Each with the rule that says whether somebody wants the file as it is."""


class Rewritten(msgspec.Struct, frozen=True):
    """A Dockerfile before and after, and what was done and not done."""

    mended: Mended
    done: tuple[str, ...]
    left: tuple[str, ...]


def rewrite(source: Source, wanted: LintSection, around: Around) -> Rewritten:
    """The Dockerfile as multi-stage, cached, pinned, small and without root as the steps can make it."""
    content, done = source.content, list[str]()
    left: list[str] = []
    for _ in range(limits.REWRITE_ROUNDS):
        before = content
        mended = fixing.mend(source._replace(content=content), wanted)
        content = mended.content
        done += [f"{rule} is mended" for rule in mended.rules]
        found = check(source._replace(content=content), wanted)
        left = []
        for rule, step in STEPS:
            reason = _ignored(found, rule, wanted)
            said = (
                left_as_it_is(f"{rule} is left as it is: {reason}") if reason else _said(source, content, step, around)
            )
            result = _result(Text(source.path, content), said)
            after = found if result is None else check(source._replace(content=result), wanted)
            if said.edits and (result is None or fixing.is_worse(found, after)):
                left.append(f"{rule} is left as it is: what would be written is no better")
                continue
            left += said.left
            if said.edits and result is not None:
                content, found = result, after
                done += said.done
        if content == before:
            break
    return Rewritten(Mended(source, content), tuple(dict.fromkeys(done)), tuple(dict.fromkeys(left)))


def _said(source: Source, content: str, step: Rewrite, around: Around) -> Step:
    """What a step would do."""
    try:
        file = parse(Text(source.path, content))
    except InputError as error:
        return left_as_it_is(error.message)
    for stage in file.stages:
        if stage.parent is not None and stage.parent.later:
            line = stage.parent.later[0].lines[0]
            return left_as_it_is(f"ONBUILD in line {line} acts in the stage of line {stage.start.lines[0]}")
    return step(file, around)


def _result(text: Text, made: Step) -> str | None:
    """The text with all edits of a step in it; None when two change one place, or nothing parses it any more."""
    _, left_out = edited(text, list(made.edits))
    if left_out:
        return None
    result = fixing.applied(text, list(made.edits))
    try:
        parse(Text(text.path, result))
    except InputError:
        return None
    return result


def _ignored(found: Sequence[Finding], rule: str, wanted: LintSection) -> str:
    if wanted.severity.get(rule) == "off":
        return "[lint] turns the rule off"
    return next((one.ignored for one in found if one.rule == rule and one.ignored is not None), "")
