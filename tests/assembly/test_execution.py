"""Running images, by bubblewrap for real, and what an engine is handed."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import little_shell
from tidewaiter.assembly import execution
from tidewaiter.core import limits
from tidewaiter.core.settings import Home
from tidewaiter.oci import archive
from tidewaiter.oci.manifest import RunConfig
from tidewaiter.oci.reference import ArchiveReference
from workplace import Done, run

PASSWD = b"root:x:0:0::/root:/bin/sh\nserver:x:1234:99::/srv:/bin/sh\n"

STAND_IN = """\
#!/bin/sh
case "$1 $2" in
  "info "*) echo 27.0 ;;
  "image inspect") test -e {folder}/loaded ;;
  "load "*) cp "$4" {folder}/loaded ;;
  "run "*) for word; do echo "$word"; done > {folder}/told; exit {code} ;;
esac
"""


@pytest.fixture(scope="module")
def layout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A layout with a shell that runs as a user of its own accounts."""
    folder = tmp_path_factory.mktemp("shell")
    config = RunConfig(user="server", env=["PATH=/bin", "GREETING=hello"], working_dir="/etc", entrypoint=["env"])
    little_shell.make_shell(folder, config=config, more={"etc/passwd": PASSWD, "etc/group": b"server:x:99:\n"})
    return folder


def _exec(home: Path, layout: Path, *words: object, runner: str = "bwrap", **extra: str) -> Done:
    extra["TIDEWAITER_RUNNER"] = runner
    at = words.index("--") if "--" in words else len(words)
    return run(home, "exec", *words[:at], f"oci:{layout}:shell", *words[at:], extra=extra)


def test_container_is_what_the_image_says(tmp_path: Path, layout: Path) -> None:
    """User by name, its group and home, folder and variables are the image's; those given are put over them."""
    done = _exec(
        tmp_path, layout, "--env", "GREETING=hi", "--env", "MORE=1", "--", "sh", "-c", "id -u; id -g; pwd; env"
    )
    assert done.code == 0, done.err
    assert done.out.splitlines()[:3] == ["1234", "99", "/etc"]
    assert {"GREETING=hi", "MORE=1", "HOME=/srv", "PATH=/bin"} <= set(done.out.splitlines())
    own = _exec(tmp_path, layout)
    assert "GREETING=hello" in own.out.splitlines()


def test_root_is_read_only_and_volumes_are_as_asked(tmp_path: Path, layout: Path) -> None:
    """A volume can be written unless it ends in :ro, in a new folder too; the root and other folders cannot."""
    (tmp_path / "in").mkdir()
    (tmp_path / "in/given").write_text("given")
    (tmp_path / "out").mkdir(mode=0o777)
    volumes = ("--volume", f"{tmp_path}/in:/tmp/in:ro", "--volume", f"{tmp_path}/out:/out")
    script = (
        "cat /tmp/in/given; echo made > /out/made; echo x > /tmp/in/x || echo refused; echo x > /etc/x || echo kept"
    )
    done = _exec(tmp_path / "home", layout, *volumes, "--", "sh", "-c", script)
    assert done.code == 0, done.err
    assert done.out == "givenrefused\nkept\n"
    assert (tmp_path / "out/made").read_text() == "made\n"
    assert [path.name for path in (tmp_path / "in").iterdir()] == ["given"]


def test_exit_codes_are_the_commands(tmp_path: Path, layout: Path) -> None:
    """The command's own code comes out, 128 and the signal for a kill, and 3 with an error when nothing was started."""
    assert _exec(tmp_path, layout, "--", "sh", "-c", "exit 41").code == 41
    assert _exec(tmp_path, layout, "--", "sh", "-c", "kill -9 $$").code == 137
    missing = _exec(tmp_path, layout, "--", "nothing-there")
    assert (missing.code, "could not be started" in missing.err) == (3, True)


def _engine(folder: Path, code: int) -> str:
    (folder / "docker").write_text(STAND_IN.format(folder=folder, code=code))
    (folder / "docker").chmod(0o755)
    return f"{folder}:/usr/bin:/bin"


def test_engine_gets_the_image_once_and_the_command(tmp_path: Path, layout: Path) -> None:
    """docker is handed an archive of exactly this image when it has it not, and its exit code is the command's."""
    path = _engine(tmp_path, 7)
    done = _exec(tmp_path / "home", layout, "--", "sh", "-c", "exit 7", runner="docker", PATH=path)
    assert done.code == 7, done.err
    loaded = archive.load_archive(ArchiveReference(tmp_path / "loaded", "oci-archive"))
    docker = archive.load_archive(ArchiveReference(tmp_path / "loaded", "docker-archive"))
    assert loaded.config == docker.config
    assert loaded.config.config.user == "server"
    told = (tmp_path / "told").read_text().splitlines()
    assert told[:1] == ["run"]
    assert {"--read-only", "--network", "none", "--cap-drop", "ALL", "--user", "server", "GREETING=hello"} <= set(told)
    assert told[-2:] == ["-c", "exit 7"]
    (tmp_path / "loaded").write_text("untouched")
    assert _exec(tmp_path / "home", layout, runner="docker", PATH=path).code == 7
    assert (tmp_path / "loaded").read_text() == "untouched"


def test_engine_that_fails_is_no_answer_of_the_command(tmp_path: Path, layout: Path) -> None:
    """125 is the engine's word for a container that was not started; it comes out as 3."""
    done = _exec(tmp_path / "home", layout, runner="docker", PATH=_engine(tmp_path, 125))
    assert (done.code, "could not be started" in done.err) == (3, True)


def test_runner_that_is_not_here_is_an_error(tmp_path: Path, layout: Path) -> None:
    """A runner that was chosen and does not work is not replaced by another."""
    done = _exec(tmp_path, layout, runner="podman", PATH=str(Path(shutil.which("bwrap") or "").parent))
    if shutil.which("podman"):
        pytest.skip("podman is installed here")
    assert (done.code, "podman: is not installed" in done.err) == (3, True)


USER = """\
import sys
from pathlib import Path
from tidewaiter.core import leases
with leases.hold(Path(sys.argv[1])):
    leases.claim(Path(sys.argv[2]))
    print("claimed", flush=True)
    sys.stdin.read()
"""


def test_few_unpacked_images_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Past the bound those used longest ago go, but none that a living process uses."""
    monkeypatch.setattr(limits, "UNPACKED_IMAGES", 2)
    roots = [tmp_path / "cache/images" / name for name in ("a", "b", "c", "d")]
    for number, root in enumerate(roots):
        root.mkdir(parents=True)
        os.utime(root, (number, number))
    line = [sys.executable, "-c", USER, str(tmp_path), str(roots[0])]
    with subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as user:
        assert user.stdout is not None
        assert user.stdout.readline() == b"claimed\n"
        execution.keep_few(Home(tmp_path))
        assert [root.name for root in roots if root.exists()] == ["a", "c", "d"]
        user.communicate()
    execution.keep_few(Home(tmp_path))
    assert len([root for root in roots if root.exists()]) == 2
