import pytest

from tidewaiter.core import limits
from tidewaiter.inspection.catalogers.debian import copyright as debian_copyright
from tidewaiter.inspection.catalogers.debian import status
from tidewaiter.inspection.catalogers.programs import kind_of
from tidewaiter.inspection.catalogers.python import metadata, requirements
from tidewaiter.inspection.catalogers.python.licenses import licenses
from tidewaiter.inspection.catalogers.system import os_release, users
from tidewaiter.inspection.catalogers.text import clean, paragraphs
from tidewaiter.inspection.environment import masked
from tidewaiter.inspection.layer_facts import Collector, FoundPackage
from tidewaiter.sbom.licenses import expression

DEP5 = b"Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\n"


def debs(text: str) -> tuple[tuple[FoundPackage, ...], int]:
    collector = Collector()
    status.read("var/lib/dpkg/status", text.encode(), collector)
    return collector.packages["var/lib/dpkg/status"], len(collector.unread)


def python(text: bytes, path: str = "x/a-1.dist-info/METADATA") -> FoundPackage | None:
    collector = Collector()
    metadata.read(path, text, collector)
    return collector.packages.get(path, (None,))[0]


def test_dpkg_fields_become_a_package() -> None:
    """Name, version, source with its own version, maintainer, first line of the description, relations."""
    (package,), unread = debs(
        "Package: libstdc++6\nStatus: install ok installed\nPriority: optional\nMaintainer: D <d@x.org>\n"
        "Architecture: amd64\nMulti-Arch: same\nSource: gcc-12 (12.2.0-14)\nVersion: 12.2.0-14+deb12u1\n"
        "Provides: libx (= 1), liby\nPre-Depends: a:any | b (>= 1)\n"
        "Depends: gcc-12-base (= 12.2.0-14), libc6 (>= 2.36)\n"
        "Description: GNU Standard C++ Library v3\n more text\n .\n and more\nHomepage: http://x\n\n"
    )
    assert package == FoundPackage(
        kind="deb",
        name="libstdc++6",
        version="12.2.0-14+deb12u1",
        location="var/lib/dpkg/status",
        architecture="amd64",
        source_name="gcc-12",
        source_version="12.2.0-14",
        supplier="D <d@x.org>",
        description="GNU Standard C++ Library v3",
        depends=("a", "b", "gcc-12-base", "libc6"),
        provides=("libx", "liby"),
    )
    assert unread == 0


@pytest.mark.parametrize(
    ("state", "present"),
    [
        ("install ok installed", True),
        ("hold ok installed", True),
        ("install ok half-configured", True),
        ("deinstall ok config-files", False),
        ("purge ok not-installed", False),
        ("", True),
    ],
)
def test_removed_packages_do_not_count(state: str, present: bool) -> None:
    """Only what dpkg has unpacked is a package; an odd state counts as present."""
    packages, _ = debs(f"Package: a\nStatus: {state}\nVersion: 1\n")
    assert bool(packages) is present


@pytest.mark.parametrize(
    "paragraph", ["Package: a\n", "Version: 1\n", "Package: a b\nVersion: 1\n", "Package: a\nVersion: $(x)\n"]
)
def test_a_paragraph_without_name_and_version_is_noted(paragraph: str) -> None:
    """A paragraph that names no package is said to be unread, and the others are kept."""
    packages, unread = debs(paragraph + "\nPackage: ok\nVersion: 1\n")
    assert ([package.name for package in packages], unread) == (["ok"], 1)


def test_only_dpkg_files_are_wanted() -> None:
    """Status, and the files of status.d that are no checksum lists."""
    assert status.wants("var/lib/dpkg/status")
    assert status.wants("var/lib/dpkg/status.d/libc6")
    for path in ("var/lib/dpkg/status.d/libc6.md5sums", "var/lib/dpkg/status-old", "x/var/lib/dpkg/status"):
        assert not status.wants(path)


@pytest.mark.parametrize(
    ("synopsis", "spdx"),
    [
        ("Expat", "MIT"),
        ("GPL-2+", "GPL-2.0-or-later"),
        ("GPL-2", "GPL-2.0-only"),
        ("LGPL-2.1+", "LGPL-2.1-or-later"),
        ("GFDL-1.3", "GFDL-1.3-only"),
        ("Apache-2.0", "Apache-2.0"),
        ("bsd-3-CLAUSE", "BSD-3-Clause"),
        ("GPL-2+ or Expat", "GPL-2.0-or-later OR MIT"),
        ("GPL-1+ or Artistic-2.0, and BSD-3-clause", "(GPL-1.0-or-later OR Artistic-2.0) AND BSD-3-Clause"),
        ("GPL-2+ with OpenSSL exception", None),
        ("public-domain", None),
        ("GPL-9+", None),
        ("Expat or", None),
        ("GPL-2+ and/or Expat", None),
    ],
)
def test_short_names_become_spdx_where_certain(synopsis: str, spdx: str | None) -> None:
    """DEP-5 short names are translated when they have one meaning, else left as they are."""
    assert debian_copyright.spdx(synopsis) == spdx


