"""Where a loader looks for libraries, as ld.so(8) says."""

from tidewaiter.assembly import libraries
from tidewaiter.assembly.elf import Elf
from tidewaiter.assembly.ground import Ground
from tidewaiter.oci.layer import Entry

MACHINE = (2, 1, 62)


def _ground(*paths: str) -> Ground:
    return Ground([[Entry(path=path, kind="file") for path in paths]])


def test_the_folders_of_the_c_library_are_searched() -> None:
    """Debian's multiarch folders, the lib64 of others, musl's own list; the first view with a C library decides."""
    loader = "/lib64/ld-linux-x86-64.so.2"
    debian, fedora = _ground("usr/lib/x86_64-linux-gnu/libc.so.6"), _ground("usr/lib64/libc.so.6")
    assert libraries.standard_folders(loader, debian)[:2] == ["lib/x86_64-linux-gnu", "usr/lib/x86_64-linux-gnu"]
    assert libraries.standard_folders(loader, fedora) == ["lib64", "usr/lib64"]
    assert libraries.standard_folders(loader, _ground("etc/x"), fedora) == ["lib64", "usr/lib64"]
    assert libraries.standard_folders("/lib/ld-musl-x86_64.so.1", debian) == ["lib", "usr/local/lib", "usr/lib"]


def test_runpath_is_for_the_file_itself_and_rpath_is_passed_on() -> None:
    """$ORIGIN is the file's folder; RUNPATH hides RPATH and what was inherited; relative places are left out."""
    one = Elf(machine=MACHINE, rpath=("$ORIGIN/../lib", "relative"))
    assert libraries.own_folders(one, "opt/app/bin/x", ["up"]) == ["opt/app/lib", "up"]
    assert libraries.passed_on(one, "opt/app/bin/x", ["up"]) == ["opt/app/lib", "up"]
    two = Elf(machine=MACHINE, rpath=("/hidden",), runpath=("${ORIGIN}/$LIB",))
    assert libraries.own_folders(two, "opt/x", ["up"]) == ["opt/lib", "opt/lib64"]
    assert libraries.passed_on(two, "opt/x", ["up"]) == ["up"]


def test_files_of_another_machine_are_passed_over() -> None:
    """The search goes on behind a library that does not fit; a name with a slash is a path."""
    view = _ground("lib32/libx.so", "lib/libx.so")
    found = libraries.find(view, "libx.so", ["lib32", "lib"], lambda path: path.startswith("lib/"))
    assert found == ("lib/libx.so", "lib/libx.so")
    assert libraries.find(view, "/lib32/libx.so", [], lambda _: True) == ("lib32/libx.so", "lib32/libx.so")
    assert libraries.find(view, "liby.so", ["lib"], lambda _: True) is None


def test_symbol_versions_must_be_defined() -> None:
    """What a library does not define is lacking; one that defines none satisfies all, as the loader has it."""
    library = Elf(machine=MACHINE, defines=frozenset({"V_1", "V_2"}))
    assert libraries.lacking(("V_1", "V_3"), library) == ["V_3"]
    assert libraries.lacking(("V_3",), Elf(machine=MACHINE)) == []


def test_parts_of_a_c_library_are_known() -> None:
    """A file that uses private symbols of its C library cannot be used with another one."""
    private = Elf(machine=MACHINE, requires={"libc.so.6": ("GLIBC_2.34", "GLIBC_PRIVATE")})
    assert libraries.of_another_c_library(private, "libc.so.6")
    assert not libraries.of_another_c_library(private, "libm.so.6")
