"""`lint --fix`: files mended or written anew, the difference shown."""

import re
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from tidewaiter.cli.console import emit, emit_bytes, tell
from tidewaiter.core import durable
from tidewaiter.core.errors import InputError, UndeterminedError
from tidewaiter.core.project import LintSection
from tidewaiter.lint import fixing
from tidewaiter.lint.dockerfile.parse import Dockerfile, parse
from tidewaiter.lint.files import Source, find, read
from tidewaiter.lint.fixing import Mended
from tidewaiter.lint.rewrite import dockerignore
from tidewaiter.lint.rewrite.rewriting import rewrite
from tidewaiter.lint.rewrite.step import Around
from tidewaiter.lint.text import Text

if TYPE_CHECKING:
    from tidewaiter.cli.lint_proving import Proven


class Fixing:
    """What `--fix` does to each file, as its options say."""

    def __init__(self, *, rewrite: bool, pin: bool, prove: bool, smoke: str, dry_run: bool, show: bool) -> None:
        self._rewrite = rewrite
        self._pin = pin
        self._prove = prove
        self._smoke = smoke
        self._dry_run = dry_run
        self._say = emit if show else tell
        """Differences are data where a person reads, and beside the document where a program does."""
        self.refused: set[str] = set()
        """Files whose rewrite was not shown to be the same, so that the old one was kept."""
        self.proofs: list[Proven] = []
        """What `--prove` found."""

    def fixed(self, source: Source, wanted: LintSection) -> Source:
        """The file as it is now, or would be without --dry-run."""
        file = _parsed(source) if self._rewrite and source.kind == "dockerfile" else None
        mended = fixing.mend(source, wanted) if file is None else self._rewritten(source, wanted, file)
        if not mended.changed:
            return source
        for line in fixing.difference(mended):
            self._say(line)
        if not self._dry_run:
            fixing.write(mended)
        return source._replace(content=mended.content)

    def _rewritten(self, source: Source, wanted: LintSection, file: Dockerfile) -> Mended:
        folder = dockerignore.context(Path(source.path), file)
        around = Around(read=lambda path: _text(folder, path))
        if self._pin:
            from tidewaiter.cli.lint_proving import digests

            around = msgspec.structs.replace(around, digest=digests())
        made = rewrite(source, wanted, around)
        ignoring = None
        if folder is not None and not (folder / dockerignore.NAME).exists():
            ignoring = dockerignore.propose(folder, file)
        changes = made.mended.changed or ignoring is not None
        if self._prove and changes and not self._proved(made.mended, folder, ignoring):
            return Mended(source, source.content)
        for line in made.done:
            tell(f"{source.path}: {line}")
        for line in (*made.left, *(ignoring.left if ignoring else ())):
            tell(f"{source.path}: left: {line}")
        if folder is None:
            tell(f"{source.path}: left: no folder here has all that it copies, so there is no .dockerignore to write")
        elif ignoring is not None:
            self._ignore(folder / dockerignore.NAME, ignoring.content)
        return made.mended

    def _ignore(self, path: Path, content: str) -> None:
        for line in fixing.difference(Mended(Source(path.as_posix(), "dockerfile", ""), content)):
            self._say(line)
        if not self._dry_run:
            durable.write_atomically(path, content.encode())

    def _proved(self, mended: Mended, folder: Path | None, ignoring: dockerignore.Ignoring | None) -> bool:
        """Whether both build to the same; what is not the same is said. Raises `UndeterminedError`."""
        from tidewaiter.cli.lint_proving import prove

        if folder is None:
            raise UndeterminedError(
                f"{mended.source.path}: no folder here has all that it copies, so it cannot be built",
                next_step="Run this where the build context is.",
            )
        proven = prove(mended, folder, "" if ignoring is None else ignoring.content, smoke=self._smoke)
        self.proofs.append(proven)
        if not proven.same:
            self.refused.add(mended.source.path)
        return proven.same


def proposed(paths: tuple[Path, ...]) -> int:
    """Print a project file for the one Dockerfile among `paths`; what it does not carry over goes to stderr."""
    from tidewaiter.lint.rewrite import project

    found = [one for one in find(paths) if one.kind == "dockerfile"]
    if len(found) != 1:
        raise InputError(f"there are {len(found)} Dockerfiles", next_step="Name one.")
    path = Path(found[0].path)
    file = parse(Text(found[0].path, found[0].content))
    folder = dockerignore.context(path, file) or path.resolve().parent
    name = re.sub(r"[^a-z0-9]+", "-", folder.name.lower()).strip("-") or "image"
    made = project.propose(file, f"team/{name}", dockerignore.entries(folder))
    emit_bytes(made.content.removesuffix("\n").encode())
    for line in made.left:
        tell(f"{path}: not carried over: {line}")
    return 0


def _parsed(source: Source) -> Dockerfile | None:
    try:
        return parse(Text(source.path, source.content))
    except InputError:
        return None  # the finding of its syntax says so


def _text(folder: Path | None, path: str) -> str | None:
    """The text of a file of the build context that lies in it; None for every other."""
    if folder is None:
        return None
    place = (folder / path).resolve()
    return read(place) if place.is_relative_to(folder.resolve()) and place.is_file() else None
