import io
import os
import stat
import subprocess
import tarfile
from functools import partial
from pathlib import Path

import pytest

from image_builder import Tar, put_image
from servers import Tool
from tidewaiter.core.errors import InputError, IntegrityError
from tidewaiter.oci.layout import Layout
from tidewaiter.oci.rootfs import unpack, unpack_image


def apply(destination: Path, *tars: Tar) -> Path:
    unpack([partial(io.BytesIO, tar.bytes()) for tar in tars], destination)
    return destination


def tree(root: Path) -> dict[str, str]:
    """Paths below `root` with their content, or `-> target`, or `/` for a folder."""
    found = {}
    for folder, folders, files in os.walk(root):
        for name in (*folders, *files):
            path = Path(folder) / name
            key = str(path.relative_to(root))
            if path.is_symlink():
                found[key] = f"-> {path.readlink()}"
            else:
                found[key] = "/" if path.is_dir() else path.read_text()
    return found


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A folder beside the destination with a secret that no layer may read or change."""
    folder = tmp_path / "outside"
    folder.mkdir()
    (folder / "secret").write_text("secret")
    return folder


def untouched(outside: Path) -> bool:
    return tree(outside) == {"secret": "secret"} and (outside / "secret").stat().st_nlink == 1


def test_layers_lie_over_each_other(tmp_path: Path) -> None:
    """Later layers add, replace, and change the attributes of folders that stay."""
    root = apply(
        tmp_path / "root",
        Tar().directory("d").file("d/kept", "1").file("d/replaced", "old").symlink("l", "d/kept"),
        Tar().directory("d", mode=0o711).file("d/replaced", "new", mode=0o755).hardlink("h", "d/replaced"),
    )
    assert tree(root) == {"d": "/", "d/kept": "1", "d/replaced": "new", "h": "new", "l": "-> d/kept"}
    assert stat.S_IMODE((root / "d").stat().st_mode) == 0o711
    assert (root / "h").stat().st_ino == (root / "d/replaced").stat().st_ino


def test_whiteouts_delete_files_and_folders(tmp_path: Path) -> None:
    """A whiteout removes what lower layers put there, with all that is below."""
    root = apply(
        tmp_path / "root",
        Tar().file("d/a", "1").file("d/b/c", "2").file("e", "3").symlink("s", "e"),
        Tar().file("d/.wh.b").file(".wh.s").file("d/.wh.missing"),
    )
    assert tree(root) == {"d": "/", "d/a": "1", "e": "3"}


def test_an_opaque_folder_hides_what_was_below_only(tmp_path: Path) -> None:
    """An opaque marker removes lower content, and spares what its own layer writes, before or after it."""
    root = apply(
        tmp_path / "root",
        Tar().file("d/old", "1").file("d/sub/old", "2").file("e", "3"),
        Tar().file("d/before", "4").file("d/sub/new", "5").file("d/.wh..wh..opq").file("d/after", "6"),
    )
    assert tree(root) == {"d": "/", "d/before": "4", "d/sub": "/", "d/sub/new": "5", "d/after": "6", "e": "3"}


def test_a_whiteout_spares_its_own_layer(tmp_path: Path) -> None:
    """A whiteout is for lower layers: a file of the same layer stays."""
    root = apply(tmp_path / "root", Tar().file("a", "old"), Tar().file("a", "new").file(".wh.a"))
    assert tree(root) == {"a": "new"}


def test_a_whiteout_behind_a_link_spares_its_own_layer_too(tmp_path: Path) -> None:
    """What was written under one name is not taken away under another."""
    own = Tar().symlink("lib", "usr").file("usr/own", "1").file("lib/other", "2")
    own.file("usr/.wh..wh..opq").file("lib/.wh.own").file("lib/.wh..wh..opq")
    root = apply(tmp_path / "root", Tar().file("usr/lower", "3"), own)
    assert tree(root) == {"lib": "-> usr", "usr": "/", "usr/own": "1", "usr/other": "2"}
    assert tree(apply(tmp_path / "self", Tar().symlink("a", ".").file("a/.wh..wh..opq"))) == {"a": "-> ."}


def test_kinds_replace_each_other(tmp_path: Path) -> None:
    """A folder replaces a file, a file a folder, a file a symlink, without touching the link's target."""
    root = apply(
        tmp_path / "root",
        Tar().file("a", "1").file("b/c", "2").file("t", "target").symlink("l", "t"),
        Tar().directory("a").file("b", "now a file").file("l", "own"),
    )
    assert tree(root) == {"a": "/", "b": "now a file", "t": "target", "l": "own"}


