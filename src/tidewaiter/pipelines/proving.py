"""Proof of a rewritten Dockerfile: both are built, what is in them is compared, and a command is tried in both.

1. Build the old and the new one with buildah, in copies of the context; bases are pinned to the same digests.
2. Compare how the images start, and their packages. Packages may be missing only when the new Dockerfile no longer asks
   for them and nothing that stays requires them; no version may differ.
3. Run the command in both.
4. Touch one source file and build both again, for the time that it takes.

What could not be found out is an error, never a proof.
"""

import os
import shlex
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import msgspec

from tidewaiter.assembly import dockerfile_text, dockerfile_tools, execution, options
from tidewaiter.assembly.builder_process import Ended
from tidewaiter.assembly.dockerfile_buildah import Buildah
from tidewaiter.assembly.dockerfile_tools import Job
from tidewaiter.assembly.foreign import ImageName
from tidewaiter.core import durable, leases, limits
from tidewaiter.core.errors import InputError, LimitError, UndeterminedError
from tidewaiter.core.progress import Task
from tidewaiter.inspection.facts import ImageFacts
from tidewaiter.oci.digest import Digest
from tidewaiter.oci.image import Image
from tidewaiter.oci.layer import MTIME
from tidewaiter.oci.reference import RegistryReference
from tidewaiter.pipelines import looking
from tidewaiter.pipelines.fetching import Fetcher
from tidewaiter.pipelines.images import NamedImage
from tidewaiter.pipelines.workshop import Workshop
from tidewaiter.sbom.component import Component

_TOUCHED = (".py", ".sh", ".js", ".txt", "")
"""Endings of the file that is touched, the likeliest to be a source first."""


class Build(msgspec.Struct, frozen=True):
    """One of the two images."""

    facts: ImageFacts
    rebuild_seconds: float | None
    """After one source file changed; None when the context has none."""


class Proof(msgspec.Struct, frozen=True):
    """What the comparison gave."""

    before: Build
    after: Build
    differences: tuple[str, ...]
    """Why they are not the same, a sentence each; empty when they are."""
    removed: tuple[str, ...]
    """purls that only the old one has, and that may be missing."""
    tried: str
    """The command that succeeded in both; empty without one."""


def prove(
    workshop: Workshop, texts: tuple[str, str], context: Path, ignore: str, *, dropped: frozenset[str], smoke: str
) -> Proof:
    """Build both texts and compare the images.

    Args:
        workshop: whose home keeps what is built.
        texts: the old Dockerfile and the new one.
        context: the folder that they are built in; it is copied, `.git` is not.
        ignore: `.dockerignore` that belongs to the new one; empty when the folder has its own, or none.
        dropped: names of packages that the new one no longer asks for.
        smoke: a command that must succeed in both; empty for none.

    Raises:
        UndeterminedError: one could not be built, or the command does not succeed in the old one either.
        MissingToolError: buildah does not work here.
        LimitError: the context is over the limits.
    """
    settings = msgspec.structs.replace(workshop.settings, builder="buildah")
    folder = settings.home.cache / "work"
    folder.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(dir=folder))
    storage = settings.home.cache / "buildah"
    leases.claim(storage)
    try:
        with durable.exclusive(storage / "lock", seconds=settings.builder_seconds):
            builds = [
                _build(workshop, work / name, text, context, extra)
                for name, text, extra in zip(("before", "after"), texts, ("", ignore), strict=True)
            ]
    finally:
        shutil.rmtree(work, ignore_errors=True)
    (old, old_image), (new, new_image) = builds
    differences, removed = compared(old.facts, new.facts, dropped)
    if smoke:
        differences += _tried(workshop, smoke, old_image, new_image)
    return Proof(old, new, differences, removed, smoke)


# Step 1


def _build(workshop: Workshop, work: Path, text: str, context: Path, ignore: str) -> tuple[Build, Image]:
    """The image of a text, and how long it takes after a source file was touched."""
    work.mkdir()
    _copy(context, work / "context")
    if ignore:
        (work / "context" / ".dockerignore").write_text(ignore)
    fetcher = Fetcher(workshop)

    def resolve(reference: RegistryReference) -> Digest:
        return fetcher.digest(ImageName(reference, None, str(reference)))

    wanted = options.here(options.DEFAULT)
    path = work / "Dockerfile"
    path.write_text(dockerfile_text.prepare(path, text, arguments={}, platform=wanted.platform, resolve=resolve).text)
    tool = dockerfile_tools.choose(msgspec.structs.replace(workshop.settings, builder="buildah"))
    job = Job(dockerfile=path, context=work / "context", platform=wanted.platform, times=MTIME)
    with workshop.progress.task(f"Building the Dockerfile {work.name} with {tool}") as task:
        buildah = Buildah(tool, workshop.settings, work, task, ())
        buildah.tidy()
        image = buildah.bring(_made(buildah, job, work.name), workshop.layers, wanted)
        seconds = _rebuilt(buildah, job, work, task)
    named = NamedImage(image=image, reference=work.name, name="", tag="")
    return Build(looking.inspect(workshop, named), seconds), image


