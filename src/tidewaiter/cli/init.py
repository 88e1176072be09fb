"""`init`: the first day of a project."""

import sys
from collections.abc import Sequence
from pathlib import Path

from tidewaiter.cli import key as keys
from tidewaiter.cli.console import emit, tell
from tidewaiter.cli.workshop import workshop
from tidewaiter.core.errors import InputError
from tidewaiter.pipelines.starting import ci_files, repository, starting
from tidewaiter.pipelines.starting.ci_files import Ci
from tidewaiter.pipelines.starting.starting import Started
from tidewaiter.signing import keyring


def init(
    folder: Path = Path(),
    /,
    *,
    ci: Ci | None = None,
    name: str = "",
    yes: bool = False,
    lock: bool = True,
) -> int:
    """Make a project of a folder: write its tidewaiter.toml, locks, ignore and CI files.

    A program with requirements, a Dockerfile, notebooks or SavedModels are enough. Nothing of them is run. Writes
    tidewaiter.toml, the locks, ignore files and the file of a CI, all or none. A file that is there already is never
    changed: what would have changed in it is shown. A folder without a commit gets its first one.

    Args:
        folder: what the image is made of; the present one when not given.
        ci: gitlab, jenkins or github: write its file, too; by the repository's host when not given.
        name: of the image, TEAM/NAME; by the repository's address or the folder when not given.
        yes: ask nothing, take what is likely.
        lock: resolve the requirements and write the locks; --no-lock works without a network.
    """
    asks = not yes and sys.stdin.isatty() and sys.stderr.isatty()
    likely = name or repository.image_name(folder) if folder.is_dir() else name
    if asks and not name:
        likely = _typed("Name of the image", likely)
    if ci is None and folder.is_dir():
        ci = ci_files.fitting(repository.remote(folder), folder)
    with workshop() as shop:
        done = starting.start(shop, folder, name=likely, ci=ci, ask=_chosen if asks else _first, lock=lock)
        has_key = any(key.has_private for key in keyring.read(shop.settings.home.keys))
        may_make = shop.settings.key_password is not None or asks
    for line in _lines(done):
        emit(line)
    if not has_key and may_make:
        keys.generate()
        has_key = True
    _next(folder, has_key=has_key, ci=ci)
    return 0


def _lines(done: Started) -> list[str]:
    lines = [done.about, *(f"  wrote  {path}" for path in done.written)]
    for one in done.kept:
        lines.append(f"  kept   {one.path}{', as it would have been written' if not one.difference else ''}")
        lines += [f"    {line}" for line in one.difference]
        if one.difference:
            lines.append("    It was there before, and is yours: take over what you want of these lines.")
    lines += [f"  note: {line}" for line in done.notes]
    if done.committed:
        lines.append("  committed as the first commit")
    return lines


def _next(folder: Path, *, has_key: bool, ci: Ci | None) -> None:
    where = "" if folder == Path() else f" {folder}"
    if not has_key:
        tell("next: set COSIGN_PASSWORD and run `tidewaiter key generate`, once")
    tell(f"next: tidewaiter ci{where}")
    if ci is not None:
        tell(f"      then commit and push: {ci_files.NAMES[ci]} runs the same")


def _first(_question: str, answers: Sequence[str]) -> str:
    return answers[0]


def _chosen(question: str, answers: Sequence[str]) -> str:
    shown = answers[:20]
    for number, one in enumerate(shown, 1):
        tell(f"  {number}  {one}")
    given = _typed(f"{question} Number", "1")
    if given in shown:
        return given
    if given.isascii() and given.isdigit() and 1 <= int(given[:4]) <= len(shown):
        return shown[int(given[:4]) - 1]
    raise InputError(f"{given[:50]!r} is none of them", next_step=f"Give a number from 1 to {len(shown)}.")


def _typed(question: str, likely: str) -> str:
    sys.stderr.write(f"{question} [{likely}]: ")
    sys.stderr.flush()
    return sys.stdin.readline(1000).strip() or likely
