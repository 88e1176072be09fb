"""Commit, dirtiness and what must not run while asking Git."""

import hashlib
import subprocess
import threading
import time
from pathlib import Path

import msgspec
import pytest

from tidewaiter.assembly import build, source
from tidewaiter.core import project
from tidewaiter.core.errors import IntegrityError, ProjectError

TOML = """\
[image]
name = "team/app"
purpose = "training"
environment = "research"
[base]
use = "debian12-python3.11"
[python]
version = "3.11"
requirements = "requirements.in"
[app]
include = ["src"]
entrypoint = ["python", "/app/src/main.py"]
"""


def git(folder: Path, *arguments: str) -> None:
    identity = ("-c", "user.name=Test", "-c", "user.email=test@example.com")
    subprocess.run(["git", *identity, "-C", str(folder), *arguments], check=True, capture_output=True)


@pytest.fixture
def repository(tmp_path: Path) -> project.Project:
    """A committed project."""
    (tmp_path / "src").mkdir()
    (tmp_path / "src/main.py").write_text("print(1)\n")
    for name, text in (("tidewaiter.toml", TOML), ("requirements.in", ""), ("pylock.toml", ""), ("base.lock", "")):
        (tmp_path / name).write_text(text)
    git(tmp_path, "init", "-q", "-b", "main")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-q", "-m", "first")
    return project.load(tmp_path)


def test_clean_tree(repository: project.Project) -> None:
    """A committed tree gives the commit's first twelve digits as tag."""
    found = source.read(repository)
    head = subprocess.check_output(["git", "-C", str(repository.directory), "rev-parse", "HEAD"], text=True).strip()
    assert found.commit == head
    assert found.tag_for("amd64") == head[:12]
    assert found.branch == "main"


def test_changed_input_is_dirty(repository: project.Project) -> None:
    """An edited input, a new file below an included folder and an ignored one all count as differences."""
    for name in ("src/main.py", "src/new.py", "requirements.in"):
        path = repository.directory / name
        before = path.read_bytes() if path.exists() else None
        path.write_text("changed\n")
        assert source.read(repository).tag_for("amd64").endswith("-dirty"), name
        path.write_bytes(before) if before is not None else path.unlink()
    (repository.directory / ".gitignore").write_text("*.csv\n")
    (repository.directory / "src/data.csv").write_text("1")
    assert source.read(repository).dirty


def test_a_second_look_says_what_lies_there(repository: project.Project) -> None:
    """What Git says at once, and how files lie beside it; whoever needs no answer need not wait for it."""
    with source.reading(repository) as first:
        before = first()
    assert not before.dirty
    with source.reading(repository, first) as again:
        assert again() == again() == before
    for name in ("src/main.py", "src/new.py", "base.arm64.lock"):
        path = repository.directory / name
        content = path.read_bytes() if path.exists() else None
        path.write_text("print(2)\n")
        with source.reading(repository, first) as again:
            assert again() == msgspec.structs.replace(before, dirty=True), name
        path.unlink() if content is None else path.write_bytes(content)
    (repository.directory / "src/main.py").chmod(0o755)
    with source.reading(repository, first) as again:
        assert again().dirty
    with source.reading(repository, first):
        pass
    assert not [one for one in threading.enumerate() if one.name == "git"]


def test_a_project_that_moves_while_it_is_built_is_an_error(repository: project.Project) -> None:
    """Another commit, or another project file, than what the build began with."""
    with source.reading(repository) as first:
        before = first()
    assert build._unmoved(repository, msgspec.structs.replace(before, dirty=True), before).dirty
    build._require_same(repository)
    git(repository.directory, "commit", "-q", "--allow-empty", "-m", "second")
    with source.reading(repository, first) as again, pytest.raises(IntegrityError, match="changed while it was read"):
        build._unmoved(repository, before, again())
    repository.path.write_text(TOML.replace("research", "staging"))
    with pytest.raises(IntegrityError, match="changed while it was read"):
        build._require_same(repository)


