import json

import pytest

from tidewaiter.core import limits
from tidewaiter.core.errors import LimitError
from tidewaiter.inspection.catalogers import apk, conda, npm
from tidewaiter.inspection.catalogers.python import installs
from tidewaiter.inspection.layer_facts import Collector, FoundPackage, OsRelease
from tidewaiter.inspection.naming import ecosystem, purl

INSTALLED = """\
C:Q1n5b0+RLZrTnzwHwqmn3BmOWQ6Wc=
P:ssl_client
V:1.36.1-r29
A:x86_64
S:4864
T:EXternal ssl_client for busybox wget
U:https://busybox.net/
L:GPL-2.0-only
o:busybox
m:Sören Tempel <soeren+alpine@soeren-tempel.net>
D:so:libc.musl-x86_64.so.1 libssl3>=3.3 !conflict
p:cmd:ssl_client=1.36.1-r29
F:usr/bin
R:ssl_client
a:0:0:755
Z:Q1SLkS9hBidUbPwwrw+XR0Whv3ww8=

C:Q1r3W+pnTRLXm1+m+fBWgdeJcbP+I=
P:musl
V:1.2.5-r0
L:MIT AND (something of ours)
o:musl
p:so:libc.musl-x86_64.so.1=1
"""


def read(module: object, path: str, data: str | bytes) -> tuple[tuple[FoundPackage, ...], list[str]]:
    collector = Collector()
    content = data.encode() if isinstance(data, str) else data
    module.CATALOGER.read(path, content, collector)  # type: ignore[attr-defined]  # each of these modules has one
    return collector.packages.get(path, ()), sorted(note.reason for note in collector.unread)


def test_an_apk_database_becomes_packages() -> None:
    """Version, origin, licence, maintainer and relations come from the letters; lines about files change nothing."""
    (client, musl), notes = read(apk, "lib/apk/db/installed", INSTALLED)
    assert client == FoundPackage(
        kind="apk",
        name="ssl_client",
        version="1.36.1-r29",
        location="lib/apk/db/installed",
        architecture="x86_64",
        source_name="busybox",
        licenses=("GPL-2.0-only",),
        supplier="Sören Tempel <soeren+alpine@soeren-tempel.net>",
        description="EXternal ssl_client for busybox wget",
        depends=("libssl3", "so:libc.musl-x86_64.so.1"),
        provides=("cmd:ssl_client",),
        hashes=("sha1:9f96f4f912d9ad39f3c07c2a9a7dc198e590e967",),
    )
    assert (musl.source_name, musl.licenses) == ("", ("MIT AND (something of ours)",))
    assert notes == []


def test_an_apk_paragraph_without_name_and_version_is_noted() -> None:
    """What cannot be a package is said to be unread, and the others are kept."""
    packages, notes = read(apk, "lib/apk/db/installed", "P:a b\nV:1\n\nP:ok\nV:1-r0\n\nV:2\n\nF:etc\n")
    assert [package.name for package in packages] == ["ok"]
    assert len(notes) == 2


@pytest.mark.parametrize(
    ("path", "wanted"),
    [
        ("usr/lib/node_modules/npm/package.json", True),
        ("node_modules/a/package.json", True),
        ("node_modules/@scope/a/package.json", True),
        ("app/node_modules/a/node_modules/b/package.json", True),
        ("node_modules/a/lib/package.json", False),
        ("app/package.json", False),
        ("package.json", False),
        ("node_modules/package.json", False),
        ("a/b/package.json", False),
    ],
)
def test_npm_reads_installed_packages_only(path: str, wanted: bool) -> None:
    """A package file counts at the top of an installed package, with a scope or without."""
    assert npm.wants(path) is wanted