def test_a_symlinked_folder_is_followed_inside_the_root(tmp_path: Path) -> None:
    """`lib -> usr/lib` of the base stays, and later files land in `usr/lib`, also through an absolute link."""
    root = apply(
        tmp_path / "root",
        Tar().directory("usr/lib").symlink("lib", "usr/lib").symlink("abs", "/usr/lib").symlink("up", "../../usr/lib"),
        Tar().file("lib/a", "1").file("abs/b", "2").file("up/c", "3").hardlink("lib/d", "abs/b"),
    )
    assert tree(root) == {
        "usr": "/",
        "usr/lib": "/",
        "usr/lib/a": "1",
        "usr/lib/b": "2",
        "usr/lib/c": "3",
        "usr/lib/d": "2",
        "lib": "-> usr/lib",
        "abs": "-> /usr/lib",
        "up": "-> ../../usr/lib",
    }


def test_a_link_that_goes_while_its_folder_is_written_leads_nowhere_any_more(tmp_path: Path) -> None:
    """What comes next below its name lies in a new folder, whether a whiteout or another entry took the link away."""
    link = Tar().symlink("a", ".")
    root = apply(tmp_path / "whiteout", link, Tar().file("a/.wh.a").file("a/b", "1"))
    assert tree(root) == {"a": "/", "a/b": "1"}
    root = apply(
        tmp_path / "replaced", Tar().directory("c").symlink("a", "."), Tar().symlink("a/a", "c").file("a/b", "1")
    )
    assert tree(root) == {"a": "-> c", "c": "/", "c/b": "1"}


@pytest.mark.parametrize("above", ["../", "../../../../../../../../"])
def test_a_symlink_that_points_out_is_walked_inside(tmp_path: Path, outside: Path, above: str) -> None:
    """Writing through a link to the outside stays in the root: `..` goes no higher, `/` is the root."""
    root = apply(
        tmp_path / "root",
        Tar().symlink("rel", f"{above}outside").symlink("abs", str(outside)).directory("outside"),
        Tar().file("rel/pwned", "1").file("abs/pwned", "2").file("rel/secret", "3"),
    )
    assert untouched(outside)
    assert tree(root)["outside/pwned"] == "1"
    assert (root / str(outside).lstrip("/") / "pwned").read_text() == "2"


def test_a_symlink_and_a_file_of_one_path_in_one_layer(tmp_path: Path, outside: Path) -> None:
    """The classic: a link to a file outside, then a file of the same name. The link is replaced, not followed."""
    root = apply(tmp_path / "root", Tar().symlink("x", str(outside / "secret")).file("x", "pwned"))
    assert untouched(outside)
    assert tree(root) == {"x": "pwned"}


def test_a_folder_over_a_symlink_changes_nothing_outside(tmp_path: Path, outside: Path) -> None:
    """A directory entry over a link to the outside replaces the link and leaves the target's mode alone."""
    outside.chmod(0o750)
    root = apply(tmp_path / "root", Tar().symlink("x", str(outside)).directory("x", mode=0o777).file("x/y", "1"))
    assert untouched(outside)
    assert stat.S_IMODE(outside.stat().st_mode) == 0o750
    assert tree(root) == {"x": "/", "x/y": "1"}