def test_who_fails_does_not_wait_for_a_git_that_hangs(
    repository: project.Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever ends the block ends Git, too, which had a minute."""
    git = tmp_path / "bin" / "git"
    git.parent.mkdir()
    git.write_text("#!/bin/sh\nexec sleep 50\n")
    git.chmod(0o755)
    monkeypatch.setenv("PATH", f"{git.parent}:/usr/bin:/bin")
    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt), source.reading(repository):
        raise KeyboardInterrupt
    assert time.monotonic() - started < 40


def test_unrelated_change_is_clean(repository: project.Project) -> None:
    """Files that do not enter the image, and bytecode beside the sources, change nothing."""
    (repository.directory / "notes.txt").write_text("x")
    (repository.directory / "src/__pycache__").mkdir()
    (repository.directory / "src/__pycache__/main.cpython-311.pyc").write_bytes(b"")
    assert not source.read(repository).dirty


def test_no_repository(tmp_path: Path) -> None:
    """Outside Git the error says which commands make a repository."""
    (tmp_path / "tidewaiter.toml").write_text(TOML)
    with pytest.raises(ProjectError, match="not in a Git repository") as caught:
        source.read(project.load(tmp_path))
    assert "git init" in caught.value.next_step


def test_no_commit(tmp_path: Path) -> None:
    """A repository without commits is told to commit."""
    (tmp_path / "tidewaiter.toml").write_text(TOML)
    git(tmp_path, "init", "-q")
    with pytest.raises(ProjectError, match="no commit yet"):
        source.read(project.load(tmp_path))


def test_bare_repository(repository: project.Project) -> None:
    """A repository without files beside it has commits, and still is nothing to build from."""
    git(repository.directory, "config", "core.bare", "true")
    with pytest.raises(ProjectError, match="not in a Git repository"):
        source.read(repository)


def test_credentials_are_cut_from_the_remote(repository: project.Project) -> None:
    """User and password of the remote never leave the machine's Git configuration."""
    git(repository.directory, "remote", "add", "origin", "https://user:secret@git.example.com/team/app.git")
    assert source.read(repository).remote == "https://git.example.com/team/app.git"


def test_repository_configuration_runs_nothing(repository: project.Project) -> None:
    """A file-system monitor configured in the repository is not started."""
    marker = repository.directory / "started"
    git(repository.directory, "config", "core.fsmonitor", f"touch {marker}; false")
    source.read(repository)
    assert not marker.exists()


def test_no_program_of_the_repository_checks_a_signature(repository: project.Project) -> None:
    """A signed commit, and a program of the repository's choice that is to look at it."""
    folder = repository.directory
    marker, program = folder / "started", folder / ".git" / "gpg"
    program.write_text(f"#!/bin/sh\ntouch {marker}\n")
    program.chmod(0o755)
    git(folder, "config", "gpg.program", str(program))
    git(folder, "config", "log.showSignature", "true")
    content = subprocess.check_output(["git", "-C", str(folder), "cat-file", "commit", "HEAD"], text=True)
    head, _, message = content.partition("\n\n")
    signed = f"{head}\ngpgsig -----BEGIN PGP SIGNATURE-----\n \n x\n -----END PGP SIGNATURE-----\n\n{message}"
    made = subprocess.run(
        ["git", "-C", str(folder), "hash-object", "-t", "commit", "-w", "--stdin"],
        input=signed,
        capture_output=True,
        text=True,
        check=True,
    )
    git(folder, "reset", "-q", made.stdout.strip())
    assert not source.read(repository).dirty
    assert not marker.exists()
    subprocess.run(["git", "-C", str(folder), "log", "-1"], capture_output=True, check=True)
    assert marker.exists()


def test_what_git_was_told_to_overlook_is_dirty(repository: project.Project) -> None:
    """Assumed-unchanged files, ignored modes and missing sparse files differ from the commit all the same."""
    folder = repository.directory
    main = folder / "src/main.py"
    git(folder, "update-index", "--assume-unchanged", "src/main.py")
    main.write_text("print(2)\n")
    assert source.read(repository).dirty
    main.write_text("print(1)\n")
    git(folder, "update-index", "--no-assume-unchanged", "src/main.py")
    assert not source.read(repository).dirty
    git(folder, "config", "core.fileMode", "false")
    main.chmod(0o755)
    assert source.read(repository).dirty
    main.chmod(0o644)
    git(folder, "update-index", "--skip-worktree", "src/main.py")
    main.unlink()
    assert source.read(repository).dirty


def test_other_line_endings_are_dirty(repository: project.Project) -> None:
    """A checkout that turned line endings is not what the commit holds, though Git calls it clean."""
    folder = repository.directory
    git(folder, "config", "core.autocrlf", "true")
    (folder / "src/main.py").unlink()
    git(folder, "checkout", "-q", "src/main.py")
    assert (folder / "src/main.py").read_bytes() == b"print(1)\r\n"
    assert source.read(repository).dirty


def test_staged_change_is_dirty(repository: project.Project) -> None:
    """What is staged is not in the commit yet."""
    (repository.directory / "src/main.py").write_text("print(2)\n")
    git(repository.directory, "add", "-A")
    assert source.read(repository).dirty


def test_names_are_no_git_patterns(repository: project.Project) -> None:
    """A file whose name is pathspec magic does not hide changes of the others."""
    folder = repository.directory
    magic = ":!src"
    (folder / magic).write_text("")
    (folder / "tidewaiter.toml").write_text(TOML.replace('["src"]', f'["src", "{magic}"]'))
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "-m", "second")
    opened = project.load(folder)
    assert not source.read(opened).dirty
    (folder / "src/main.py").write_text("print(2)\n")
    assert source.read(opened).dirty


