"""The command line against those who want a yes, or a terminal, that is not theirs."""

import subprocess
from pathlib import Path

import pytest

from image_builder import Tar, put_image
from tidewaiter.oci.layout import Layout
from tidewaiter.oci.manifest import RunConfig
from workplace import command, environment, git, run


def _build(home: Path, project: Path) -> str:
    built = run(home, "build", project, "--format", "json")
    assert built.code == 0, built.err
    return str(built.json["reference"])


@pytest.mark.parametrize("output", ["text", "json"])
@pytest.mark.thorough
def test_a_reader_that_leaves_does_not_turn_no_into_yes(home: Path, project: Path, output: str) -> None:
    """A denial exits with 1 also when nobody reads it to the end, as in `tidewaiter check ... | grep -q`."""
    line = command("check", _build(home, project), "--environment", "production", "--format", output)
    with subprocess.Popen(line, env=environment(home), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        process.stdout.close()
        assert process.wait(timeout=60) == 1


@pytest.mark.parametrize("output", ["text", "json"])
def test_an_answer_that_cannot_be_written_is_no_answer(home: Path, output: str) -> None:
    """With stdout on a full disk the exit code is 3, neither allowed nor denied."""
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            command("advisories", "status", "--format", output),
            env=environment(home),
            stdout=full,
            stderr=subprocess.PIPE,
            check=False,
            timeout=60,
        )
    assert done.returncode == 3
    assert b"disk is full" in done.stderr


def test_errors_do_not_steer_the_terminal(home: Path, tmp_path: Path) -> None:
    """A path with escape sequences comes out of an error message without them."""
    done = run(home, "inspect", f"oci:{tmp_path}/\x9b31m\x7fx")
    assert done.code == 2
    assert "?31m?x" in done.err
    assert "\x9b" not in done.err


@pytest.mark.thorough
def test_hidden_change_is_tagged_dirty(home: Path, project: Path) -> None:
    """A file that Git was told to overlook does not enter an image under the commit's own tag."""
    git(project, "update-index", "--assume-unchanged", "main.py")
    (project / "main.py").write_text("print('not what was reviewed')\n")
    assert _build(home, project).endswith("-dirty")


@pytest.mark.thorough
def test_signature_that_the_store_lost_is_made_again(home: Path, project: Path) -> None:
    """A lost signature blob is "could not find out" for `verify`, and does not stop the next `ci`."""
    home.mkdir(parents=True, exist_ok=True)
    (home / "settings.toml").write_text('signature_formats = "tag"\n')
    assert run(home, "key", "generate").code == 0
    first = run(home, "ci", project, "--format", "json").json
    (home / "store/blobs/sha256" / first["signature"][7:]).unlink()
    assert run(home, "verify", first["reference"]).code == 3
    assert run(home, "ci", project).code == 0
    assert run(home, "verify", first["reference"]).code == 0


@pytest.mark.thorough
def test_signatures_made_at_once_are_all_kept(home: Path, project: Path) -> None:
    """Several keys that sign one image at the same time all vouch for it afterwards."""
    reference = _build(home, project)
    names = ("one", "two", "three")
    for name in names:
        assert run(home, "key", "generate", name).code == 0
    signing = [
        subprocess.Popen(
            command("sign", reference, "--key", name),
            env=environment(home),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for name in names
    ]
    assert [process.wait(timeout=60) for process in signing] == [0, 0, 0]
    assert [run(home, "verify", reference, "--key", home / f"keys/{name}.pub").code for name in names] == [0, 0, 0]


def test_command_that_does_not_start_is_not_a_command_that_says_no(home: Path, project: Path) -> None:
    """`exec` passes on the command's own code; a program that is not there is 3."""
    reference = _build(home, project)
    assert run(home, "exec", reference, "--", "python", "-c", "raise SystemExit(1)").code == 1
    missing = run(home, "exec", reference, "--", "/no/such/program")
    assert missing.code == 3
    assert "could not be started" in missing.err


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (RunConfig(user="99999999999", entrypoint=["/x"]), "which is no user"),
        (RunConfig(user="1", entrypoint=["a\0b"]), "NUL"),
        (RunConfig(user="1", entrypoint=["/x"], env=["=v"]), "no name"),
        (RunConfig(user="1\x1b[31m", entrypoint=["/x"]), "no such user"),
    ],
)
def test_exec_refuses_a_config_that_cannot_run(home: Path, tmp_path: Path, config: RunConfig, message: str) -> None:
    """A user, command or environment that Linux cannot have is an input error."""
    put_image(Layout(tmp_path / "image"), [Tar().file("x", "", mode=0o755).bytes()], run=config, name="x")
    done = run(home, "exec", f"oci:{tmp_path}/image:x")
    assert done.code == 2, done.err
    assert message in done.err


def test_exec_of_an_image_without_layers(home: Path, tmp_path: Path) -> None:
    """There is nothing to run in it, and that is said."""
    put_image(Layout(tmp_path / "image"), [], run=RunConfig(user="1", entrypoint=["/x"]), name="x")
    done = run(home, "exec", f"oci:{tmp_path}/image:x")
    assert (done.code, "no layers" in done.err) == (2, True)


@pytest.mark.parametrize("name", ["proc", "dev", "tmp"])
def test_exec_mounts_over_no_link(home: Path, tmp_path: Path, name: str) -> None:
    """An image whose /proc, /dev or /tmp is a link, which could lead out of it, is refused."""
    tar = Tar().file("x", "", mode=0o755).symlink(name, "../../..")
    put_image(Layout(tmp_path / "image"), [tar.bytes()], run=RunConfig(user="1", entrypoint=["/x"]), name="x")
    done = run(home, "exec", f"oci:{tmp_path}/image:x")
    assert done.code == 2, done.err
    assert "not a folder" in done.err
