"""A commit, fetched into a folder that is exactly it.

1. Is the address one from which repositories are fetched? (`places`)
2. Does the folder hold the commit already? Then nothing is fetched.
3. Fetch it, without its history, into the cache: by its hash; where the server does not give that, by its branch, and
   the hash decides.
4. Look at its tree before anything is written (`tree`).
5. Write it into a new folder, with submodules and large files where they were asked for, and give that its name last.

Nothing of a credential lies in the folder, in the cache, or in what is told: Git gets it by its environment.
"""

import datetime as dt
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import msgspec

from tidewaiter.catalog.runs.records import Source
from tidewaiter.core import clock, durable, leases, limits
from tidewaiter.core.errors import InputError, LimitError, NotFoundError, TidewaiterError
from tidewaiter.core.settings import Settings
from tidewaiter.oci import digest as digests
from tidewaiter.pipelines.sources import credentials, lfs, places, tree
from tidewaiter.pipelines.sources.bounds import Left
from tidewaiter.pipelines.sources.credentials import Secret
from tidewaiter.pipelines.sources.git import Git, GitError, Note
from tidewaiter.pipelines.sources.places import Place

_COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_REF = re.compile(r"refs/[A-Za-z0-9][^\s~^:?*\[\\\x00-\x20\x7f]{1,250}")
_KEPT = "refs/tidewaiter"
_LONG = 64
"""Digits of a commit in a repository with SHA-256."""
_MARK = "tidewaiter-checkout.json"
_AUTHOR_CHARACTERS = 200
_SECTION = "sources"


class Checkout(msgspec.Struct, frozen=True):
    """A folder that holds a commit."""

    folder: Path
    """Of the repository; the project may lie in a folder of it."""
    commit: str
    author: str
    """Name that the commit says; anybody can say any."""
    committed_at: dt.datetime


class _Mark(msgspec.Struct, frozen=True):
    """What a folder was made as."""

    url: str
    commit: str
    ref: str
    submodules: bool
    lfs: bool


class _Work(NamedTuple):
    """What fetching one source needs."""

    settings: Settings
    git: Git
    note: Note
    submodules: bool
    lfs: bool
    left: Left
    teams: frozenset[str]
    """Of the source."""


class _Wanted(NamedTuple):
    """A commit of a repository."""

    place: Place
    commit: str
    ref: str

    @property
    def kept(self) -> str:
        """Its name in the cache."""
        return f"{_KEPT}/{self.commit}"

    @property
    def format(self) -> str:
        """Which hashes the repository has."""
        return "--object-format=" + ("sha256" if len(self.commit) == _LONG else "sha1")


def checkout(settings: Settings, source: Source, folder: Path, note: Note) -> Checkout:
    """Have `folder` hold exactly the commit of `source`; what was there before and is not that is removed.

    Args:
        settings: what may be fetched, and by which credentials.
        source: the commit.
        folder: where it goes; the folder above must be there.
        note: takes lines for the log; called at least every few seconds, and what it raises ends the work.

    Raises:
        InputError: the address or the commit is malformed.
        RefusedError: the address is not allowed, or the commit holds what could harm this machine.
        NotFoundError: the repository does not have the commit.
        NetworkError: the server does not answer, or does not let us in.
        LimitError: it is too large.
        DeadlineError: it takes too long.
        TidewaiterError: else what `Git.ask` raises.
    """
    if not _COMMIT.fullmatch(source.commit):
        raise InputError(f"{source.commit[:80]!a} is no commit", next_step="Give its full hash.")
    if source.ref and not _REF.fullmatch(source.ref):
        raise InputError(f"{source.ref[:80]!a} is no branch or tag", next_step="Write refs/heads/NAME.")
    place = places.place(settings, source.repository)  # 1
    with _git(settings, note, seconds=limits.SOURCE_SECONDS) as git, leases.hold(settings.home.path):
        teams = places.teams_of(settings, place)
        work = _Work(settings, git, note, source.submodules, source.lfs, Left(), teams)
        _checked_out(work, _Wanted(place, source.commit, source.ref), folder, depth=0)
        told = git.ask(folder, "show", "--no-patch", "--format=%ct%n%an", "HEAD").decode(errors="replace")
        seconds, _, author = told.partition("\n")
        return Checkout(folder, source.commit, _plain(author), _moment(seconds))


