"""Maintainer scripts: known, harmless, or a loud error."""

from pathlib import Path

import pytest

from little_archive import deb, little_recipe
from tidewaiter.assembly.debian import deb as debs
from tidewaiter.assembly.debian import scripts
from tidewaiter.assembly.debian.deb import Control
from tidewaiter.core.errors import InputError

ACTIVE = b"#!/bin/sh\nset -e\nuseradd evil\n"


def _control(tmp_path: Path, **files: bytes) -> Control:
    path = tmp_path / "one.deb"
    path.write_bytes(deb("one", scripts=files))
    return debs.read_control(path)


def _allow(fingerprints: str) -> str:
    return (
        '\n[[allow_scripts]]\npackage = "one"\nscript = "postinst"\nwork = "accounts are in the recipe"\n'
        f"fingerprints = {fingerprints}\n"
    )


@pytest.mark.parametrize(
    ("name", "script"),
    [
        ("postinst", b"#!/bin/sh\nset -e\n# a remark\n\nexit 0\n"),
        ("postinst", b'#! /bin/sh -e\ndpkg-maintscript-helper rm_conffile /etc/x 1.0\\~ -- "$@"\n'),
        ("prerm", ACTIVE),
        ("postrm", ACTIVE),
        ("config", ACTIVE),
        ("triggers", b"# Triggers\nactivate-noawait ldconfig\ninterest-noawait /usr/lib/x\n"),
    ],
)
def test_scripts_that_do_nothing_here_pass(tmp_path: Path, name: str, script: bytes) -> None:
    """Scripts of removal and of debconf never count; others pass when every statement is known to be idle."""
    scripts.effects(_control(tmp_path, **{name: script}), little_recipe())


@pytest.mark.parametrize(
    ("name", "script"),
    [
        ("postinst", ACTIVE),
        ("preinst", ACTIVE),
        ("postinst", b"#!/usr/bin/perl\nexit 0\n"),
        ("postinst", b"\x7fELF"),
        ("postinst", b""),
        ("postinst", b"#!/bin/sh\n: && useradd evil; exit 0\n"),
        ("postinst", b"#!/bin/sh\nset -e \\\n&& useradd evil\n"),
        ("postinst", b'#!/bin/sh\ndpkg-maintscript-helper rm_conffile /x `useradd evil` -- "$@"\n'),
        ("triggers", b"activate update-initramfs\n"),
    ],
)
def test_an_unknown_script_fails_loudly(tmp_path: Path, name: str, script: bytes) -> None:
    """Anything else is an error that names package and script and shows what to write to allow it."""
    control = _control(tmp_path, **{name: script})
    with pytest.raises(InputError, match=f"the {name} script of one 1.0-1 does something that is not known") as caught:
        scripts.effects(control, little_recipe())
    assert caught.value.code == "unknown_script"
    assert "[[allow_scripts]]" in caught.value.next_step
    assert scripts.fingerprint(script, "1.0-1") in caught.value.next_step


def test_an_allowed_script_passes_only_as_it_was_read(tmp_path: Path) -> None:
    """Allowing a fingerprint allows that content; a change afterwards is noticed; without one, all is allowed."""
    known = little_recipe(_allow(f'["{scripts.fingerprint(ACTIVE, "1.0-1")}"]'))
    scripts.effects(_control(tmp_path, postinst=ACTIVE), known)
    changed = _control(tmp_path, postinst=ACTIVE + b"rm -rf /\n")
    with pytest.raises(InputError, match="has changed since the recipe was written"):
        scripts.effects(changed, known)
    scripts.effects(changed, little_recipe(_allow("[]")))


def test_a_rebuild_keeps_the_fingerprint() -> None:
    """A script that differs only in its package's version, or debhelper's, is the same script."""
    old = b"#!/bin/sh\n# Automatically added by dh_x/13.11.4\necho 1.0-1\n"
    new = b"#!/bin/sh\n# Automatically added by dh_x/13.12\necho 1.0-1+deb12u1\n"
    assert scripts.fingerprint(old, "1.0-1") == scripts.fingerprint(new, "1.0-1+deb12u1")
    assert scripts.fingerprint(old, "1.0-1") != scripts.fingerprint(old + b"true\n", "1.0-1")


def test_what_a_script_does_is_named(tmp_path: Path) -> None:
    """The statement that is not known stands in the message."""
    with pytest.raises(InputError, match=r"not known \(useradd evil\)"):
        scripts.effects(_control(tmp_path, postinst=ACTIVE), little_recipe())


def test_alternatives_are_returned(tmp_path: Path) -> None:
    """The work of update-alternatives is done for the script, so it comes back as a value."""
    script = b"#!/bin/sh\nupdate-alternatives --install /usr/bin/editor editor /usr/bin/one 40\n"
    found = scripts.effects(_control(tmp_path, postinst=script), little_recipe())
    assert [(one.link, one.path, one.priority) for one in found] == [("usr/bin/editor", "usr/bin/one", 40)]


def test_shipped_scripts_say_what_stands_in_their_place() -> None:
    """Every script that is known by fingerprint has its reason and a fingerprint, once."""
    listed = [(one.package, one.script) for one in scripts.shipped()]
    assert len(listed) == len(set(listed)) > 20
    assert all(one.work and one.fingerprints for one in scripts.shipped())
