"""From packages to the files of a layer."""

import tarfile
from pathlib import Path

import pytest

from little_archive import deb, little_recipe, special
from tidewaiter.assembly.base_lock import LockedPackage
from tidewaiter.assembly.debian import tree
from tidewaiter.assembly.debian.tree import Item
from tidewaiter.assembly.recipe import Recipe
from tidewaiter.core.errors import InputError, IntegrityError
from tidewaiter.oci.layer import Entry


def _locked(name: str, version: str = "1.0-1") -> LockedPackage:
    return LockedPackage(
        name=name, version=version, architecture="amd64", group="system", suite="stable", path=f"pool/{name}.deb",
        size=1, sha256="0" * 64,
    )  # fmt: skip


def _items(tmp_path: Path, recipe: Recipe, *packages: tuple[str, bytes], group: int = 0) -> dict[str, Item]:
    staging = tmp_path / "staging"
    staging.mkdir(exist_ok=True)
    files = []
    for name, data in packages:
        path = tmp_path / f"{name}.deb"
        path.write_bytes(data)
        files.append((_locked(name), path))
    return {item.entry.path: item for item in tree.group_items(recipe, recipe.groups[group], files, staging)}


def test_files_of_lib_go_below_usr(tmp_path: Path) -> None:
    """Merged-usr: /lib stays a link, its files, folders and hard links move, and no folder entry covers the link."""
    found = _items(
        tmp_path,
        little_recipe(),
        (
            "one",
            deb(
                "one",
                files={"lib/x/libone.so.1": b"one"},
                members=[
                    special("./lib/", tarfile.DIRTYPE),
                    special("./lib/empty/", tarfile.DIRTYPE),
                    special("./lib/x/libone.so", tarfile.SYMTYPE, target="libone.so.1"),
                    special("./lib/x/again", tarfile.LNKTYPE, target="./lib/x/libone.so.1"),
                ],
            ),
        ),
    )
    assert found["lib"].entry.kind == "symlink"
    assert found["usr/lib/x/libone.so.1"].read() == b"one"
    assert found["usr/lib/x/libone.so"].entry.target == "libone.so.1"
    assert found["usr/lib/x/again"].entry.target == "usr/lib/x/libone.so.1"
    assert found["usr/lib/empty"].entry.kind == "directory"
    assert not [path for path in found if path.startswith("lib/")]


def test_documentation_is_left_out_but_licences_stay(tmp_path: Path) -> None:
    """Manuals go, and folders that only held them; copyright files and links to shared ones stay."""
    found = _items(
        tmp_path,
        little_recipe(),
        (
            "one",
            deb(
                "one",
                files={"usr/share/man/man1/one.1": b"x", "usr/share/doc/one/changelog": b"x", "usr/bin/one": b"x"},
                members=[
                    special("./usr/share/man/man1/", tarfile.DIRTYPE),
                    special("./usr/share/doc/libone", tarfile.SYMTYPE, target="one"),
                    special("./usr/share/doc/one/FAQ", tarfile.SYMTYPE, target="changelog"),
                ],
            ),
        ),
    )
    assert {path for path in found if path.startswith("usr/")} == {
        "usr/bin/one",
        "usr/share/doc/one/copyright",
        "usr/share/doc/libone",
    }


def test_status_lists_what_is_there(tmp_path: Path) -> None:
    """`status.d` holds the control paragraph, and sums of exactly the files that are in the layer, where they are."""
    data = deb("one", files={"lib/libone.so": b"one", "usr/share/man/one.1": b"x"}, fields={"Section": "libs"})
    found = _items(tmp_path, little_recipe(), ("one", data))
    assert b"Package: one\n" in found["var/lib/dpkg/status.d/one"].read()
    sums = found["var/lib/dpkg/status.d/one.md5sums"].read().decode().splitlines()
    assert [line.split("  ")[1] for line in sums] == ["usr/lib/libone.so", "usr/share/doc/one/copyright"]


def test_the_recipe_adds_accounts_files_copies_and_bundles(tmp_path: Path) -> None:
    """What maintainer scripts would have made comes from the recipe, in the group that says so."""
    more = """
[[groups]]
name = "certificates"
title = "Certificates"
packages = ["certs"]
files = [{ path = "etc/timezone", text = "Etc/UTC\\n" }]
copies = [{ path = "etc/b.pem", source = "usr/share/certs/b.crt" }]
bundles = [{ path = "etc/all.pem", sources = "usr/share/certs/*.crt" }]
"""
    data = deb("certs", files={"usr/share/certs/b.crt": b"B", "usr/share/certs/a.crt": b"A\n\n"})
    found = _items(tmp_path, little_recipe(more), ("certs", data), group=2)
    assert found["etc/all.pem"].read() == b"A\nB\n"
    assert found["etc/b.pem"].read() == b"B"
    assert found["etc/timezone"].read() == b"Etc/UTC\n"
    assert "etc/passwd" not in found
    first = _items(tmp_path, little_recipe(more), ("one", deb("one")))
    assert first["etc/passwd"].read() == b"nonroot:x:65532:65532:nonroot:/home/nonroot:/sbin/nologin\n"
    assert first["etc/group"].read() == b"nonroot:x:65532:\n"
    assert (first["home/nonroot"].entry.uid, first["tmp"].entry.mode) == (65532, 0o1777)