@contextmanager
def _git(settings: Settings, note: Note, *, seconds: float) -> Iterator[Git]:
    with tempfile.TemporaryDirectory(prefix="tw-") as home:
        made = Git(settings, Path(home), note, seconds=seconds)
        made.require_version()
        yield made


def _plain(text: str) -> str:
    return "".join(c for c in text.strip() if c.isprintable())[:_AUTHOR_CHARACTERS]


def _moment(seconds: str) -> dt.datetime:
    """The moment that a commit names, which its author chose; the beginning of 1970 when it is no date."""
    try:
        return clock.from_epoch(int(seconds))
    except (ValueError, OverflowError, OSError):
        return clock.from_epoch(0)


def resolve(settings: Settings, repository: str, ref: str) -> str:
    """The commit that a branch or tag of a repository is at now, as its server says.

    Raises as `checkout`; `NotFoundError`: it has no such branch or tag.
    """
    if not _REF.fullmatch(ref):
        raise InputError(f"{ref[:80]!a} is no branch or tag", next_step="Write refs/heads/NAME or refs/tags/NAME.")
    place = places.place(settings, repository)
    table = places.table_of(settings, place)
    secret = credentials.of(settings, table)
    with (
        _git(settings, lambda _: None, seconds=limits.SOURCE_ASK_SECONDS) as git,
        tempfile.TemporaryDirectory(prefix="tw-") as empty,
        credentials.for_git(place, table, secret) as reaching,
    ):
        told = git.ask(
            Path(empty), "ls-remote", place.url, ref, f"{ref}^{{}}",
            protocols=(place.scheme,), reaching=reaching, secret=secret,
        ).decode(errors="replace")  # fmt: skip
    found = {name: commit for commit, _, name in (line.partition("	") for line in told.splitlines())}
    commit = found.get(f"{ref}^{{}}") or found.get(ref, "")  # what an annotated tag is of
    if not _COMMIT.fullmatch(commit):
        raise NotFoundError(f"{place.url} has no {ref}", next_step="Push it, or name another branch or tag.")
    return commit


def _checked_out(work: _Work, wanted: _Wanted, folder: Path, *, depth: int) -> None:
    place, commit, ref = wanted
    mark = _Mark(place.url, commit, ref, work.submodules, work.lfs)
    if _holds(work.git, folder, mark):  # 2
        work.note(f"{place.url} is at {commit[:12]} already")
        return
    table = places.table_of(work.settings, place)
    secret = credentials.of(work.settings, table)
    home = work.settings.home.cache / _SECTION
    name = digests.of(place.url.encode()).partition(":")[2][:40] + wanted.format[-4:].replace("sha1", "")
    cache = home / name
    leases.claim(cache)
    with durable.exclusive(home / f"{name}.lock", seconds=max(work.git.deadline - time.monotonic(), 0.0)):
        _fetched(work, wanted, cache / "git", secret)  # 3
        found = tree.read(work.git, cache / "git", commit, work.left)  # 4
        made = folder.with_name(f".{folder.name}.{os.urandom(6).hex()}")
        try:
            _written(work.git, cache / "git", wanted, made)  # 5
            tree.require_really_inside(made, found.links)
            if work.lfs:
                large = lfs.pointers(work.git, made, found.small, work.left)
                server = lfs.Server(work.settings, place, table, secret)
                server.fetch(large, store=cache / "lfs", git=work.git, note=work.note)
                lfs.place_files(work.git, made, large, cache / "lfs")
        except BaseException:
            shutil.rmtree(made, ignore_errors=True)
            raise
    try:
        if work.submodules and found.submodules:
            _submodules(work, wanted, made, found.submodules, depth=depth)
        (made / ".git" / _MARK).write_bytes(msgspec.json.encode(mark))
        _remove(folder)
        made.rename(folder)
    except OSError as error:
        raise durable.storage_error(error, str(folder)) from error
    finally:
        shutil.rmtree(made, ignore_errors=True)
    work.note(f"{place.url} at {commit[:12]}: {found.files} files, {found.bytes} bytes")