def test_licences_of_a_machine_readable_file() -> None:
    """Every stanza's licence counts once: as SPDX where certain, else as written; texts of licences do not."""
    data = DEP5 + (
        b"\nFiles: *\nCopyright: x\nLicense: Expat\n\nFiles: y\nLicense: custom\n text\n .\n text\n"
        b"\nLicense: Expat\n Permission is hereby granted\n"
    )
    assert debian_copyright.licenses(data) == ("MIT", "custom")


def test_licences_of_another_file_are_the_common_ones() -> None:
    """Prose that points to common licences gives their names, which are no SPDX expressions."""
    found = debian_copyright.licenses(
        b"See `/usr/share/common-licenses/GPL-2' and /usr/share/common-licenses/LGPL-2.1.\n"
    )
    assert found == ("common-licenses/GPL-2", "common-licenses/LGPL-2.1")
    assert [expression(name) for name in found] == [None, None]
    assert debian_copyright.licenses(b"") == ()


@pytest.mark.parametrize(
    ("expressions", "classifiers", "written", "found"),
    [
        (["MIT OR apache-2.0"], ["License :: OSI Approved :: BSD License"], ["BSD"], ("MIT OR Apache-2.0",)),
        (["LicenseRef-Mine"], [], [], ("LicenseRef-Mine",)),
        ([], ["License :: OSI Approved :: MIT License"], ["whatever"], ("MIT",)),
        ([], ["License :: OSI Approved :: BSD License"], ["BSD-3-Clause"], ("BSD-3-Clause",)),
        ([], ["License :: OSI Approved :: Apache Software License"], ["Apache 2.0"], ("Apache-2.0",)),
        ([], ["License :: OSI Approved :: BSD License"], [], ("BSD License",)),
        ([], ["License :: OSI Approved"], ["UNKNOWN"], ()),
        ([], [], ["\n  My own licence\nmore"], ("My own licence",)),
        ([], [], ["x" * 5000], ("x" * limits.LICENSE_CHARACTERS,)),
        ([], ["Programming Language :: Python"], [""], ()),
    ],
)
def test_licences_of_a_distribution(
    expressions: list[str], classifiers: list[str], written: list[str], found: tuple[str, ...]
) -> None:
    """The expression wins, then a certain classifier, then the text, then a vague classifier."""
    assert licenses(expressions, classifiers, written) == found


def test_metadata_headers_end_at_the_first_empty_line() -> None:
    """A folded licence with lines of spaces is one field, and nothing in the description is a header."""
    found = python(
        b"Metadata-Version: 2.1\nName: a\nVersion: 1\nLicense: BSD 3-Clause License\n        \n        - text\n"
        b"Requires-Dist: b\nAuthor: A\nSummary: s\r\n\r\nName: evil\nRequires-Dist: c\n"
    )
    assert found is not None
    assert (found.name, found.licenses, found.depends, found.supplier, found.description) == (
        "a",
        ("BSD-3-Clause",),
        ("b",),
        "A",
        "s",
    )


@pytest.mark.parametrize(
    "text", [b"", b"\xff\xfe\x00", b"Name: a b\nVersion: 1\n", b"Name: a\n", b"Name: a\nVersion: 1;x\n"]
)
def test_metadata_that_does_not_name_itself_is_named_by_its_folder(text: bytes) -> None:
    """Without a valid name and version the folder's count, so that the distribution is not overlooked."""
    found = python(text, "x/my_pkg-1.2.dist-info/METADATA")
    assert found is not None
    assert (found.name, found.version) == ("my_pkg", "1.2")
    egg = python(text, "x/my_pkg-1.2-py3.11.egg-info/PKG-INFO")
    assert egg is not None
    assert egg.version == "1.2"
    assert python(text, "x/EGG-INFO/PKG-INFO") is None


def test_requirements_are_bounded() -> None:
    """As many requirements as the limit are kept, and the rest is said to be unread."""
    for more in (0, 1):
        collector = Collector()
        count = limits.REQUIREMENTS + more
        metadata.read("x/METADATA", b"Name: a\nVersion: 1\n" + b"Requires-Dist: b\n" * count, collector)
        assert len(collector.packages["x/METADATA"][0].depends) == limits.REQUIREMENTS
        assert len(collector.unread) == more