@pytest.mark.parametrize("path", ["package.json", "app/package.json", "node_modules/a/vendor/b/package.json"])
def test_a_package_file_elsewhere_counts_when_it_names_a_package(path: str) -> None:
    """Applications, and copies that lie in no `node_modules`, are found; other files of that name go unmentioned."""
    collector = Collector()
    assert npm.ELSEWHERE.wants(path)
    assert not npm.ELSEWHERE.wants("node_modules/a/package.json")
    assert not npm.ELSEWHERE.wants("app/my-package.json")
    for data in (b"no JSON", b'{"type": "module"}', b'{"name": "a"}', b'{"name": "../a", "version": "1"}', b"[]"):
        npm.ELSEWHERE.read(path, data, collector)
        assert (collector.packages, collector.unread) == ({}, set())
    npm.ELSEWHERE.read(path, b'{"name": "shop", "version": "2.0.1"}', collector)
    assert [(one.name, one.version) for one in collector.packages[path]] == [("shop", "2.0.1")]


def test_an_npm_package_is_read() -> None:
    """Name with scope, version, licence of either age, author and dependencies."""
    path = "node_modules/@babel/core/package.json"
    document = {
        "name": "@babel/core",
        "version": "7.24.0",
        "license": "MIT",
        "author": {"name": "The Babel Team"},
        "description": "Babel compiler core.",
        "dependencies": {"semver": "^6", "": "bad", "@babel/types": "1"},
    }
    (package,), notes = read(npm, path, json.dumps(document))
    assert package == FoundPackage(
        kind="npm", name="@babel/core", version="7.24.0", location=path, licenses=("MIT",),
        supplier="The Babel Team", description="Babel compiler core.", depends=("@babel/types", "semver"),
    )  # fmt: skip
    assert notes == []
    old = {"name": "a", "version": "v1.0", "licenses": [{"type": "BSD"}, {"type": "mit"}, 3], "author": 3}
    assert read(npm, path, json.dumps(old))[0][0].licenses == ("BSD", "MIT")


@pytest.mark.parametrize(
    "data",
    ["", "[", "[" * 100_000, '{"name": 1, "version": "1"}', '{"name": "a\\u001b[2J", "version": "1"}',
     '{"name": "a", "version": "; rm"}', '{"name": "../a", "version": "1"}'],
    ids=range(7),
)  # fmt: skip
def test_a_hostile_npm_package_file_is_noted(data: str) -> None:
    """Broken JSON, endless nesting and names that npm does not allow give a note and no package."""
    packages, notes = read(npm, "node_modules/a/package.json", data)
    assert (packages, len(notes)) == ((), 1)


@pytest.mark.parametrize("data", ["{}", "[]", '{"type": "module"}', '{"name": "a"}', "3"])
def test_a_marker_is_no_npm_package(data: str) -> None:
    """Package files that only set an option name no package and raise no alarm."""
    assert read(npm, "node_modules/a/package.json", data) == ((), [])


def test_a_conda_record_is_read() -> None:
    """Name, version, platform, licence and names of dependencies come from the record."""
    path = "opt/conda/conda-meta/numpy-1.26.4-py311h64a7726_0.json"
    record = {
        "name": "numpy", "version": "1.26.4", "build": "py311h64a7726_0", "subdir": "linux-64",
        "license": "BSD-3-Clause", "channel": "https://conda.anaconda.org/conda-forge/linux-64",
        "depends": ["libblas >=3.9.0,<4.0a0", "python >=3.11", 3], "files": ["lib/a"] * 1000,
    }  # fmt: skip
    assert conda.wants(path)
    (package,), notes = read(conda, path, json.dumps(record))
    assert (package.name, package.version, package.architecture) == ("numpy", "1.26.4", "linux-64")
    assert (package.licenses, package.depends, notes) == (("BSD-3-Clause",), ("libblas", "python"), [])


@pytest.mark.parametrize("data", ["", "{}", "[1]", '{"name": "a", "version": 1}', '{"name": "A B", "version": "1"}'])
def test_a_broken_conda_record_is_noted(data: str) -> None:
    """A record that names no package is said to be unread."""
    packages, notes = read(conda, "opt/conda-meta/a.json", data)
    assert (packages, len(notes)) == ((), 1)


def test_conda_reads_its_own_folder_only() -> None:
    """Other JSON files, and the history beside the records, are left alone."""
    assert not conda.wants("opt/conda-meta/history")
    assert not conda.wants("etc/a.json")
    assert not conda.wants("conda-meta/sub/a.json")