def _remove(folder: Path) -> None:
    if folder.is_symlink() or folder.is_file():
        folder.unlink()
    elif folder.exists():
        shutil.rmtree(folder)


def _holds(git: Git, folder: Path, mark: _Mark) -> bool:
    """Whether the folder is what it was made as."""
    try:
        if msgspec.json.decode((folder / ".git" / _MARK).read_bytes(), type=_Mark) != mark:
            return False
        head = git.ask(folder, "rev-parse", "--verify", "HEAD").decode().strip()
        differs = git.ask(folder, "status", "--porcelain=v1", "-z", "--untracked-files=all", "--ignored")
    except (OSError, ValueError, GitError):
        return False
    return head == mark.commit and not differs


def _fetched(work: _Work, wanted: _Wanted, cache: Path, secret: Secret | None) -> None:
    """Step 3: the commit and its tree are in the cache."""
    git, kept = work.git, wanted.kept
    place, commit, ref = wanted
    if _is_kept(git, cache, commit):
        return
    table = places.table_of(work.settings, place)
    if _too_many(git, cache):
        shutil.rmtree(cache, ignore_errors=True)
    if not (cache / "HEAD").exists():
        shutil.rmtree(cache, ignore_errors=True)
        cache.mkdir(parents=True)
        git.ask(cache, "init", "--quiet", "--bare", "--template=", wanted.format)
    for left in (*cache.glob("*.lock"), *cache.glob("refs/**/*.lock")):
        left.unlink(missing_ok=True)  # of a Git that was killed: nobody else is at work here
    work.note(f"fetching {commit[:12]} of {place.url}")
    options = (
        "--quiet",
        "--no-tags",
        "--no-auto-maintenance",
        "--no-write-fetch-head",
        "--refmap=",
        "--update-shallow",
    )
    with credentials.for_git(place, table, secret) as reaching:

        def fetch(depth: int, what: str) -> None:
            before = _packed(cache)
            git.ask(
                cache, "fetch", *options, f"--depth={depth}", place.url, f"+{what}:{kept}",
                protocols=(place.scheme,), reaching=reaching, secret=secret, doing=f"fetching from {place.host}",
                most=work.left.pack_bytes,
            )  # fmt: skip
            work.left.take_packed(_packed(cache) - before)

        try:
            fetch(1, commit)
        except GitError as error:
            if not ref:
                raise _missing(work, wanted, cache, error) from error
            # It gives no commits by their hash, or does not have this one.
            try:
                fetch(limits.SOURCE_DEEPER_COMMITS, ref)
                git.ask(cache, "update-ref", kept, f"{commit}^{{commit}}")
            except GitError as second:
                raise _missing(work, wanted, cache, second) from second
    if not _is_kept(git, cache, commit):
        git.ask(cache, "update-ref", "-d", kept)
        raise InputError(
            f"{commit} of {place.url} is no commit", next_step="Give the hash of a commit, not that of a tag."
        )


def _packed(cache: Path) -> int:
    """Bytes of what was fetched so far."""
    return sum(one.stat().st_size for one in (cache / "objects" / "pack").glob("*.pack"))


def _missing(work: _Work, wanted: _Wanted, cache: Path, error: GitError) -> TidewaiterError:
    """Why a commit did not come; what was written of it is removed."""
    place, commit, _ = wanted
    parts = list((cache / "objects" / "pack").glob("tmp_*"))
    largest = max((one.stat().st_size for one in parts), default=0)
    for one in parts:
        one.unlink()
    # The shell counts the limit in blocks of 512 bytes.
    if largest >= work.left.pack_bytes // 512 * 512:
        return LimitError(
            f"fetching {commit[:12]} of {place.url} would write over {limits.SOURCE_PACK_BYTES} bytes in all",
            next_step="Keep large files in Git LFS.",
        )
    if any(word in error.complaint.lower() for word in ("fsck", "index-pack", "bad object", "corrupt")):
        return error
    return NotFoundError(
        f"{place.url} does not give the commit {commit}: {error.message[:300]}",
        next_step="Check that it was pushed and not replaced by a force push, and what the credential may read.",
    )