def test_whiteouts_do_not_reach_outside(tmp_path: Path, outside: Path) -> None:
    """Whiteouts and opaque markers behind a link delete nothing outside."""
    apply(
        tmp_path / "root",
        Tar().symlink("x", str(outside)).symlink("y", "../outside"),
        Tar().file("x/.wh.secret").file("x/.wh..wh..opq").file("y/.wh..wh..opq").file(".wh.x"),
    )
    assert untouched(outside)


@pytest.mark.parametrize("name", ["d/.wh...", "d/.wh..", "d/.wh."])
def test_whiteouts_of_dots_are_refused_or_ignored(tmp_path: Path, outside: Path, name: str) -> None:
    """`.wh...` would be a whiteout of `..`, and delete the folder above."""
    with pytest.raises(InputError, match="whiteout of no name"):
        apply(tmp_path / "root", Tar().file("d/a", "1").file("kept", "2"), Tar().file(name))
    assert tree(tmp_path / "root") == {"d": "/", "d/a": "1", "kept": "2"}
    assert untouched(outside)


@pytest.mark.parametrize("target", ["../outside/secret", "/../outside/secret", "d/../../outside/secret"])
def test_hard_links_out_are_refused(tmp_path: Path, outside: Path, target: str) -> None:
    """A hard link whose target climbs is refused."""
    with pytest.raises(InputError) as caught:
        apply(tmp_path / "root", Tar().directory("d").hardlink("x", target))
    assert caught.value.code == "unsafe_path"
    assert untouched(outside)


def test_hard_links_through_symlinks_stay_inside(tmp_path: Path, outside: Path) -> None:
    """A hard link's target is looked up inside the root, and a symlink there is linked, not followed."""
    with pytest.raises(InputError, match="not there"):
        apply(tmp_path / "root", Tar().symlink("out", str(outside)).hardlink("x", "out/secret"))
    root = apply(tmp_path / "root2", Tar().symlink("s", str(outside / "secret")).hardlink("x", "s"))
    assert (root / "x").readlink() == outside / "secret"
    assert untouched(outside)


def test_hard_links_to_folders_themselves_and_nothing_are_refused(tmp_path: Path) -> None:
    """A hard link needs a file that was there before."""
    for number, (name, target) in enumerate([("x", "d"), ("x", "x"), ("x", "missing"), ("x", "")]):
        with pytest.raises(InputError):
            apply(tmp_path / str(number), Tar().directory("d").hardlink(name, target))


@pytest.mark.parametrize("name", ["../pwned", "a/../../pwned", "/../pwned"])
def test_names_that_climb_are_refused(tmp_path: Path, name: str) -> None:
    """A member name with `..` is refused before anything is written."""
    with pytest.raises(InputError) as caught:
        apply(tmp_path / "root", Tar().file(name, "1"))
    assert caught.value.code == "unsafe_path"
    assert not (tmp_path / "pwned").exists()


def test_absolute_names_are_relative_to_the_root(tmp_path: Path) -> None:
    """`/etc/x` is written below the destination."""
    assert tree(apply(tmp_path / "root", Tar().file("/etc/x", "1"))) == {"etc": "/", "etc/x": "1"}


def test_loops_of_links_end(tmp_path: Path) -> None:
    """Links that lead to each other are refused in bounded time."""
    with pytest.raises(InputError, match="loop of links"):
        apply(tmp_path / "root", Tar().symlink("a", "b").symlink("b", "a").file("a/x", "1"))


def test_folders_are_bounded_in_depth(tmp_path: Path) -> None:
    """256 folders deep is unpacked, one more is refused, also when links make the depth."""
    assert (apply(tmp_path / "a", Tar().file("d/" * 256 + "x", "1")) / ("d/" * 256) / "x").read_text() == "1"
    with pytest.raises(InputError, match="256 folders deep"):
        apply(tmp_path / "b", Tar().file("d/" * 257 + "x", "1"))
    with pytest.raises(InputError, match="256 folders deep"):
        apply(tmp_path / "c", Tar().directory("d/" * 200).symlink("l", "d/" * 200).file("l/" + "d/" * 100 + "x", "1"))


