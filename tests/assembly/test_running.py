"""How a container starts, whoever runs it."""

from pathlib import Path

import pytest

from images import make_image
from tidewaiter.assembly import runners, running
from tidewaiter.assembly.runners import Engine
from tidewaiter.assembly.running import Account, Start, Volume
from tidewaiter.core.errors import InputError, MissingToolError
from tidewaiter.oci import image as images
from tidewaiter.oci.digest import Digest
from tidewaiter.oci.image import Image

START = Start(
    words=("run", "--fast"),
    user="1000:5",
    environment=(("A", "b c"),),
    folder="/w",
    volumes=(Volume(host=Path("/h"), inside="/data", read_only=True),),
)


@pytest.fixture
def image(tmp_path: Path) -> Image:
    """A small image with an entry point and no variables."""
    layout, descriptor = make_image(tmp_path / "layout")
    return images.load(layout, descriptor)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """An unpacked image with accounts."""
    (tmp_path / "root/etc").mkdir(parents=True)
    (tmp_path / "root/etc/passwd").write_text(
        "root:x:0:0:root:/root:/bin/sh\nserver:x:1000:1001::/home/server:/x\nbad\n"
    )
    (tmp_path / "root/etc/group").write_text("root:x:0:\nstaff:x:50:server\n")
    return tmp_path / "root"


def test_image_and_options_together(image: Image, tmp_path: Path) -> None:
    """The image's command runs when none is given; variables given come last; volumes are as docker writes them."""
    start = running.start_of(
        image, (), more=["A=1=2", "PATH=/x"], volumes=[f"{tmp_path}:/data/../d:ro", f"{tmp_path}:/e"]
    )
    assert start.words == ("/bin/true",)
    assert dict(start.environment) == {"PATH": "/x", "A": "1=2"}
    assert [(one.inside, one.read_only) for one in start.volumes] == [("/d", True), ("/e", False)]
    assert running.start_of(image, ("ls", "-l")).words == ("ls", "-l")


@pytest.mark.parametrize("text", ["A", "=x", "1A=x", "A B=x", "A=\0"])
def test_variables_must_be_pairs(text: str) -> None:
    """`--env` takes NAME=VALUE only."""
    with pytest.raises(InputError, match="no NAME=VALUE"):
        running.parse_variable(text)


@pytest.mark.parametrize(
    "text", ["/tmp", "/tmp:data", ":/data", "/tmp:/a:/b", "/tmp:/data:rx", "/no/such/folder:/data"]
)
def test_volumes_must_be_there(text: str) -> None:
    """`--volume` takes HOST:CONTAINER[:ro] of something that exists."""
    with pytest.raises(InputError, match="--volume"):
        running.parse_volume(text)


@pytest.mark.parametrize("place", ["/", "/proc", "/dev", "/x/../sys"])
def test_nothing_is_put_over_the_kernels_folders(place: str) -> None:
    """The root and what the sandbox makes itself cannot be hidden."""
    with pytest.raises(InputError, match="nothing can be put over"):
        running.parse_volume(f"/tmp:{place}")


@pytest.mark.parametrize(
    ("user", "found"),
    [
        ("", Account(0, 0, "/root")),
        ("server", Account(1000, 1001, "/home/server")),
        ("1000", Account(1000, 1001, "/home/server")),
        ("1000:7", Account(1000, 7, "/home/server")),
        ("server:staff", Account(1000, 50, "/home/server")),
        ("4242", Account(4242, 0, "/")),
    ],
)
def test_users_are_those_of_the_image(root: Path, user: str, found: Account) -> None:
    """Names and groups are looked up in the image's own accounts, as image-spec says."""
    assert running.account(user, root) == found


@pytest.mark.parametrize("user", ["nobody", "server:nogroup", "99999999999", "-1"])
def test_unknown_users_are_refused(root: Path, user: str) -> None:
    """What is no account of the image never becomes root."""
    with pytest.raises(InputError):
        running.account(user, root)


def test_accounts_behind_a_link_are_not_read(root: Path, tmp_path: Path) -> None:
    """A passwd file that is a link cannot bring in the accounts of this machine."""
    (tmp_path / "host").write_text("intruder:x:0:0::/:/bin/sh\n")
    (root / "etc/passwd").unlink()
    (root / "etc/passwd").symlink_to(tmp_path / "host")
    with pytest.raises(InputError, match="no such user"):
        running.account("intruder", root)


# What the runners are told


@pytest.mark.parametrize("program", ["podman", "docker"])
def test_engines_are_told_everything(program: str) -> None:
    """Read-only root, no network, no capabilities, empty /tmp, user, variables, folder, volumes, command."""
    engine = Engine("podman" if program == "podman" else "docker")
    name = runners.image_name(Digest("sha256:" + "ab" * 32))
    assert name == "localhost/tidewaiter-exec:" + "ab" * 16
    assert engine.run(name, START) == [
        *(program, "run", "--rm", "--interactive", "--pull", "never", "--read-only", "--network", "none"),
        *("--cap-drop", "ALL", "--security-opt", "no-new-privileges", "--tmpfs", "/tmp", "--workdir", "/w"),
        *("--user", "1000:5", "--env", "A=b c", "--volume", "/h:/data:ro", "--entrypoint", "run", name, "--fast"),
    ]


def test_volume_in_a_new_folder_of_the_root(root: Path) -> None:
    """bwrap gets an empty root that holds what the image holds, and the new folder."""
    (root / "lib").symlink_to("usr/lib")
    (root / "proc").mkdir()
    line = runners.bwrap_line(root, START)
    text = " ".join(line)
    assert "--tmpfs / --ro-bind" in text
    assert f"--ro-bind {root}/etc /etc --symlink usr/lib /lib --proc /proc" in text
    assert "--ro-bind /h /data --remount-ro /" in text
    assert text.endswith("--chdir /w -- run --fast")


def test_volume_that_cannot_be_made_is_refused(root: Path) -> None:
    """A new folder inside a folder of the image, or one behind a link, is an error that says where else."""
    nested = Start(("x",), "", (), "/", (Volume(host=root, inside="/etc/new", read_only=False),))
    with pytest.raises(InputError, match="has no /etc/new"):
        runners.bwrap_line(root, nested)
    (root / "link").symlink_to("/etc")
    behind = Start(("x",), "", (), "/", (Volume(host=root, inside="/link/x", read_only=False),))
    with pytest.raises(InputError, match="behind a link"):
        runners.bwrap_line(root, behind)


def test_choice_of_the_runner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """bwrap before podman before docker, each only when it works; the reasons are told when none does."""
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingToolError, match="bwrap: is not installed; podman: is not installed; docker: is not"):
        runners.choose("auto")
    for name in ("docker", "podman", "bwrap"):
        (tmp_path / name).write_text("#!/bin/sh\n")
        (tmp_path / name).chmod(0o755)
        assert runners.choose("auto") == name
    assert runners.choose("docker") == "docker"
    (tmp_path / "bwrap").write_text("#!/bin/sh\necho no namespaces >&2\nexit 1\n")
    assert runners.choose("auto") == "podman"
    with pytest.raises(MissingToolError, match="bwrap: no namespaces"):
        runners.choose("bwrap")
