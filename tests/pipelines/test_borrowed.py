"""Commands that look work with a home that is missing or cannot be written."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from image_builder import Tar, put_image
from tidewaiter.oci.layout import Layout
from workplace import command, environment

NOTE = "what is found out is not kept"


def look(home: Path, folder: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """A command of an ordinary user: root loses its power to write everywhere."""
    powerless = ["setpriv", "--bounding-set", "-all", "--inh-caps", "-all"] if os.getuid() == 0 else []
    return subprocess.run(
        [*powerless, *command(*arguments)],
        env=environment(home),
        cwd=folder,
        check=False,
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """The folder in which the layout `it` lies, with one image."""
    if os.getuid() == 0 and shutil.which("setpriv") is None:
        pytest.skip("root can write everywhere, and setpriv (util-linux) is not installed")
    tar = Tar().file("etc/os-release", 'ID=debian\nVERSION_ID="12"\n')
    put_image(Layout(tmp_path / "it"), [tar.bytes()], name="1")
    return tmp_path


def locked(folder: Path) -> list[str]:
    """Take the right to write from `folder` and all below it; names of what is there."""
    names = sorted(str(path) for path in folder.rglob("*"))
    for path in (folder, *folder.rglob("*")):
        if path.is_dir():
            path.chmod(0o500)
    return names


def test_a_home_that_cannot_be_made(image: Path) -> None:
    """`inspect` shows everything, with a note, and leaves nothing behind."""
    (image / "closed").mkdir(mode=0o500)
    done = look(image / "closed/home", image, "inspect", "oci:it:1")
    assert (done.returncode, done.stderr.count(NOTE)) == (0, 1)
    assert "debian 12" in done.stdout
    assert list((image / "closed").iterdir()) == []


@pytest.mark.parametrize(
    ("words", "said"), [(("contents", "oci:it:1"), "etc"), (("diff", "oci:it:1", "oci:it:1"), "it:1")]
)
def test_other_commands_that_look_need_no_home_either(image: Path, words: tuple[str, ...], said: str) -> None:
    """`contents` and `diff` show everything, with the same note."""
    (image / "closed").mkdir(mode=0o500)
    done = look(image / "closed/home", image, *words)
    assert (done.returncode, done.stderr.count(NOTE)) == (0, 1)
    assert said in done.stdout
    assert list((image / "closed").iterdir()) == []


@pytest.mark.thorough
def test_a_home_that_cannot_be_written_is_still_read(image: Path) -> None:
    """What the home holds counts: an image of its store is found by its tag. Nothing in it changes."""
    home = image / "home"
    assert look(home, image, "pull", "oci:it:1", "team/it:1").returncode == 0
    known = look(home, image, "inspect", "team/it:1")
    names = locked(home)
    done = look(home, image, "inspect", "team/it:1")
    decided = look(home, image, "check", "team/it:1", "--environment", "research")
    for path in (home, *home.rglob("*")):
        if path.is_dir():
            path.chmod(0o700)
    assert (done.returncode, done.stdout) == (0, known.stdout)
    assert NOTE in done.stderr
    assert decided.returncode in {0, 1}, decided.stderr
    assert sorted(str(path) for path in home.rglob("*")) == names


def test_a_home_that_is_written_needs_no_other(image: Path) -> None:
    """The home of every day is used, and says nothing."""
    done = look(image / "home", image, "inspect", "oci:it:1")
    assert (done.returncode, NOTE in done.stderr) == (0, False)
    assert list((image / "home/cache/layer-facts").rglob("*.facts"))


def test_other_commands_say_that_the_home_cannot_be_written(image: Path) -> None:
    """Whoever wants to keep something is told that it cannot be."""
    (image / "closed").mkdir(mode=0o500)
    done = look(image / "closed/home", image, "pull", "oci:it:1", "team/it:1")
    assert done.returncode == 3
    assert "cannot write" in done.stderr