def test_a_path_below_a_file_is_refused(tmp_path: Path) -> None:
    """A member below a regular file is refused, as runtimes refuse it."""
    with pytest.raises(InputError, match="no folder"):
        apply(tmp_path / "root", Tar().file("a", "1").file("a/b", "2"))


def test_a_name_that_no_file_system_takes_is_bad_input(tmp_path: Path) -> None:
    """A name of 300 bytes is the layer's fault, not the disk's."""
    with pytest.raises(InputError, match="cannot exist"):
        apply(tmp_path / "root", Tar().file("x" * 300, "1"))


def test_set_user_id_bits_are_dropped_and_files_stay_usable(tmp_path: Path) -> None:
    """Unpacking without owners gives no set-user-ID file, and nothing that its owner cannot read or remove."""
    root = apply(tmp_path / "root", Tar().file("su", "1", mode=0o4755).file("none", "2", mode=0).directory("d", mode=0))
    assert stat.S_IMODE((root / "su").stat().st_mode) == 0o755
    assert stat.S_IMODE((root / "none").stat().st_mode) == 0o400
    assert stat.S_IMODE((root / "d").stat().st_mode) == 0o700


def test_devices_are_left_out(tmp_path: Path) -> None:
    """No device node is made."""
    assert tree(apply(tmp_path / "root", Tar().other("null", tarfile.CHRTYPE).file("a", "1"))) == {"a": "1"}


def test_times_out_of_range_are_cut(tmp_path: Path) -> None:
    """A file from before 1970 or from the year 30000 is unpacked with a time that file systems hold."""
    root = apply(
        tmp_path / "root", Tar().file("old", "1", pax={"mtime": "-5"}).file("new", "2", pax={"mtime": "999999999999"})
    )
    assert (root / "old").stat().st_mtime == 0
    assert (root / "new").stat().st_mtime > 10**9


def test_a_name_that_is_not_utf_8_is_written_as_it_is(tmp_path: Path) -> None:
    """The bytes of a name arrive on disk unchanged."""
    root = apply(tmp_path / "root", Tar(pax=False).file("caf\udce9", "1"))
    assert [os.fsencode(path.name) for path in root.iterdir()] == [b"caf\xe9"]


def test_an_image_with_a_wrong_layer_is_refused(tmp_path: Path) -> None:
    """`unpack_image` compares every layer with its digest."""
    image = put_image(Layout(tmp_path / "layout"), [Tar().file("a", b"12345").bytes()])
    blob = Layout(tmp_path / "layout").blob_path(image.layers[0][0].digest)
    blob.write_bytes(blob.read_bytes()[:-1] + b"\1")
    with pytest.raises(IntegrityError):
        unpack_image(image, tmp_path / "root")


@pytest.mark.interop
def test_it_unpacks_what_tar_packed(tmp_path: Path, tool: Tool) -> None:
    """A tree of this machine packed by GNU tar arrives unchanged, as diff sees it."""
    source = tmp_path / "source"
    subprocess.run(["cp", "-a", "/usr/share/zoneinfo/Europe", source], check=True)
    (source / "link").symlink_to("Berlin")
    os.link(source / "Paris", source / "hard")
    packed = subprocess.run([tool("tar"), "-C", source, "-c", "."], check=True, stdout=subprocess.PIPE).stdout
    unpack([lambda: io.BytesIO(packed)], tmp_path / "root")
    subprocess.run([tool("diff"), "-r", "--no-dereference", source, tmp_path / "root"], check=True)
    assert (tmp_path / "root/hard").stat().st_ino == (tmp_path / "root/Paris").stat().st_ino
