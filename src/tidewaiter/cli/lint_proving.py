"""`lint --fix --rewrite --prove` and `--pin`: what needs a workshop."""

from collections.abc import Callable
from functools import cache
from pathlib import Path

import msgspec

from tidewaiter.cli.console import size, tell
from tidewaiter.cli.workshop import workshop
from tidewaiter.lint.dockerfile.parse import parse
from tidewaiter.lint.dockerfile.rules.debian import packages, verb
from tidewaiter.lint.fixing import Mended
from tidewaiter.lint.requirement import pip_install
from tidewaiter.lint.text import Text


def digests() -> Callable[[str], str | None]:
    """What asks an image's registry for its digest, each image once."""

    @cache
    def digest(image: str) -> str | None:
        from tidewaiter.assembly.foreign import ImageName
        from tidewaiter.core.errors import TidewaiterError
        from tidewaiter.oci import reference
        from tidewaiter.pipelines.fetching import Fetcher

        try:
            place = reference.parse_registry(image)
            with workshop() as shop:
                return str(Fetcher(shop).digest(ImageName(place, None, str(place))))
        except TidewaiterError as error:
            tell(f"{image}: {error.message}")
            return None

    return digest


class Built(msgspec.Struct, frozen=True):
    """One of the two images, in numbers."""

    size: int
    """Packed."""
    unpacked_size: int
    packages: int
    rebuild_seconds: float | None
    """After one source changed; None when there is none."""


class Proven(msgspec.Struct, frozen=True):
    """What a proof found."""

    path: str
    same: bool
    differences: tuple[str, ...]
    removed: tuple[str, ...]
    """purls that may be missing."""
    tried: str
    before: Built
    after: Built


def prove(mended: Mended, folder: Path, ignore: str, *, smoke: str) -> Proven:
    """Whether both Dockerfiles build to the same; says what differs, sizes and times. Raises `UndeterminedError`."""
    from tidewaiter.pipelines import proving

    texts = (mended.source.content, mended.content)
    dropped = frozenset(_named(texts[0]) - _named(texts[1]))
    with workshop() as shop:
        proof = proving.prove(shop, texts, folder, ignore, dropped=dropped, smoke=smoke)
    path = mended.source.path
    for which, one in (("before", proof.before), ("after", proof.after)):
        seconds = "" if one.rebuild_seconds is None else f", {one.rebuild_seconds:.1f} s after one source changed"
        packages_there = len(one.facts.components)
        tell(
            f"{path}: {which}: {size(one.facts.size)} packed, {size(one.facts.unpacked_size)} unpacked, "
            f"{packages_there} packages{seconds}"
        )
    for purl in proof.removed:
        tell(f"{path}: no longer there: {purl}")
    for line in proof.differences:
        tell(f"{path}: not the same: {line}")
    if proof.differences:
        tell(f"{path}: the old Dockerfile is kept")
    else:
        tell(
            f"{path}: both start the same and hold the same packages"
            + (f", and `{smoke}` succeeds in both" if smoke else "; no --smoke command was tried")
        )
    before, after = (
        Built(one.facts.size, one.facts.unpacked_size, len(one.facts.components), one.rebuild_seconds)
        for one in (proof.before, proof.after)
    )
    return Proven(path, not proof.differences, proof.differences, proof.removed, proof.tried, before, after)


def _named(content: str) -> set[str]:
    """Packages that the stages in the image name, for pip and apt."""
    file = parse(Text("Dockerfile", content))
    commands = [command for stage in file.runtime for one in stage.all_of("RUN") for command in one.commands]
    found = {word.value for command in commands if verb(command) == "install" for word in packages(command)}
    for command in commands:
        pip = pip_install(command)
        found |= {requirement.name.lower() for _, requirement in pip.wanted} if pip else set()
    return found
