"""Fetching commits from a real Git server, and from repositories that mean harm."""

import contextlib
import hashlib
import json
import os
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import NamedTuple

import msgspec
import pytest

from git_server import GitServer, commit, git, git_server
from servers import reply
from tidewaiter.catalog.runs.records import Source
from tidewaiter.core import limits
from tidewaiter.core import settings as all_settings
from tidewaiter.core.errors import (
    DeadlineError,
    InputError,
    IntegrityError,
    LimitError,
    MissingToolError,
    NetworkError,
    NotFoundError,
    RefusedError,
    TidewaiterError,
    UndeterminedError,
)
from tidewaiter.core.settings import Settings
from tidewaiter.pipelines.sources import places
from tidewaiter.pipelines.sources.checking_out import Checkout, checkout, resolve

TOKEN = "glpat-4bWm-very-secret"
LFS_TEXT = "version https://git-lfs.github.com/spec/v1\noid sha256:{oid}\nsize {size}\n"


class Place(NamedTuple):
    """A server with repositories, a home, and a folder to work in."""

    server: GitServer
    root: Path
    settings: Settings
    work: Path

    def url(self, name: str = "proj") -> str:
        return f"{self.server.url}/{name}/.git"

    def out(self, commit: str, name: str = "proj", **more: object) -> Checkout:
        """Check it out into `work/x`."""
        source = Source(repository=self.url(name), commit=commit, **more)  # type: ignore[arg-type]  # of the test
        return checkout(self.settings, source, self.work / "x", self.note)

    def note(self, text: str) -> None:
        """Lines of the log must not hold the token."""
        assert TOKEN not in text


def settings_of(home: Path, server: GitServer, more: str = "", top: str = "") -> Settings:
    home.mkdir(exist_ok=True)
    (home / "settings.toml").write_text(
        f'plain_http = "{server.host}"\n{top}\n[[source]]\nname = "proj"\nurl = "{server.url}/proj/.git"\n{more}'
    )
    return all_settings.load({"TIDEWAITER_HOME": str(home)})


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    """A Git server that lets everybody in."""
    root = tmp_path / "repositories"
    root.mkdir()
    (tmp_path / "work").mkdir()
    with git_server(root) as server:
        yield Place(server, root, settings_of(tmp_path / "home", server), tmp_path / "work")


@pytest.fixture
def guarded(place: Place, monkeypatch: pytest.MonkeyPatch) -> Place:
    """The same, for who has the token, which the settings name."""
    monkeypatch.setenv("RANKER_TOKEN", TOKEN)
    place.server.token = TOKEN
    settings = settings_of(place.settings.home.path, place.server, 'credential = "env:RANKER_TOKEN"\n')
    return place._replace(settings=settings)


def everything_below(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file() and not path.is_symlink())


def test_a_folder_is_exactly_the_commit(guarded: Place) -> None:
    """The commit's files, on its branch, without history; the address has no credential, and nothing else has one."""
    commit(guarded.root / "proj", {"a.txt": "old", "gone.txt": "1"})
    (guarded.root / "proj" / "gone.txt").unlink()
    wanted = commit(guarded.root / "proj", {"a.txt": "new", "deep/b.txt": "2"})
    made = guarded.out(wanted, ref="refs/heads/main")
    assert (made.commit, made.author, made.committed_at.year) == (wanted, "Anna", 2026)
    assert {str(one.relative_to(made.folder)) for one in made.folder.rglob("*") if ".git" not in one.parts} == {
        "a.txt",
        "deep",
        "deep/b.txt",
    }
    assert (made.folder / "a.txt").read_text() == "new"
    assert git(made.folder, "log", "--format=%H") == wanted
    assert git(made.folder, "symbolic-ref", "HEAD") == "refs/heads/main"
    assert git(made.folder, "config", "remote.origin.url") == guarded.url()
    assert git(made.folder, "status", "--porcelain") == ""
    for folder in (guarded.work, guarded.settings.home.path):
        assert TOKEN.encode() not in everything_below(folder)
    assert [one.name for one in guarded.work.iterdir()] == ["x"]


