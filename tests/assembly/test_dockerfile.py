"""Dockerfiles built for real, by buildah and by BuildKit, the whole way through the command line."""

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import little_shell
from buildkit_daemon import buildkit_daemon
from servers import Tool
from tidewaiter.assembly import dockerfile_buildah
from workplace import Done, command, commit, environment, git, run

pytestmark = pytest.mark.interop

FILE = """\
[image]
name = "team/built"
purpose = "training"
environment = "research"

[build]
dockerfile = "Dockerfile"
{build}
"""
RANDOM = "cat /proc/sys/kernel/random/uuid"


@pytest.fixture
def buildah(tool: Tool) -> dict[str, str]:
    """Settings that choose buildah, which must be installed."""
    tool("buildah")
    return {"TIDEWAITER_BUILDER": "buildah"}


@pytest.fixture(scope="session")
def shell(docker_registry: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """HOST/REPO:TAG of an image with a shell in a registry without TLS."""
    folder = tmp_path_factory.mktemp("shell")
    little_shell.make_shell(folder / "layout")
    name = f"{docker_registry}/dockerfile/shell:1"
    copied = run(
        folder / "home", "copy", f"oci:{folder}/layout:shell", name, extra={"TIDEWAITER_PLAIN_HTTP": docker_registry}
    )
    assert copied.code == 0, copied.err
    return name


def _project(folder: Path, dockerfile: str, build: str = "", **files: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "Dockerfile").write_text(dockerfile)
    (folder / "tidewaiter.toml").write_text(FILE.format(build=build))
    for name, text in files.items():
        (folder / name).write_text(text)
    commit(folder)
    return folder


def _build(home: Path, project: Path, *options: str, **extra: str) -> Done:
    return run(home, "build", project, "--format", "json", *options, extra=extra)


def _said(home: Path, made: Done, *words: str) -> str:
    """What a command prints in the image that was built."""
    done = run(home, "exec", made.json["reference"], "--", *words)
    assert done.code == 0, done.err
    return done.out


def test_result_is_an_image_like_every_other(tmp_path: Path, buildah: dict[str, str], shell: str) -> None:
    """It is in the store, is inspected, cleared, signed and run, layers of ours on top; nothing is built twice."""
    home = tmp_path / "home"
    registry = shell.partition("/")[0]
    extra = buildah | {"TIDEWAITER_PLAIN_HTTP": registry}
    project = _project(
        tmp_path / "project",
        f"FROM {shell} AS first\nRUN echo built > /built\n"
        f'FROM {shell}\nCOPY --from=first /built /built\nCOPY note /note\nUSER 1234:5\nENTRYPOINT ["cat", "/note"]\n',
        '[app]\ninclude = ["note"]',
        note="noted\n",
    )
    first = _build(home, project, **extra)
    assert first.code == 0, first.out
    assert f"{shell} is sha256:" in first.err  # named by tag, so the digest is told
    assert _said(home, first) == "noted\n"
    assert _said(home, first, "sh", "-c", "cat /built /app/note; id -u; id -g") == "built\nnoted\n1234\n5\n"
    again = _build(home, project, **extra)
    assert (again.json["digest"], again.json["built_layers"]) == (first.json["digest"], 0)
    assert run(home, "inspect", first.json["reference"]).code == 0
    cleared = run(home, "key", "generate").code or run(home, "ci", project, "--format", "json", extra=extra).code
    assert cleared == 0
    assert run(home, "verify", first.json["reference"]).code == 0


def test_layers_depend_on_content_alone(tmp_path: Path, buildah: dict[str, str], shell: str) -> None:
    """Another home, umask and commit give the same layers; another commit another image time."""
    extra = buildah | {"TIDEWAITER_PLAIN_HTTP": shell.partition("/")[0]}
    project = _project(tmp_path / "project", f"FROM {shell}\nCOPY note /d/note\nRUN echo x > /x\n", note="noted\n")
    first = _build(tmp_path / "one", project, **extra)
    before = os.umask(0o077)
    try:
        (project / "note").chmod(0o600)
        git(project, "commit", "-q", "--allow-empty", "-m", "another")
        second = _build(tmp_path / "two", project, **extra)
    finally:
        os.umask(before)
    assert first.code == second.code == 0, second.out
    assert first.json["layers"] == [
        {**one, "digest": two["digest"], "diff_id": two["diff_id"], "size": two["size"]}
        for one, two in zip(first.json["layers"], second.json["layers"], strict=True)
    ]
    assert first.json["digest"] != second.json["digest"]  # its annotations name the commit


def test_secret_is_a_mount_and_nothing_else(tmp_path: Path, buildah: dict[str, str], shell: str) -> None:
    """A command sees the secret; the image, its history and its layers do not hold it."""
    home = tmp_path / "home"
    extra = buildah | {"TIDEWAITER_PLAIN_HTTP": shell.partition("/")[0], "MY_TOKEN": "swordfish-1234"}
    mount = "--mount=type=secret,id=tok"
    project = _project(
        tmp_path / "project",
        f'FROM {shell}\nRUN {mount} read x < /run/secrets/tok; echo "${{#x}}" > /length\n',
        'secrets = { tok = "MY_TOKEN" }',
    )
    made = _build(home, project, **extra)
    assert made.code == 0, made.out
    assert _said(home, made, "cat", "/length") == "14\n"
    for blob in (home / "store/blobs/sha256").iterdir():
        assert b"swordfish-1234" not in blob.read_bytes()
    unset = _build(home, project, **{**extra, "MY_TOKEN": ""})
    assert (unset.code, "MY_TOKEN, which is not set" in unset.out) == (2, True)
    project = _project(
        project, f"FROM {shell}\nRUN {mount} cat /run/secrets/tok > /leak\n", 'secrets = { tok = "MY_TOKEN" }'
    )
    leaked = _build(home, project, **extra)
    assert leaked.code == 1
    assert json.loads(leaked.out)["error"]["code"] == "secret_in_build"
    assert "/leak of a layer" in leaked.out
    assert "swordfish" not in leaked.err + leaked.out


def test_secret_on_a_builders_output_is_hidden(tmp_path: Path, buildah: dict[str, str], shell: str) -> None:
    """A failing command that prints the secret does not carry it into our message."""
    project = _project(
        tmp_path / "project",
        f"FROM {shell}\nRUN --mount=type=secret,id=tok cat /run/secrets/tok; exit 1\n",
        'secrets = { tok = "MY_TOKEN" }',
    )
    extra = buildah | {"TIDEWAITER_PLAIN_HTTP": shell.partition("/")[0], "MY_TOKEN": "swordfish-1234"}
    failed = _build(tmp_path / "home", project, **extra)
    assert failed.code == 2
    assert "swordfish" not in failed.err + failed.out
    assert "****" in failed.out


def test_steps_come_from_the_cache_of_a_registry(tmp_path: Path, buildah: dict[str, str], shell: str) -> None:
    """What one runner built, another one takes over: a random number made in a step is the same in both."""
    registry = shell.partition("/")[0]
    extra = buildah | {"TIDEWAITER_PLAIN_HTTP": registry}
    cache = f"{registry}/dockerfile/cache"
    project = _project(tmp_path / "project", f"FROM {shell}\nRUN {RANDOM} > /random\n")
    first = _build(tmp_path / "one", project, **extra, TIDEWAITER_CACHE_TO=cache)
    second = _build(tmp_path / "two", project, **extra, TIDEWAITER_CACHE_FROM=cache)
    other = _build(tmp_path / "three", project, **extra)
    assert first.code == second.code == other.code == 0, second.out
    assert first.json["digest"] == second.json["digest"] != other.json["digest"]


def test_arguments_target_and_epoch(tmp_path: Path, buildah: dict[str, str], shell: str) -> None:
    """Arguments are handed over, the target is the stage that is built, and a declared epoch is the commit's time."""
    home = tmp_path / "home"
    extra = buildah | {"TIDEWAITER_PLAIN_HTTP": shell.partition("/")[0]}
    project = _project(
        tmp_path / "project",
        f"ARG BASE={shell}\nFROM ${{BASE}} AS wanted\nARG WHO=nobody\nARG SOURCE_DATE_EPOCH\n"
        'RUN echo "$WHO $SOURCE_DATE_EPOCH" > /who\nFROM scratch\n',
        'target = "wanted"\narguments = { WHO = "somebody" }',
    )
    made = _build(home, project, **extra)
    assert made.code == 0, made.out
    assert _said(home, made, "cat", "/who") == "somebody 1767225600\n"
    made = _build(home, project, **extra, SOURCE_DATE_EPOCH="1000000000")
    assert _said(home, made, "cat", "/who") == "somebody 1000000000\n"


def test_failures_are_told_apart(tmp_path: Path, buildah: dict[str, str], shell: str) -> None:
    """A failing step is bad input with its output; a registry that is not there was not found out."""
    extra = buildah | {"TIDEWAITER_PLAIN_HTTP": f"{shell.partition('/')[0]},127.0.0.1:9"}
    project = _project(tmp_path / "project", f"FROM {shell}\nRUN echo so-so; exit 9\n")
    failed = _build(tmp_path / "home", project, **extra)
    assert (failed.code, json.loads(failed.out)["error"]["code"]) == (2, "dockerfile_failed")
    assert "so-so" in failed.out
    for name in ("127.0.0.1:9/gone:1", f"127.0.0.1:9/gone@sha256:{'0' * 64}"):
        project = _project(project, f"FROM {name}\n")
        failed = _build(tmp_path / "home", project, **extra)
        assert (failed.code, json.loads(failed.out)["error"]["code"]) == (3, "network"), failed.out


def test_a_project_that_moves_while_the_builder_works_is_an_error(
    tmp_path: Path, buildah: dict[str, str], shell: str
) -> None:
    """The builder may have read either commit, so the image gets the name of neither."""
    project = _project(tmp_path / "project", f"FROM {shell}\nCOPY note /note\n", note="first\n")
    real, folder = shutil.which("buildah"), tmp_path / "bin"
    folder.mkdir()
    wrapper = folder / "buildah"
    wrapper.write_text(
        f"#!/bin/sh\ncase \" $* \" in *' build '*|*' bud '*) git -C {project} -c user.name=a -c user.email=a@b.c"
        f' commit -q --allow-empty -m moved ;; esac\nexec {real} "$@"\n'
    )
    wrapper.chmod(0o755)
    extra = buildah | {"TIDEWAITER_PLAIN_HTTP": shell.partition("/")[0], "PATH": f"{folder}:{os.environ['PATH']}"}
    moved = _build(tmp_path / "home", project, **extra)
    assert (moved.code, json.loads(moved.out)["error"]["code"]) == (2, "integrity"), moved.out + moved.err
    assert "changed while it was read" in moved.out
    wrapper.unlink()
    assert _build(tmp_path / "home", project, **extra).code == 0


def test_dockerfile_behind_a_link_is_refused(tmp_path: Path, buildah: dict[str, str]) -> None:
    """The commit holds a link and not what it leads to, so that it could not say what was built."""
    project = _project(tmp_path / "project", "FROM scratch\n")
    (tmp_path / "elsewhere").write_text("FROM scratch\n")
    (project / "Dockerfile").unlink()
    (project / "Dockerfile").symlink_to(tmp_path / "elsewhere")
    commit(project)
    refused = _build(tmp_path / "home", project, **buildah)
    assert (refused.code, "behind a link" in refused.out) == (2, True)


def test_late_builds_are_ended(tmp_path: Path, buildah: dict[str, str], shell: str) -> None:
    """A step that takes too long is ended with all of its processes."""
    extra = buildah | {"TIDEWAITER_PLAIN_HTTP": shell.partition("/")[0], "TIDEWAITER_BUILDER_SECONDS": "3"}
    project = _project(tmp_path / "project", f"FROM {shell}\nRUN sleep 4241\n")
    late = _build(tmp_path / "home", project, **extra)
    assert (late.code, json.loads(late.out)["error"]["code"]) == (3, "deadline")
    assert not _sleeping("4241")


def _sleeping(seconds: str) -> bool:
    """Whether a `sleep` of so many seconds runs, given half a second to disappear."""
    for _ in range(20):
        found = any(
            path.read_bytes().split(b"\0")[-3:-1] == [b"sleep", seconds.encode()]
            for path in Path("/proc").glob("[0-9]*/cmdline")
            if path.exists()
        )
        if not found:
            return False
        time.sleep(0.1)
    return True


def test_interrupted_build_leaves_nothing_and_the_next_one_works(
    tmp_path: Path, buildah: dict[str, str], shell: str
) -> None:
    """Ctrl-C ends the step that runs; what was left half done does not stand in the way."""
    home = tmp_path / "home"
    extra = buildah | {"TIDEWAITER_PLAIN_HTTP": shell.partition("/")[0]}
    project = _project(tmp_path / "project", f"FROM {shell}\nRUN sleep 4242\n")
    process = subprocess.Popen(
        command("build", project), env=environment(home) | extra, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 60
    while not any(b"sleep\x004242" in path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline")):
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=30) == 130
    assert not _sleeping("4242")
    assert list((home / "cache/work").iterdir()) == []
    project = _project(project, f"FROM {shell}\nRUN true > /done\n")
    assert _build(home, project, **extra).code == 0


def test_user_storage_is_not_touched(tmp_path: Path, buildah: dict[str, str]) -> None:
    """buildah works below the home only, and what it keeps there can be measured."""
    home = tmp_path / "home"
    project = _project(tmp_path / "project", "FROM scratch\nCOPY note /note\n", note="n" * 5000)
    made = _build(home, project, **buildah, HOME=str(tmp_path / "user"), XDG_RUNTIME_DIR=str(tmp_path / "run"))
    assert made.code == 0, made.out
    assert not (tmp_path / "user").exists()
    roots = list((home / "cache/buildah").glob("*/root"))
    assert sum(dockerfile_buildah.stored_bytes(root, stacked=False) for root in roots) > 5000


def test_listing_of_stacked_layers_counts_each_copy(tmp_path: Path) -> None:
    """With vfs a layer holds those below it again; a damaged list counts nothing."""
    folder = tmp_path / "vfs-layers"
    folder.mkdir()
    layers = [{"id": "a", "diff-size": 10}, {"id": "b", "parent": "a", "diff-size": 5}]
    (folder / "layers.json").write_text(json.dumps(layers))
    assert dockerfile_buildah.stored_bytes(tmp_path, stacked=True) == 25
    assert dockerfile_buildah.stored_bytes(tmp_path, stacked=False) == 15
    (folder / "layers.json").write_text("{")
    assert dockerfile_buildah.stored_bytes(tmp_path, stacked=True) == 0


# BuildKit


@pytest.fixture(scope="module")
def buildkit(tool: Tool, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Settings that choose a BuildKit daemon of this test."""
    buildctl = tool("buildctl")
    with buildkit_daemon(tool, tmp_path_factory.mktemp("bk")) as address:
        path = f"{Path(buildctl).parent}{os.pathsep}{os.environ['PATH']}"
        yield {"TIDEWAITER_BUILDER": "buildctl", "BUILDKIT_HOST": address, "PATH": path}


def test_buildkit_builds_the_same_way(tmp_path: Path, buildkit: dict[str, str], shell: str) -> None:
    """Pinned base kept as it is, secret as a mount, fixed times, cache of a registry, result in the store."""
    home = tmp_path / "home"
    registry = shell.partition("/")[0]
    cache = f"{registry}/dockerfile/buildkit-cache"
    extra = buildkit | {"TIDEWAITER_PLAIN_HTTP": registry, "MY_TOKEN": "swordfish-1234"}
    project = _project(
        tmp_path / "project",
        f"FROM {shell}\nCOPY note /note\n"
        f'RUN --mount=type=secret,id=tok read x < /run/secrets/tok; echo "${{#x}}" > /length; {RANDOM} > /random\n',
        'secrets = { tok = "MY_TOKEN" }',
        note="noted\n",
    )
    made = _build(home, project, **extra, TIDEWAITER_CACHE_TO=cache, TIDEWAITER_CACHE_FROM=cache)
    assert made.code == 0, made.out
    assert _said(home, made, "cat", "/note", "/length") == "noted\n14\n"
    times = _said(home, made, "ls", "--full-time", "/note", "/length")
    assert times.count("1980-01-01") == 2
    again = _build(tmp_path / "two", project, **extra, TIDEWAITER_CACHE_FROM=cache)
    assert again.json["digest"] == made.json["digest"]
    failed = _build(home, _project(project, f"FROM {shell}\nRUN exit 9\n"), **extra)
    assert (failed.code, json.loads(failed.out)["error"]["code"]) == (2, "dockerfile_failed")