@pytest.mark.parametrize(
    "line", ['copies = [{ path = "etc/b", source = "absent" }]', 'bundles = [{ path = "etc/b", sources = "absent/*" }]']
)
def test_a_recipe_that_names_absent_files_is_refused(tmp_path: Path, line: str) -> None:
    """A bundle or copy without its source is an error, never an empty file."""
    recipe = little_recipe(f'\n[[groups]]\nname = "more"\ntitle = "More"\npackages = ["one"]\n{line}\n')
    with pytest.raises(InputError, match="no package of the group has absent"):
        _items(tmp_path, recipe, ("one", deb("one")), group=2)


def test_a_file_that_is_another_package_is_refused(tmp_path: Path) -> None:
    """A lock edited so that a name stands beside another package's SHA-256 is noticed."""
    with pytest.raises(IntegrityError, match=r"base\.lock says one"):
        _items(tmp_path, little_recipe(), ("one", deb("other")))


def test_materialise_makes_the_tree(tmp_path: Path) -> None:
    """Files, links and folders arrive on disk with parents first."""
    items = [
        Item(Entry(path="usr/bin/one", kind="file", size=3, mode=0o755), b"one"),
        Item(Entry(path="usr/bin/two", kind="symlink", target="one")),
        Item(Entry(path="usr/bin/three", kind="hardlink", target="usr/bin/one")),
    ]
    tree.materialise(items, tmp_path / "root")
    assert (tmp_path / "root/usr/bin/two").read_bytes() == b"one"
    assert (tmp_path / "root/usr/bin/three").samefile(tmp_path / "root/usr/bin/one")
    assert (tmp_path / "root/usr/bin/one").stat().st_mode & 0o111


def test_no_file_is_written_through_a_link(tmp_path: Path) -> None:
    """A package that ships a link and then a file below it cannot write outside the root."""
    outside = tmp_path / "outside"
    outside.mkdir()
    items = [
        Item(Entry(path="usr/evil", kind="symlink", target=str(outside))),
        Item(Entry(path="usr/evil/file", kind="file", size=1), b"x"),
    ]
    with pytest.raises(InputError, match="lies below"):
        tree.materialise(items, tmp_path / "root")
    assert not list(outside.iterdir())


def _alternative(name: str, priority: int) -> bytes:
    call = f"update-alternatives --install /usr/bin/editor editor /usr/bin/{name} {priority}"
    slave = f" --slave /usr/share/man/man1/editor.1 editor.1 /usr/share/man/man1/{name}.1"
    return deb(
        name,
        files={f"usr/bin/{name}": b"x", f"usr/share/man/man1/{name}.1": b"manual"},
        scripts={"postinst": f"#!/bin/sh\n{call}{slave}\n".encode()},
    )


def test_the_alternative_of_highest_priority_is_linked(tmp_path: Path) -> None:
    """As update-alternatives does by itself; what the recipe leaves out, as manuals, gets no link."""
    found = _items(
        tmp_path,
        little_recipe(),
        ("low", _alternative("low", 10)),
        ("high", _alternative("high", 50)),
        ("middle", _alternative("middle", 30)),
    )
    assert found["usr/bin/editor"].entry.target == "/etc/alternatives/editor"
    assert found["etc/alternatives/editor"].entry.target == "/usr/bin/high"
    assert "etc/alternatives/editor.1" not in found
    assert "usr/share/man/man1/editor.1" not in found


def test_libraries_that_only_a_cache_would_find_are_refused(tmp_path: Path) -> None:
    """There is no ld.so.cache: a package that counts on one fails loudly; the loader's own folders are fine."""
    files = {"etc/ld.so.conf.d/one.conf": b"# ours\n/opt/one/lib\n", "usr/lib/x86_64-linux-gnu/libone.so.1": b"one"}
    _items(tmp_path, little_recipe(), ("fine", deb("fine", files={**files, "usr/lib/one/libtwo.so": b"two"})))
    with pytest.raises(InputError, match=r"puts libraries into /usr/lib/one \(etc/ld\.so\.conf\.d/one\.conf\)"):
        _items(
            tmp_path,
            little_recipe(),
            (
                "bad",
                deb("bad", files={"etc/ld.so.conf.d/one.conf": b"/usr/lib/one\n", "usr/lib/one/libtwo.so": b"two"}),
            ),
        )