def test_a_layer_with_too_many_packages_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """One package over the bound stops; the bound itself does not."""
    monkeypatch.setattr(limits, "COMPONENTS", 2)
    assert len(read(apk, "lib/apk/db/installed", INSTALLED)[0]) == 2
    with pytest.raises(LimitError):
        read(apk, "lib/apk/db/installed", INSTALLED + "\nP:third\nV:1\n")


@pytest.mark.parametrize(
    ("path", "data", "editable"),
    [
        ("s/demo-0.1.dist-info/direct_url.json", b'{"url": "file:///src", "dir_info": {"editable": true}}', True),
        ("s/demo-0.1.dist-info/direct_url.json", b'{"url": "file:///src", "dir_info": {}}', False),
        ("s/demo-0.1.dist-info/direct_url.json", b'{"dir_info": {"editable": 1}}', False),
        ("s/demo-0.1.dist-info/direct_url.json", b"[" * 100_000, False),
        ("s/__editable__.demo-0.1.pth", b"/src", True),
    ],
    ids=range(5),
)
def test_editable_installations_are_told_apart(path: str, data: bytes, editable: bool) -> None:
    """pip's record (PEP 610) and setuptools' pointer both lead to the metadata folder of the distribution."""
    collector = Collector()
    assert installs.wants(path)
    installs.read(path, data, collector)
    assert {installs.folder_of(found) for found in collector.editable} == (
        {"s/demo-0.1.dist-info"} if editable else set()
    )


def found(kind: str, name: str, version: str = "1.0", architecture: str = "") -> FoundPackage:
    return FoundPackage(kind=kind, name=name, version=version, location="x", architecture=architecture)  # type: ignore[arg-type]  # from a table


@pytest.mark.parametrize(
    ("package", "system", "url", "where"),
    [
        (found("apk", "musl", "1.2-r0", "x86_64"), ("alpine", "3.20.3"),
         "pkg:apk/alpine/musl@1.2-r0?arch=x86_64&distro=alpine-3.20.3", "Alpine:v3.20"),
        (found("apk", "musl"), ("alpine", "3.21_alpha20240807"),
         "pkg:apk/alpine/musl@1.0?distro=alpine-3.21_alpha20240807", "Alpine:edge"),
        (found("apk", "musl"), ("wolfi", "20230201"), "pkg:apk/wolfi/musl@1.0?distro=wolfi-20230201", "Wolfi"),
        (found("apk", "musl"), ("debian", "12"), "pkg:apk/debian/musl@1.0?distro=debian-12", "unknown"),
        (found("deb", "libc6"), ("alpine", "3.20.3"), "pkg:deb/alpine/libc6@1.0?distro=alpine-3.20.3", "unknown"),
        (found("npm", "@babel/core"), ("", ""), "pkg:npm/%40babel/core@1.0", "npm"),
        (found("golang", "github.com/a/b/v2", "2.1.0"), ("", ""), "pkg:golang/github.com/a/b/v2@v2.1.0", "Go"),
        (found("golang", "stdlib", "1.22.1"), ("", ""), "pkg:golang/stdlib@1.22.1", "Go"),
        (found("cargo", "serde"), ("", ""), "pkg:cargo/serde@1.0", "crates.io"),
        (found("maven", "org.slf4j:slf4j-api"), ("", ""), "pkg:maven/org.slf4j/slf4j-api@1.0", "Maven"),
        (found("maven", "guice"), ("", ""), "pkg:maven/guice@1.0", "unknown"),
        (found("conda", "numpy", "1.0", "linux-64"), ("", ""), "pkg:conda/numpy@1.0?subdir=linux-64", "conda"),
    ],
    ids=range(12),
)  # fmt: skip
def test_packages_are_named_as_osv_and_purl_name_them(
    package: FoundPackage, system: tuple[str, str], url: str, where: str
) -> None:
    """Package URLs and ecosystems are those of the specifications; what no database certainly covers is unknown."""
    release = OsRelease(id=system[0], version_id=system[1])
    assert (purl(package, release), ecosystem(package, release)) == (url, where)