def test_what_is_there_is_not_fetched_again(guarded: Place) -> None:
    """The same commit asks nobody; one that was changed by hand is made anew from the cache; another one is fetched."""
    first = commit(guarded.root / "proj", {"a.txt": "1"})
    second = commit(guarded.root / "proj", {"a.txt": "2"})
    guarded.out(second)
    asked = len(guarded.server.asked)
    guarded.out(second)
    (guarded.work / "x" / "a.txt").write_text("changed")
    (guarded.work / "x" / "added").write_text("more")
    made = guarded.out(second)
    assert (made.folder / "a.txt").read_text() == "2"
    assert not (made.folder / "added").exists()
    assert len(guarded.server.asked) == asked
    assert (guarded.out(first).folder / "a.txt").read_text() == "1"
    assert len(guarded.server.asked) > asked


def test_what_a_killed_git_left_keeps_nobody_from_fetching(place: Place) -> None:
    """Git's own locks in the cache are those of one that was killed: the next fetch takes them away."""
    first = commit(place.root / "proj", {"a.txt": "1"})
    place.out(first)
    (cache,) = place.settings.home.cache.glob("sources/*/git")
    for name in ("shallow.lock", "packed-refs.lock"):
        (cache / name).touch()
    second = commit(place.root / "proj", {"a.txt": "2"})
    assert (place.out(second).folder / "a.txt").read_text() == "2"
    assert not list(cache.rglob("*.lock"))


def test_the_token_is_in_no_argument_and_is_sent_to_its_host_only(guarded: Place) -> None:
    """While Git fetches, no process has the token in its arguments; a host that it is led to does not get it."""
    wanted = commit(guarded.root / "proj", {"a.txt": "1"})
    lines: list[bytes] = []

    def look(_: BaseHTTPRequestHandler) -> bool:
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                lines.append(path.read_bytes())
            except OSError:
                continue  # it ended meanwhile
        return False

    guarded.server.before = look
    guarded.out(wanted)
    assert any(b"git-remote-http" in line or b"remote-http" in line for line in lines)
    assert not any(TOKEN.encode() in line for line in lines)
    assert any(one.authorization for one in guarded.server.asked)


def test_a_redirect_to_another_host_gets_no_token(guarded: Place, tmp_path: Path) -> None:
    """A server that leads elsewhere cannot have the token sent there."""
    wanted = commit(guarded.root / "proj", {"a.txt": "1"})
    with git_server(tmp_path / "empty") as other:
        other.token = "something else"
        guarded.server.before = lambda request: _redirect(request, other.url)
        with pytest.raises(TidewaiterError) as caught:
            guarded.out(wanted)
    assert TOKEN not in str(caught.value)
    assert other.asked
    assert not any(one.authorization for one in other.asked)


def _redirect(request: BaseHTTPRequestHandler, url: str) -> bool:
    request.send_response(302)
    request.send_header("Location", url + request.path)
    request.send_header("Content-Length", "0")
    request.end_headers()
    return True