def _made(buildah: Buildah, job: Job, which: str) -> str:
    made = buildah.build(job, {})
    if isinstance(made, Ended):
        said = "\n".join(made.lines)
        raise UndeterminedError(
            f"the Dockerfile {which} could not be built (exit code {made.code}):\n{said}",
            next_step="Mend what failed; without both images nothing can be compared.",
        )
    return made


def _copy(context: Path, folder: Path) -> None:
    count = total = 0
    for root, folders, names in os.walk(context):
        folders[:] = [name for name in folders if name != ".git"]
        count += len(names)
        total += sum((Path(root) / name).lstat().st_size for name in names)
        if count > limits.CONTEXT_FILES or total > limits.CONTEXT_BYTES:
            raise LimitError(f"{context} is too large for a copy", next_step="Write a .dockerignore, or prove by hand.")
    try:
        shutil.copytree(context, folder, symlinks=True, ignore=shutil.ignore_patterns(".git"))
    except (OSError, shutil.Error) as error:
        raise InputError(f"{context} cannot be copied: {error}", next_step="Make its files readable.") from error


# Step 2


def compared(old: ImageFacts, new: ImageFacts, dropped: frozenset[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Why the images are not the same, and the purls that may be missing in the new one."""
    found = list(_starts(old, new))
    before, after = ({one.purl: one for one in facts.components} for facts in (old, new))
    found += [f"{purl} is new" for purl in sorted(after.keys() - before.keys())]
    gone = before.keys() - after.keys()
    needed = {purl for one in after.values() for purl in one.requires}
    may = _below(before, {purl for purl in gone if before[purl].name in dropped}) & gone - needed
    # What apt only recommends is required by nothing: it goes when nothing that stays requires it.
    may |= {purl for purl in gone - needed if purl.startswith("pkg:deb/")}
    found += [f"{purl} is missing" for purl in sorted(gone - may)]
    unread = {*old.unread, *new.unread}
    found += [f"{path} could not be read, so packages may be missing from the comparison" for path in sorted(unread)]
    return tuple(found), tuple(sorted(may))


def _below(known: dict[str, Component], roots: set[str]) -> set[str]:
    """These packages, and all that they require."""
    found: set[str] = set()
    todo = list(roots)
    while todo:
        purl = todo.pop()
        if purl not in found and purl in known:
            found.add(purl)
            todo += known[purl].requires
    return found


def _starts(old: ImageFacts, new: ImageFacts) -> Iterator[str]:
    """What differs in how they start; the user may become one without rights."""
    for name in ("entrypoint", "cmd"):
        before, after = plain(getattr(old, name)), plain(getattr(new, name))
        if before != after:
            yield f"{name} was {list(before)} and is {list(after)}"
    for name in ("env", "working_dir", "exposed_ports", "volumes", "labels"):
        if getattr(old, name) != getattr(new, name):
            yield f"{name} was {getattr(old, name)} and is {getattr(new, name)}"
    if old.user != new.user and (not old.runs_as_root or new.runs_as_root):
        yield f"user was {old.user!r} and is {new.user!r}"


def plain(words: Sequence[str]) -> tuple[str, ...]:
    """What is started; of `/bin/sh -c` with words alone in it, these words."""
    if len(words) == 3 and tuple(words[:2]) == ("/bin/sh", "-c"):
        try:
            inside = shlex.split(words[2])
        except ValueError:
            return tuple(words)
        return tuple(inside) if shlex.join(inside) == words[2] else tuple(words)
    return tuple(words)


# Step 3


def _tried(workshop: Workshop, smoke: str, old: Image, new: Image) -> tuple[str, ...]:
    words = shlex.split(smoke)
    with _output_beside():
        codes = [
            execution.run(image, words, wanted=workshop.settings, progress=workshop.progress) for image in (old, new)
        ]
    if codes[0]:
        raise UndeterminedError(
            f"`{smoke}` ends with {codes[0]} in the old image already", next_step="Give a --smoke that succeeds there."
        )
    return (f"`{smoke}` ends with {codes[1]} in the new image, and with 0 in the old one",) if codes[1] else ()


@contextmanager
def _output_beside() -> Iterator[None]:
    """What commands print goes to stderr: stdout is for our own document."""
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)


# Step 4


def _rebuilt(buildah: Buildah, job: Job, work: Path, task: Task) -> float | None:
    """Seconds of a build after one source file of the context changed."""
    source = _source(job.context)
    if source is None:
        return None
    task.describe(f"again, after {source.name} changed")
    with source.open("ab") as file:
        file.write(b"\n")
    started = time.monotonic()
    _made(buildah, job, work.name)
    return time.monotonic() - started


def _source(context: Path) -> Path | None:
    """A file that stands for the sources: one of the likeliest ending, the least deep."""
    found = [
        path
        for path in sorted(context.rglob("*"))
        if path.is_file() and not path.is_symlink() and path.suffix in _TOUCHED
        if not path.name.startswith((".", "requirements", "constraints", "Dockerfile"))
    ]
    return min(found, key=lambda path: (_TOUCHED.index(path.suffix), len(path.parts)), default=None)