def _is_kept(git: Git, cache: Path, commit: str) -> bool:
    """Whether the cache has the commit, and what its hash promises: Git checks that when it writes."""
    try:
        found = git.ask(cache, "rev-parse", "--verify", "--quiet", f"{_KEPT}/{commit}^{{commit}}").decode().strip()
    except GitError:
        return False
    return found == commit


def _too_many(git: Git, cache: Path) -> bool:
    try:
        listed = git.ask(cache, "for-each-ref", "--format=x", _KEPT)
    except GitError:
        return True  # damaged, or not there
    return listed.count(b"x") > limits.SOURCE_KEPT_COMMITS


def _written(git: Git, cache: Path, wanted: _Wanted, made: Path) -> None:
    """Step 5: a repository without history, at the commit, with its files; it knows where it came from."""
    place, commit, ref = wanted
    made.mkdir(mode=0o755)
    git.ask(made, "init", "--quiet", "--template=", "--initial-branch=none", wanted.format)
    (made / ".git" / "info").mkdir(exist_ok=True)
    git.ask(
        made, "fetch", "--quiet", "--no-tags", "--no-auto-maintenance", "--no-write-fetch-head", "--refmap=",
        "--depth=1", cache.as_uri(), f"+{wanted.kept}:{wanted.kept}", protocols=("file",),
    )  # fmt: skip
    branch = ref if ref.startswith("refs/heads/") else ""
    if branch:
        git.ask(made, "update-ref", branch, commit)
        git.ask(made, "symbolic-ref", "HEAD", branch)
    else:
        git.ask(made, "update-ref", "--no-deref", "HEAD", commit)
    git.ask(made, "config", "remote.origin.url", place.url)
    git.ask(made, "read-tree", commit)
    git.ask(made, "checkout-index", "--quiet", "--all", "--force", "--index")


def _submodules(work: _Work, above: _Wanted, made: Path, listed: tuple[tuple[str, str], ...], *, depth: int) -> None:
    """Every submodule, at the commit that the tree names, under the same rules as the repository itself."""
    work.left.take_submodules(len(listed), depth=depth)
    named = _gitmodules(work.git, made, above.commit)
    for path, theirs in listed:
        if path not in named:
            raise InputError(f"the submodule {path[:200]!a} is not in .gitmodules", next_step="Mend .gitmodules.")
        name, url = named[path]
        inner = places.below(work.settings, above.place, url, work.teams)
        target = made / path
        if target.parent.resolve() != (made.resolve() / path).parent:
            raise InputError(f"the submodule {path[:200]!a} lies behind a link", next_step="Mend the repository.")
        _remove(target)
        target.parent.mkdir(parents=True, exist_ok=True)
        _checked_out(work, _Wanted(inner, theirs, ""), target, depth=depth + 1)
        for key, value in (("url", inner.url), ("active", "true")):
            work.git.ask(made, "config", f"submodule.{name}.{key}", value)


def _gitmodules(git: Git, made: Path, commit: str) -> dict[str, tuple[str, str]]:
    """Name and address of each submodule, by path. Raises `InputError`."""
    try:
        said = git.ask(
            made, "config", "--blob", f"{commit}:.gitmodules", "-z", "--get-regexp", r"^submodule\..*\.(path|url)$"
        ).decode(errors="replace")
    except GitError as error:
        raise InputError("the commit has submodules and no .gitmodules", next_step="Mend .gitmodules.") from error
    paths: dict[str, str] = {}
    urls: dict[str, str] = {}
    for entry in said.split("\0"):
        key, _, value = entry.partition("\n")
        name, _, what = key.removeprefix("submodule.").rpartition(".")
        if name and name.isprintable():
            (paths if what == "path" else urls)[name] = value
    return {path: (name, urls[name]) for name, path in paths.items() if name in urls}