def test_submodules_count_to_the_byte(repository: project.Project, tmp_path_factory: pytest.TempPathFactory) -> None:
    """A committed submodule is clean; a file that it ignores, and a change that the project ignores, are not."""
    folder, other = repository.directory, tmp_path_factory.mktemp("other")
    git(other, "init", "-q")
    (other / "lib.py").write_text("print(3)\n")
    (other / ".gitignore").write_text("*.log\n")
    git(other, "add", "-A")
    git(other, "commit", "-q", "-m", "lib")
    git(folder, "-c", "protocol.file.allow=always", "submodule", "add", "-q", str(other), "src/lib")
    git(folder, "commit", "-q", "-m", "second")
    assert not source.read(repository).dirty
    (folder / "src/lib/a.log").write_text("ignored\n")
    assert source.read(repository).dirty
    (folder / "src/lib/a.log").unlink()
    git(folder, "config", "submodule.src/lib.ignore", "all")
    (folder / "src/lib/lib.py").write_text("print(4)\n")
    assert source.read(repository).dirty


def test_a_submodule_that_moves_on_is_seen(
    repository: project.Project, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Its own index is that of its new commit by then; the commit of the project names the old one."""
    folder, other = repository.directory, tmp_path_factory.mktemp("other")
    git(other, "init", "-q")
    for number in ("first", "second"):
        (other / "lib.py").write_text(f"print({number!r})\n")
        git(other, "add", "-A")
        git(other, "commit", "-q", "-m", number)
    git(folder, "-c", "protocol.file.allow=always", "submodule", "add", "-q", str(other), "src/lib")
    git(folder, "commit", "-q", "-m", "second")
    with source.reading(repository) as first:
        assert not first().dirty
    git(folder / "src/lib", "checkout", "-q", "HEAD~1")
    with source.reading(repository, first) as again:
        assert again().dirty


def test_what_git_says_of_two_commits_is_no_answer(repository: project.Project) -> None:
    """Its commands run at the same time; a branch that moves back in between must not name the newer files."""
    folder = repository.directory
    (folder / "src/main.py").write_text("print(2)\n")
    git(folder, "commit", "-q", "-a", "-m", "second")
    with source.reading(repository) as first:
        assert not first().dirty
    names = source._asked(repository)
    status, listed = source._ask(folder, (*source._STATUS, "--", *names), (*source._STAGED, "--", *names))
    git(folder, "reset", "-q", "--soft", "HEAD~1")
    rest = source._ask(
        folder,
        ("log", "-1", "--format=%H %ct %an", "HEAD"),
        ("rev-parse", "--show-prefix", "--symbolic-full-name", "HEAD"),
        ("config", "--get", "remote.origin.url"),
    )
    with pytest.raises(IntegrityError, match="changed while it was read"):
        source._source(repository, [status, rest[0], listed, *rest[1:]])
    with source.reading(repository, first) as again:
        assert again().commit != first().commit
    assert source.read(repository).dirty


def test_sha256_repository_is_clean(tmp_path: Path) -> None:
    """Object IDs are compared in the repository's own hash."""
    for name, text in (("tidewaiter.toml", TOML), ("requirements.in", ""), ("pylock.toml", ""), ("base.lock", "")):
        (tmp_path / name).write_text(text)
    (tmp_path / "src").mkdir()
    (tmp_path / "src/main.py").write_text("print(1)\n")
    (tmp_path / "src/link").symlink_to("main.py")
    git(tmp_path, "init", "-q", "--object-format=sha256")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-q", "-m", "first")
    found = source.read(project.load(tmp_path))
    assert (len(found.commit), found.dirty) == (64, False)


@pytest.mark.parametrize(
    "url", ["https://user:p@ss@git.example.com/app.git", "HTTPS://token@git.example.com/app.git", "ssh://git@h/app"]
)
def test_no_part_of_a_password_is_left_in_the_remote(repository: project.Project, url: str) -> None:
    """Everything up to the last `@` of the host part goes, whatever the scheme's case."""
    git(repository.directory, "remote", "add", "origin", url)
    assert "@" not in source.read(repository).remote


def test_a_large_file_is_what_its_pointer_names(repository: project.Project) -> None:
    """A file in the place of the pointer of Git LFS that the commit holds is clean; another one is not."""
    content = b"weights" * 1000
    large = repository.directory / "src/weights.bin"
    oid = hashlib.sha256(content).hexdigest()
    large.write_text(f"version https://git-lfs.github.com/spec/v1\noid sha256:{oid}\nsize {len(content)}\n")
    git(repository.directory, "add", ".")
    git(repository.directory, "commit", "-q", "-m", "large")
    assert not source.read(repository).dirty
    large.write_bytes(content)
    git(repository.directory, "update-index", "--assume-unchanged", "src/weights.bin")
    assert not source.read(repository).dirty
    large.write_bytes(content + b"x")
    assert source.read(repository).dirty