@pytest.mark.parametrize(
    ("requirement", "needed"),
    [
        ("b>=1,<2", True),
        ("b[x]; python_version >= '3.8'", True),
        ("b; python_version < '3.8'", False),
        ("b; extra == 'test'", False),
        ("b; extra == 'test' and platform_release > '1'", False),
        ("b; sys_platform == 'win32'", False),
        ("b; platform_machine == 'x86_64'", True),
        ("b; platform_machine == 'aarch64'", False),
        ("b; python_full_version < '3.11.1'", True),
        ("b; platform_release > '5'", True),
        ("not a requirement", False),
        ("b; nonsense == 'x'", False),
    ],
)
def test_markers_are_evaluated_for_the_image(requirement: str, needed: bool) -> None:
    """Markers that an image decides are decided; those that it does not are taken to hold."""
    package = FoundPackage(
        kind="python", name="a", version="1", location="usr/lib/python3.11/x/METADATA", depends=(requirement,)
    )
    assert list(requirements.needed(package, "amd64")) == (["b"] if needed else [])


def test_without_a_python_version_its_markers_hold() -> None:
    """A distribution outside a pythonX.Y folder may run on any Python."""
    package = FoundPackage(
        kind="python", name="a", version="1", location="app/METADATA", depends=("b; python_version < '3.8'",)
    )
    assert list(requirements.needed(package, "amd64")) == ["b"]


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("bin/sh", "shell"),
        ("anything/busybox", "shell"),
        ("usr/bin/pip", "package_manager"),
        ("usr/bin/pip3.11", "package_manager"),
        ("usr/bin/pipe", None),
        ("usr/bin/apt", "package_manager"),
        ("usr/lib/apt/methods/apt", None),
        ("usr/sbin/dropbear", "ssh_server"),
        ("usr/bin/ssh", None),
        ("opt/venv/bin/jupyter-lab", "jupyter"),
        ("usr/bin/g++", "compiler"),
        ("usr/bin/aarch64-linux-gnu-ld.gold", None),
        ("usr/bin/ld.gold", "compiler"),
        ("usr/bin/clang-14", "compiler"),
        ("usr/bin/assert", None),
        ("usr/bin/gdb", "debugger"),
        ("usr/local/bin/lldb-14", "debugger"),
        ("usr/bin/x86_64-linux-gnu-gdb", "debugger"),
        ("usr/bin/strace", "debugger"),
        ("usr/bin/perf_6.1", "debugger"),
        ("usr/local/cuda/bin/cuda-gdb", "debugger"),
        ("usr/bin/perfect", None),
        ("usr/lib/valgrind/valgrind", None),
        ("usr/bin/python3.11", None),
        ("sh", "shell"),
        ("gcc", None),
    ],
)
def test_programs_by_path(path: str, kind: str | None) -> None:
    """What a name in a folder means."""
    assert kind_of(path) == kind


def test_os_release_values_lose_their_quotes() -> None:
    """Both kinds of quotes go, comments and nonsense are skipped, control characters do not pass."""
    found = os_release(b'# ID=no\nID=\'Debian\'\nVERSION_ID="12"\nPRETTY_NAME="a\x1b[2Jb"\nnonsense\nNAME=x\n\xff=\xff')
    assert (found.id, found.version_id, found.name) == ("debian", "12", "a [2Jb")


def test_passwd_lines_that_are_none_are_skipped() -> None:
    """Only lines with a name and a number count, the lowest number of a name wins."""
    assert users(
        b"root:x:0:0:root:/root:/bin/sh\na:x:5:5\nb:x:-1:1\nc:x:x:1\nd:x\na:x:3:3::\n:x:0:0::\ne:x:99999999999:1::"
    ) == {
        "root": 0,
        "a": 3,
    }


def test_secrets_in_the_environment_are_masked() -> None:
    """Values of secret-looking names and passwords in addresses do not leave the image."""
    assert masked(
        [
            "API_TOKEN=a",
            "my_password=b",
            "AWS_SECRET_X=c",
            "SSH_KEY=d",
            "EMPTY_KEY=",
            "U=https://u:p@h/x",
            "P=/bin",
            "ODD",
        ]
    ) == {
        "API_TOKEN": "****",
        "my_password": "****",
        "AWS_SECRET_X": "****",
        "SSH_KEY": "****",
        "EMPTY_KEY": "",
        "U": "https://****@h/x",
        "P": "/bin",
        "ODD": "",
    }


def test_text_is_cleaned_and_cut() -> None:
    """Control characters and runs of spaces become one space, and the length is bounded."""
    assert clean("a\x00\x1b b\n c") == "a b c"
    assert clean("x" * 10_000, 10) == "x" * 10


def test_paragraphs_are_separated_as_each_format_says() -> None:
    """A line of spaces separates Debian's paragraphs and belongs to a folded value of Python's."""
    text = b"A: 1\n b\n   \nC: 2\n\nD: 3"
    assert list(paragraphs(text, spaces_separate=True)) == [[("a", "1\nb")], [("c", "2")], [("d", "3")]]
    assert list(paragraphs(text, spaces_separate=False)) == [[("a", "1\nb\n"), ("c", "2")], [("d", "3")]]