def test_a_wrong_token_is_said_without_it(guarded: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who is not let in is told which setting to look at, and nothing of the token."""
    wanted = commit(guarded.root / "proj", {"a.txt": "1"})
    monkeypatch.setenv("RANKER_TOKEN", "wrong-token")
    with pytest.raises(NetworkError) as caught:
        guarded.out(wanted)
    assert caught.value.code == "source_credential"
    assert "wrong-token" not in caught.value.message
    monkeypatch.delenv("RANKER_TOKEN")
    with pytest.raises(UndeterminedError, match="RANKER_TOKEN is not set"):
        guarded.out(wanted)


@pytest.mark.parametrize("kind", ["file", "hook"])
def test_credentials_come_from_files_and_commands(guarded: Place, tmp_path: Path, kind: str) -> None:
    """A token is read from a file, or from what a command answers."""
    wanted = commit(guarded.root / "proj", {"a.txt": "1"})
    (tmp_path / "token").write_text(f"{TOKEN}\n")
    where = f"file:{tmp_path}/token" if kind == "file" else f"hook:cat {tmp_path}/token"
    settings = settings_of(guarded.settings.home.path, guarded.server, f'credential = "{where}"\n')
    assert guarded._replace(settings=settings).out(wanted).commit == wanted


def test_users_own_configuration_does_not_count(place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a `.gitconfig` nor a `.netrc` of whoever runs the worker has a say."""
    wanted = commit(place.root / "proj", {"a.txt": "1"})
    (tmp_path / ".gitconfig").write_text(f'[url "{place.server.url}/other/"]\n\tinsteadOf = {place.server.url}/proj/\n')
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login me password mine\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("GIT_TRACE_CURL", str(tmp_path / "trace"))
    place.server.token = "mine"
    with pytest.raises(NetworkError):
        place.out(wanted)
    place.server.token = None
    assert place.out(wanted).commit == wanted
    assert not (tmp_path / "trace").exists()


def test_a_server_that_gives_no_hashes_is_asked_for_the_branch(place: Place) -> None:
    """With the old protocol a commit behind the tip is found through its branch; without a branch it cannot be."""
    first = commit(place.root / "proj", {"a.txt": "1"})
    commit(place.root / "proj", {"a.txt": "2"})
    place.server.old = True
    with pytest.raises(NotFoundError):
        place.out(first)
    made = place.out(first, ref="refs/heads/main")
    assert (made.folder / "a.txt").read_text() == "1"


def test_what_is_not_there_is_said(place: Place) -> None:
    """A commit that was never pushed, and a hash that is no commit, are no commits to fetch."""
    wanted = commit(place.root / "proj", {"a.txt": "1"})
    git(place.root / "proj", "tag", "-a", "-m", "one", "v1")
    with pytest.raises(NotFoundError):
        place.out("1" * 40, ref="refs/heads/main")
    with pytest.raises(InputError, match="no commit"):
        place.out(git(place.root / "proj", "rev-parse", "v1"))
    with pytest.raises(InputError):
        place.out(wanted[:12])
    with pytest.raises(TidewaiterError):
        place.out(wanted, name="no-such")
    assert list(place.work.iterdir()) == []


def test_branches_and_tags_are_resolved(guarded: Place) -> None:
    """A branch is the commit at its tip, an annotated tag the commit that it is of; what is not there is said."""
    wanted = commit(guarded.root / "proj", {"a.txt": "1"})
    git(guarded.root / "proj", "tag", "-a", "-m", "one", "v1")
    git(guarded.root / "proj", "tag", "plain")
    for ref in ("refs/heads/main", "refs/tags/v1", "refs/tags/plain"):
        assert resolve(guarded.settings, guarded.url(), ref) == wanted
    with pytest.raises(NotFoundError):
        resolve(guarded.settings, guarded.url(), "refs/heads/none")
    with pytest.raises(InputError):
        resolve(guarded.settings, guarded.url(), "--upload-pack=touch x")


@pytest.mark.parametrize(
    "url",
    [
        "ext::sh -c touch% /tmp/owned",
        "--upload-pack=touch",
        "-u",
        "/etc",
        "git://example.com/x.git",
        "ftp://example.com/x.git",
        "https://me:secret@example.com/x.git",
        "https://token@example.com/x.git",
        "ssh://-oProxyCommand=touch/x.git",
        "ssh://a:b@example.com/x.git",
        "https://example.com/x.git?a=b",
        "https://example.com/",
        "https://exa mple.com/x",
        "https://example.com/x\n.git",
        "file://host/x",
        "https://example.com/" + "x" * 2000,
    ],
)
def test_other_addresses_are_refused(place: Place, url: str) -> None:
    """What Git would take for a command, an option or another way in never reaches it; passwords are not shown."""
    with pytest.raises(InputError) as caught:
        places.place(place.settings, url)
    assert "secret" not in caught.value.message


def test_http_and_paths_need_a_setting(place: Place, tmp_path: Path) -> None:
    """Without TLS, or by path, only where the settings name it."""
    wanted = commit(place.root / "proj", {"a.txt": "1"})
    bare = all_settings.load({"TIDEWAITER_HOME": str(tmp_path / "bare")})
    (tmp_path / "bare").mkdir()
    path = f"file://{place.root}/proj/.git"
    for url in (place.url(), path, f"file://{place.root}/../repositories/proj/.git"):
        with pytest.raises(RefusedError) as caught:
            places.place(bare, url)
        assert caught.value.code == "source_address"
    local = all_settings.load({"TIDEWAITER_HOME": str(tmp_path / "bare"), "TIDEWAITER_LOCAL_SOURCES": str(place.root)})
    made = checkout(local, Source(repository=path, commit=wanted), place.work / "x", place.note)
    assert made.commit == wanted
    with pytest.raises(RefusedError):
        places.place(local, f"file://{tmp_path}/elsewhere")


def test_spellings_of_one_place_are_one(place: Place, tmp_path: Path) -> None:
    """ssh in both spellings, and addresses with and without `.git`, are the same source."""
    home = tmp_path / "other"
    home.mkdir()
    (home / "settings.toml").write_text('[[source]]\nname = "a"\nurl = "git@git.example:team/a.git"\n')
    settings = all_settings.load({"TIDEWAITER_HOME": str(home)})
    for url in ("ssh://git@git.example/team/a", "git@git.example:team/a", "GIT@GIT.example:/team/a.git"):
        found = places.table_of(settings, places.place(settings, url))
        assert found is not None
        assert found.name == "a"
    assert places.table_of(settings, places.place(settings, "https://git.example/team/a.git")) is None


# Repositories that mean harm


@pytest.mark.parametrize(
    "links",
    [
        {"out": "/etc/passwd"},
        {"out": "../../../etc/passwd"},
        {"deep/out": "../../x"},
        {"a": "b/../../..", "b": "."},
        {"sub/one": "..", "out": "sub/one/../.."},
        {"loop": "loop"},
    ],
)
def test_links_that_lead_out_are_refused(place: Place, links: dict[str, str]) -> None:
    """A link to somewhere else, also over another link, is refused before anybody can follow it."""
    repository = place.root / "proj"
    commit(repository, {"sub/deep/file": "1"})
    for name, target in links.items():
        (repository / name).parent.mkdir(exist_ok=True)
        (repository / name).symlink_to(target)
    wanted = commit(repository, {})
    with pytest.raises(RefusedError) as caught:
        place.out(wanted)
    assert caught.value.code == "source_refused"
    assert list(place.work.iterdir()) == []


def test_links_within_are_kept(place: Place) -> None:
    """A link that stays in the repository is a link afterwards."""
    commit(place.root / "proj", {"sub/deep/file": "1"})
    (place.root / "proj" / "sub" / "link").symlink_to("../sub/deep/file")
    made = place.out(commit(place.root / "proj", {}))
    assert (made.folder / "sub" / "link").read_text() == "1"


@pytest.mark.parametrize("name", [".git", ".GIT", "..", "."])
def test_trees_that_would_write_elsewhere_are_refused(place: Place, name: str) -> None:
    """A tree with a `.git` or a path of dots in it, which Git itself would not make, is not written."""
    repository = place.root / "proj"
    commit(repository, {"a.txt": "1"})
    blob = git(repository, "hash-object", "-w", "--stdin", given=b"[core]\n\tfsmonitor = touch /tmp/owned\n")
    inner = b"100644 config\0" + bytes.fromhex(blob)
    tree = git(repository, "hash-object", "-w", "--literally", "-t", "tree", "--stdin", given=inner)
    outer = b"40000 %b\0" % name.encode() + bytes.fromhex(tree)
    whole = git(repository, "hash-object", "-w", "--literally", "-t", "tree", "--stdin", given=outer)
    wanted = git(repository, "commit-tree", whole, "-m", "bad")
    git(repository, "update-ref", "refs/heads/bad", wanted)
    with pytest.raises(TidewaiterError):
        place.out(wanted)
    assert list(place.work.iterdir()) == []


def test_nothing_of_a_repository_runs(place: Place, tmp_path: Path) -> None:
    """Filters, hooks and configuration that a repository brings along are files, and nothing more."""
    owned = tmp_path / "owned"
    files: dict[str, str | bytes] = {
        ".gitattributes": "*.txt filter=evil diff=evil merge=evil\n*.c ident\n",
        "a.txt": "1\r\n",
        "id.c": "$Id$\n",
        "hooks/post-checkout": f"#!/bin/sh\ntouch {owned}\n",
        ".gitconfig": f'[filter "evil"]\n\tsmudge = touch {owned}\n',
    }
    made = place.out(commit(place.root / "proj", files))
    assert not owned.exists()
    assert (made.folder / "a.txt").read_bytes() == b"1\r\n"


def test_a_bomb_of_trees_is_cut(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """A tree of ten levels with ten names each for the same thing is ten billion files in a kilobyte; it is refused."""
    repository = place.root / "proj"
    commit(repository, {"a.txt": "1"})
    name = git(repository, "hash-object", "-w", "--stdin", given=b"x")
    for level in range(10):
        kind = "100644 blob" if level == 0 else "040000 tree"
        listed = "".join(f"{kind} {name}\tn{number}\n" for number in range(10)).encode()
        name = git(repository, "mktree", given=listed)
    wanted = git(repository, "commit-tree", name, "-m", "bomb")
    git(repository, "update-ref", "refs/heads/bomb", wanted)
    monkeypatch.setattr(limits, "SOURCE_TREE_FILES", 20_000)
    began = time.monotonic()
    with pytest.raises(LimitError):
        place.out(wanted)
    assert time.monotonic() - began < 30


def test_bounds_hold_from_both_sides(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """As many files and bytes as are allowed are written, one more is not; a fetch that writes too much ends."""
    files: dict[str, str | bytes] = {f"f{number}": os.urandom(50_000) for number in range(10)}
    wanted = commit(place.root / "proj", files)
    monkeypatch.setattr(limits, "SOURCE_PACK_BYTES", 100_352)
    with pytest.raises(LimitError):
        place.out(wanted)
    monkeypatch.setattr(limits, "SOURCE_PACK_BYTES", limits.GIB)
    for name, bound in (("SOURCE_TREE_FILES", 10), ("SOURCE_TREE_BYTES", 500_000)):
        monkeypatch.setattr(limits, name, bound - 1)
        with pytest.raises(LimitError):
            place.out(wanted)
        monkeypatch.setattr(limits, name, bound)
    assert place.out(wanted).commit == wanted


def test_a_server_that_hangs_is_given_up(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """After its time a fetch ends with everything that it started; a note that raises ends it at once."""
    wanted = commit(place.root / "proj", {"a.txt": "1"})
    stop = threading.Event()
    place.server.before = lambda _: stop.wait(30)
    monkeypatch.setattr(limits, "SOURCE_SECONDS", 1.5)
    began = time.monotonic()
    with pytest.raises(DeadlineError):
        place.out(wanted)
    assert time.monotonic() - began < 15
    monkeypatch.setattr(limits, "SOURCE_SECONDS", 60.0)
    monkeypatch.setattr("tidewaiter.pipelines.sources.git._LOOK_SECONDS", 0.2)

    def cancelled(text: str) -> None:
        if "fetching from" in text:
            raise RefusedError("it was cancelled", next_step="Nothing.")

    with pytest.raises(RefusedError, match="cancelled"):
        checkout(place.settings, Source(repository=place.url(), commit=wanted), place.work / "x", cancelled)
    listed = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    stop.set()
    assert place.server.url not in listed


def test_an_old_git_is_refused(place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that would not take its configuration from us is not used; none at all is said, too."""
    wanted = commit(place.root / "proj", {"a.txt": "1"})
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "git").write_text("#!/bin/sh\necho git version 2.30.2\n")
    (tmp_path / "bin" / "git").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    with pytest.raises(MissingToolError, match="too old"):
        place.out(wanted)
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    with pytest.raises(MissingToolError):
        place.out(wanted)


def test_many_at_once_make_the_same(guarded: Place) -> None:
    """Four checkouts of one repository at the same time are four whole folders, and one fetch of each commit."""
    commits = [commit(guarded.root / "proj", {"a.txt": str(number)}) for number in range(2)]

    def one(number: int) -> str:
        folder = guarded.work / str(number)
        source = Source(repository=guarded.url(), commit=commits[number % 2])
        return (checkout(guarded.settings, source, folder, guarded.note).folder / "a.txt").read_text()

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(one, range(4))) == ["0", "1", "0", "1"]


# Submodules


def _with_submodule(place: Place, url: str) -> str:
    inner = commit(place.root / "inner", {"in.txt": "inside"})
    repository = place.root / "proj"
    commit(repository, {".gitmodules": f'[submodule "in"]\n\tpath = libs/in\n\turl = {url}\n'})
    git(repository, "update-index", "--add", "--cacheinfo", f"160000,{inner},libs/in")
    git(repository, "commit", "-q", "-m", "with a submodule")
    return git(repository, "rev-parse", "HEAD")


def test_submodules_are_fetched_when_asked_for(place: Place) -> None:
    """Relative and whole addresses; without being asked for, its folder is empty."""
    wanted = _with_submodule(place, "../../inner/.git")
    made = place.out(wanted)
    assert not list((made.folder / "libs" / "in").iterdir())
    made = place.out(wanted, submodules=True)
    assert (made.folder / "libs" / "in" / "in.txt").read_text() == "inside"
    assert git(made.folder, "status", "--porcelain", "--ignore-submodules=none") == ""
    assert "libs/in/in.txt" in git(made.folder, "ls-files", "--recurse-submodules")
    whole = _with_submodule(place, f"{place.server.url}/inner/.git")
    assert (place.out(whole, submodules=True).folder / "libs/in/in.txt").read_text() == "inside"


@pytest.mark.parametrize(
    "url", ["ext::sh -c touch% /tmp/owned", "file:///etc", "/etc", "../../../../../../x y", "http://example.com/x.git"]
)
def test_submodules_from_elsewhere_are_refused(place: Place, url: str) -> None:
    """The rules of addresses hold for submodules, and those of this machine are out of reach."""
    wanted = _with_submodule(place, url)
    with pytest.raises(TidewaiterError):
        place.out(wanted, submodules=True)
    assert not (place.work / "x").exists()


def test_tokens_are_not_for_submodules_of_other_repositories(guarded: Place) -> None:
    """A submodule of another repository is fetched without the credential of the one that names it."""
    wanted = _with_submodule(guarded, "../../inner/.git")
    with pytest.raises(NetworkError):
        guarded.out(wanted, submodules=True)
    assert any("inner" in one.path for one in guarded.server.asked)
    assert not any("inner" in one.path and one.authorization for one in guarded.server.asked)


def test_submodules_of_other_hosts_need_a_setting(place: Place, tmp_path: Path) -> None:
    """Another host than the repository's is asked only when `submodule_hosts` or a `[[source]]` names it."""
    root = tmp_path / "elsewhere"
    inner = commit(root / "other", {"in.txt": "from elsewhere"})
    with git_server(root) as other:
        repository = place.root / "proj"
        url = f"{other.url}/other/.git"
        commit(repository, {".gitmodules": f'[submodule "in"]\n\tpath = libs/in\n\turl = {url}\n'})
        git(repository, "update-index", "--add", "--cacheinfo", f"160000,{inner},libs/in")
        git(repository, "commit", "-q", "-m", "with a submodule")
        wanted = git(repository, "rev-parse", "HEAD")
        plain = place.settings.plain_http | {other.host}
        settings = msgspec.structs.replace(place.settings, plain_http=plain)
        with pytest.raises(RefusedError) as refused:
            place._replace(settings=settings).out(wanted, submodules=True)
        assert refused.value.code == "source_address"
        assert "submodule_hosts" in refused.value.next_step
        assert not other.asked
        named = msgspec.structs.replace(settings, submodule_hosts=frozenset({other.host}))
        made = place._replace(settings=named).out(wanted, submodules=True)
        assert (made.folder / "libs/in/in.txt").read_text() == "from elsewhere"
        table = msgspec.structs.replace(settings.sources[0], name="other", url=url)
        source = msgspec.structs.replace(settings, sources=(*settings.sources, table))
        (place.work / "y").mkdir()
        made = place._replace(settings=source, work=place.work / "y").out(wanted, submodules=True)
        assert (made.folder / "libs/in/in.txt").read_text() == "from elsewhere"


def test_submodules_of_other_teams_are_out_of_reach(place: Place) -> None:
    """Whoever may commit to one team's source gets no other's, not even from the cache; one that is both's he gets."""
    wanted = _with_submodule(place, "../../inner/.git")
    assert place.out(wanted, submodules=True)  # the cache has it now
    theirs = msgspec.structs.replace(
        place.settings.sources[0], name="inner", team="red", url=f"{place.server.url}/inner/.git"
    )
    settings = msgspec.structs.replace(place.settings, sources=(*place.settings.sources, theirs))
    (place.work / "z").mkdir()
    other = place._replace(settings=settings, work=place.work / "z")
    with pytest.raises(RefusedError, match="another team") as refused:
        other.out(wanted, submodules=True)
    assert refused.value.code == "source_address"
    both = msgspec.structs.replace(theirs, name="too", team=place.settings.sources[0].team)
    shared = msgspec.structs.replace(settings, sources=(*settings.sources, both))
    made = other._replace(settings=shared).out(wanted, submodules=True)
    assert (made.folder / "libs/in/in.txt").read_text() == "inside"


def test_hosts_of_submodules_are_compared_as_they_are_reached(place: Place) -> None:
    """ssh and https of one host are one; another port of https is another server; a relative address stays."""
    above = places.place(place.settings, "https://git.example:8443/team/app.git")
    for url in ("ssh://git@git.example:2222/team/in.git", "git@git.example:team/in.git", "../in.git"):
        assert places.below(place.settings, above, url, frozenset()).name == "git.example"
    for url in ("https://git.example/in.git", "https://other.example:8443/in.git", "ssh://git@other.example/in.git"):
        with pytest.raises(RefusedError):
            places.below(place.settings, above, url, frozenset())


def test_a_port_that_goes_without_saying_changes_nothing(place: Place) -> None:
    """A submodule, and the [[source]] of a repository, are found whether or not the address says the usual port."""
    above = places.place(place.settings, "https://git.example/team/app.git")
    assert places.below(place.settings, above, "https://git.example:443/team/in.git", frozenset()).same == (
        "https",
        "git.example",
        "team/in",
    )
    with pytest.raises(RefusedError):
        places.below(place.settings, above, "https://git.example:80/team/in.git", frozenset())
    table = msgspec.structs.replace(place.settings.sources[0], url="https://git.example:443/team/a.git")
    settings = msgspec.structs.replace(
        place.settings,
        sources=(table,),
        submodule_hosts=frozenset({"other.example:443"}),
        plain_http=frozenset({"plain.example:80"}),
    )
    assert places.table_of(settings, places.place(settings, "https://git.example/team/a.git")) == table
    assert places.below(settings, above, "https://other.example/in.git", frozenset()).host == "other.example"
    assert places.place(settings, "http://plain.example/in.git").host == "plain.example"


def _chain(place: Place, *, files: int) -> str:
    """A repository with two submodules side by side, of which one has another; each has that many files."""
    many = {f"{number}.txt": os.urandom(2000) for number in range(files)}
    deepest = commit(place.root / "deepest", dict(many))
    for name, inside in (("left", {"in": ("deepest", deepest)}), ("right", {})):
        _submodules_of(place, name, dict(many), inside)
    sides = {name: (name, git(place.root / name, "rev-parse", "HEAD")) for name in ("left", "right")}
    return _submodules_of(place, "proj", {}, sides)


def _submodules_of(place: Place, name: str, files: dict[str, str | bytes], inside: dict[str, tuple[str, str]]) -> str:
    repository = place.root / name
    said = "".join(
        f'[submodule "{path}"]\n\tpath = {path}\n\turl = ../../{other}/.git\n' for path, (other, _) in inside.items()
    )
    commit(repository, {**files, **({".gitmodules": said} if said else {"none.txt": "none"})})
    for path, (_, theirs) in inside.items():
        git(repository, "update-index", "--add", "--cacheinfo", f"160000,{theirs},{path}")
    git(repository, "commit", "-q", "--allow-empty", "-m", "with submodules")
    return git(repository, "rev-parse", "HEAD")


@pytest.mark.parametrize(
    ("name", "enough", "too_few"),
    [
        ("SOURCE_SUBMODULES", 3, 2),
        ("SOURCE_TREE_FILES", 100, 20),
        ("SOURCE_TREE_BYTES", 100_000, 40_000),
        ("SOURCE_PACK_BYTES", 102_400, 40_960),
    ],
)
def test_submodules_are_bounded_together(
    place: Place, monkeypatch: pytest.MonkeyPatch, name: str, enough: int, too_few: int
) -> None:
    """Each of the repositories stays below the bound, all of them do not."""
    wanted = _chain(place, files=8)
    with monkeypatch.context() as bounds:
        bounds.setattr(limits, name, too_few)
        with pytest.raises(LimitError):
            place.out(wanted, submodules=True)
    assert not list(place.work.iterdir())
    monkeypatch.setattr(limits, name, enough)
    assert (place.out(wanted, submodules=True).folder / "left" / "in" / "7.txt").is_file()


# Large files


class Lfs:
    """A server of large files beside the repository."""

    def __init__(self, server: GitServer, content: bytes) -> None:
        self.server, self.content = server, content
        self.oid = hashlib.sha256(content).hexdigest()
        self.authorizations: list[str] = []
        server.before = self.answer

    def answer(self, request: BaseHTTPRequestHandler) -> bool:
        if request.path.endswith("/info/lfs/objects/batch"):
            asked = json.loads(request.rfile.read(int(request.headers["Content-Length"])))
            self.authorizations.append(request.headers.get("Authorization", ""))
            objects = [
                {**one, "actions": {"download": {"href": f"{self.server.url}/large/{one['oid']}"}}}
                for one in asked["objects"]
            ]
            reply(request, 200, json.dumps({"transfer": "basic", "objects": objects}).encode())
            return True
        if request.path.startswith("/large/"):
            reply(request, 200, self.content)
            return True
        return False


def _with_large_file(place: Place, content: bytes) -> str:
    pointer = LFS_TEXT.format(oid=hashlib.sha256(content).hexdigest(), size=len(content))
    attributes = "*.bin filter=lfs diff=lfs merge=lfs -text\n"
    return commit(place.root / "proj", {".gitattributes": attributes, "w.bin": pointer, "doc.txt": pointer})


def test_large_files_are_fetched_and_checked(guarded: Place) -> None:
    """Files of Git LFS come with the source's token, once, and stand in the place of their pointers."""
    content = os.urandom(300_000)
    wanted = _with_large_file(guarded, content)
    made = guarded.out(wanted)
    assert (made.folder / "w.bin").read_text().startswith("version https://git-lfs")
    lfs = Lfs(guarded.server, content)
    made = guarded.out(wanted, lfs=True)
    assert (made.folder / "w.bin").read_bytes() == content
    assert (made.folder / "doc.txt").read_text().startswith("version https://git-lfs")
    assert all(lfs.authorizations)
    assert len(lfs.authorizations) == 1
    assert git(made.folder, "status", "--porcelain") == ""
    guarded.out(wanted, lfs=True)
    assert len(lfs.authorizations) == 1


def test_another_large_file_is_refused(guarded: Place) -> None:
    """What does not have the SHA-256 or size of its pointer does not come to be in the folder."""
    content = os.urandom(1000)
    wanted = _with_large_file(guarded, content)
    lfs = Lfs(guarded.server, content)
    lfs.content = os.urandom(1000)
    with pytest.raises(IntegrityError):
        guarded.out(wanted, lfs=True)
    lfs.content = content + b"more"
    with pytest.raises(LimitError):
        guarded.out(wanted, lfs=True)
    assert not (guarded.work / "x").exists()


def test_large_files_come_within_the_time_of_the_whole(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server of large files that sends a little now and then is cut off when the time of the checkout is over."""
    content = os.urandom(1000)
    wanted = _with_large_file(place, content)
    lfs = Lfs(place.server, content)
    ended = threading.Event()

    def slowly(request: BaseHTTPRequestHandler) -> bool:
        if not request.path.startswith("/large/"):
            return lfs.answer(request)
        request.send_response(200)
        request.send_header("Content-Length", str(len(content)))
        request.end_headers()
        with contextlib.suppress(OSError):
            for byte in content:
                request.wfile.write(bytes([byte]))
                request.wfile.flush()
                if ended.wait(0.2):
                    break
        return True

    place.server.before = slowly
    monkeypatch.setattr(limits, "SOURCE_SECONDS", 3.0)
    began = time.monotonic()
    try:
        with pytest.raises(DeadlineError):
            place.out(wanted, lfs=True)
        assert time.monotonic() - began < 30  # all of it would take 200
    finally:
        ended.set()
    assert not (place.work / "x").exists()
    assert not list((place.settings.home.cache / "sources").glob("*/lfs/.*"))
