"""SBOM documents of other programs: what each format says, and what is refused."""

import base64
import json
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from packageurl import PackageURL

from tidewaiter.core import limits
from tidewaiter.core.errors import InputError, LimitError, TidewaiterError
from tidewaiter.inspection import naming
from tidewaiter.inspection.layer_facts import FoundPackage, OsRelease
from tidewaiter.sbom import cyclonedx, purls, spdx
from tidewaiter.sbom.component import Component, component_key
from tidewaiter.sbom.reading.document import SbomDocument
from tidewaiter.sbom.reading.reader import is_sbom, read
from tidewaiter.sbom.subject import Subject

DIGEST = "sha256:" + "ab" * 32
LAYER = "sha256:" + "cd" * 32
LIBC = "pkg:deb/debian/libc6@2.36-9?arch=amd64&distro=debian-12"


def reading(document: object) -> SbomDocument:
    return read(json.dumps(document).encode(), "x.json")


def bom(*components: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"bomFormat": "CycloneDX", "specVersion": "1.5", "components": list(components), **more}


def part(name: str, version: str, purl: str, **more: Any) -> dict[str, Any]:
    return {"type": "library", "name": name, "version": version, "purl": purl, "bom-ref": purl, **more}


def package(name: str, purl: str, **more: Any) -> dict[str, Any]:
    external = {"referenceCategory": "PACKAGE_MANAGER", "referenceType": "purl", "referenceLocator": purl}
    return {"SPDXID": f"SPDXRef-{name}", "name": name, "externalRefs": [external] if purl else [], **more}


def document(*packages: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"spdxVersion": "SPDX-2.3", "name": "doc", "packages": list(packages), **more}


def relation(one: str, kind: str, other: str) -> dict[str, str]:
    return {"spdxElementId": f"SPDXRef-{one}", "relationshipType": kind, "relatedSpdxElement": f"SPDXRef-{other}"}


def test_cyclonedx_as_trivy_writes_it() -> None:
    """Source package in parts, layer, licence by name, group, hashes, distribution and relations are understood."""
    said = [
        {"name": f"aquasecurity:trivy:{name}", "value": value}
        for name, value in (("SrcName", "glibc"), ("SrcVersion", "2.36"), ("SrcRelease", "9+b1"), ("SrcEpoch", "1"),
                            ("LayerDiffID", LAYER), ("FilePath", "var/lib/dpkg/status"))
    ]  # fmt: skip
    found = reading(
        bom(
            {"type": "operating-system", "name": "debian", "version": "12.5", "bom-ref": "os"},
            part("libc6", "2.36-9", f"{LIBC}.5", properties=said, licenses=[{"license": {"name": "gpl-2.0-only"}}],
                 hashes=[{"alg": "SHA-1", "content": "AB" * 20}, {"alg": "BLAKE3", "content": "00"}]),
            part("core", "7.24.0", "pkg:npm/%40babel/core@7.24.0", group="@babel"),
            {"type": "application", "name": "package-lock.json",
             "properties": [{"name": "aquasecurity:trivy:Class", "value": "lang-pkgs"}]},
            metadata={
                "component": {"type": "container", "name": "a:1", "purl": f"pkg:oci/a@{DIGEST.replace(':', '%3A')}"},
                "tools": {"components": [{"type": "application", "name": "trivy", "version": "0.59.1"}]},
            },
            dependencies=[{"ref": "pkg:npm/%40babel/core@7.24.0", "dependsOn": [f"{LIBC}.5", "os", "absent"]}],
        )
    )  # fmt: skip
    assert (found.format, found.version, found.tool) == ("cyclonedx", "1.5", "trivy 0.59.1")
    assert (found.name, found.digest) == ("a:1", DIGEST)
    assert (found.distribution, found.distribution_version, found.notes) == ("debian", "12.5", ())
    assert found.components == (
        Component(
            kind="deb", name="libc6", version="2.36-9", purl=f"{LIBC}.5", ecosystem="Debian:12", source_name="glibc",
            source_version="1:2.36-9+b1", licenses=("GPL-2.0-only",), layer=LAYER, location="var/lib/dpkg/status",
            hashes=("sha1:" + "ab" * 20,),
        ),
        Component(
            kind="npm", name="@babel/core", version="7.24.0", purl="pkg:npm/%40babel/core@7.24.0", ecosystem="npm",
            requires=(f"{LIBC}.5",),
        ),
    )  # fmt: skip


def test_spdx_as_syft_writes_it() -> None:
    """The image is no package; own licence identifiers become texts; `DEPENDENCY_OF` is read the right way round."""
    found = reading(
        document(
            package("libc6", f"{LIBC}&upstream=glibc%402.36", licenseDeclared="MIT AND LicenseRef-a",
                    sourceInfo="acquired package info from DPKG DB: /var/lib/dpkg/status, /usr/share/doc/x",
                    originator="Organization: GNU Libc (x@debian.org)", supplier="NOASSERTION"),
            package("bash", "pkg:deb/debian/bash@5?distro=debian-12", licenseDeclared="NOASSERTION",
                    licenseConcluded="GPL-3.0-or-later OR MIT"),
            package("Root", f"pkg:oci/a@{DIGEST}", primaryPackagePurpose="CONTAINER", versionInfo=DIGEST),
            relationships=[relation("libc6", "DEPENDENCY_OF", "bash"), relation("DOCUMENT", "DESCRIBES", "Root"),
                           relation("Root", "CONTAINS", "bash")],
            hasExtractedLicensingInfos=[{"licenseId": "LicenseRef-a", "extractedText": "Common text"}],
            creationInfo={"creators": ["Organization: Anchore, Inc", "Tool: syft-1.18.1"]},
        )
    )  # fmt: skip
    assert (found.format, found.version, found.tool, found.digest) == ("spdx", "2.3", "syft-1.18.1", DIGEST)
    bash, libc = found.components
    assert (bash.licenses, bash.requires) == (("GPL-3.0-or-later OR MIT",), (LIBC,))
    assert (libc.purl, libc.source_name, libc.source_version) == (LIBC, "glibc", "2.36")
    assert (libc.licenses, libc.location) == (("MIT", "Common text"), "var/lib/dpkg/status")
    assert libc.supplier == "GNU Libc <x@debian.org>"


def test_syfts_own_json_of_either_age() -> None:
    """Licences as objects or as texts, relations, distribution, and the manifest's digest."""
    found = reading(
        {
            "artifacts": [
                {"id": "1", "name": "libc6", "version": "2.36-9", "purl": LIBC, "licenses": ["MIT"],
                 "locations": [{"path": "/var/lib/dpkg/status", "layerID": LAYER}]},
                {"id": "2", "name": "Flask", "version": "3.0", "purl": "pkg:pypi/flask@3.0",
                 "licenses": [{"value": "BSD-3", "spdxExpression": "BSD-3-Clause"}, {"value": "Mine"}]},
            ],
            "artifactRelationships": [{"parent": "1", "child": "2", "type": "dependency-of"},
                                      {"parent": "2", "child": "1", "type": "contains"}],
            "source": {"name": "a", "metadata": {"manifestDigest": DIGEST}},
            "distro": {"id": "debian", "versionID": "12"},
            "descriptor": {"name": "syft", "version": "1.18.1"},
            "schema": {"version": "16.0.18"},
        }
    )  # fmt: skip
    assert (found.format, found.version, found.tool, found.digest) == ("syft", "16.0.18", "syft 1.18.1", DIGEST)
    libc, flask = found.components
    assert (libc.licenses, libc.location, libc.layer) == (("MIT",), "var/lib/dpkg/status", LAYER)
    assert (flask.name, flask.licenses, flask.requires) == ("Flask", ("BSD-3-Clause", "Mine"), (LIBC,))


def test_what_cannot_be_matched_stays_visible() -> None:
    """Packages without a package URL, or of another ecosystem, are components; what is no package is noted."""
    found = reading(
        bom(
            {"type": "library", "name": "nameless", "version": "1"},
            part("x", "1", "not a package URL"),
            part("http", "7.0", "pkg:composer/http@7.0"),
            {"type": "device", "name": "gpu"},
            {"type": "file", "name": "/etc/passwd"},
            {"type": "machine-learning-model", "name": "mnist", "purl": "pkg:generic/mnist"},
            part("inner", "1", "pkg:pypi/outer@1", components=[part("inner", "2", "pkg:pypi/inner@2")]),
        )
    )
    assert [(one.kind, one.name, one.ecosystem) for one in found.components] == [
        ("other", "nameless", ""),
        ("other", "x", ""),
        ("other", "http", "Packagist"),
        ("model", "mnist", ""),
        ("python", "inner", "PyPI"),
        ("python", "outer", "PyPI"),
    ]
    assert found.notes == (
        "components of type device are not read (1: gpu)",
        "packages without a package URL cannot be matched with advisories (2: nameless, x)",
    )


def test_missing_source_packages_are_told_unless_the_writer_always_names_them() -> None:
    """Debian files advisories under source packages: a document that never names them is no basis for "clean"."""
    bare = bom(part("libc6", "2.36-9", LIBC))
    assert "source package" in reading(bare).notes[0]
    assert reading({**bare, "metadata": {"tools": [{"vendor": "anchore", "name": "syft"}]}}).notes == ()


SAME = [
    Component(
        kind="deb", name="libc6", version="1:2.36-9", purl="pkg:deb/debian/libc6@1:2.36-9?arch=amd64&distro=debian-12",
        ecosystem="Debian:12", source_name="glibc", source_version="2.36", licenses=("MIT OR Zlib", "own words"),
        supplier="GNU Libc Maintainers <x@debian.org>", description="C library", location="var/lib/dpkg/status",
        layer=LAYER, hashes=("md5:" + "ab" * 16, "sha256:" + "ef" * 32),
    ),
    Component(
        kind="golang", name="github.com/Masterminds/goutils", version="1.1.0",
        purl="pkg:golang/github.com/Masterminds/goutils@v1.1.0", ecosystem="Go", location="bin/a", layer=LAYER,
    ),
    Component(
        kind="maven", name="org.slf4j:slf4j-api", version="2.0.9", purl="pkg:maven/org.slf4j/slf4j-api@2.0.9",
        ecosystem="Maven", location="a.jar",
    ),
    Component(kind="model", name="mnist", version="1", purl="pkg:generic/mnist@1", ecosystem="", location="models/1"),
    Component(
        kind="npm", name="@babel/core", version="7.24.0", purl="pkg:npm/%40babel/core@7.24.0", ecosystem="npm",
        location="n/a", requires=("pkg:maven/org.slf4j/slf4j-api@2.0.9",),
    ),
    Component(
        kind="python", name="Flask_Thing", version="3.0", purl="pkg:pypi/flask-thing@3.0", ecosystem="PyPI",
        install="editable", location="a/METADATA",
    ),
    Component(
        kind="python", name="Flask_Thing", version="3.0", purl="pkg:pypi/flask-thing@3.0", ecosystem="PyPI",
        install="vendored", location="b/METADATA",
    ),
    Component(
        kind="rpm", name="bash", version="1:5.1-2.el9", source_name="bsh", source_version="5.1-2.el9",
        purl="pkg:rpm/rocky/bash@5.1-2.el9?distro=rocky-9.3&epoch=1&upstream=bsh-5.1-2.el9.src.rpm",
        ecosystem="Rocky Linux:9", location="var/lib/rpm/rpmdb.sqlite",
    ),
]  # fmt: skip


@pytest.mark.parametrize("encode", [cyclonedx.encode, spdx.encode], ids=["cyclonedx", "spdx"])
def test_our_own_documents_give_back_what_went_in(encode: Any) -> None:
    """Every field of every kind of component survives either document; so do the image's name and digest."""
    subject = Subject(name="r.io/a:1", digest=DIGEST, distribution="debian", distribution_version="12")
    found = read(encode(subject, SAME), "x")
    assert (found.name, found.digest, found.distribution, found.notes) == ("r.io/a:1", DIGEST, "debian", ())
    assert list(found.components) == sorted(SAME, key=component_key)


@pytest.mark.parametrize(
    ("kind", "name", "version"),
    [("deb", "debian", "12"), ("deb", "ubuntu", "22.04"), ("deb", "alpine", "3.20.1"), ("deb", "kali", "2024.1"),
     ("apk", "alpine", "3.20.3"), ("apk", "alpine", "3.21_alpha20240807"), ("apk", "wolfi", "20230201"),
     ("rpm", "rocky", "9.3"), ("rpm", "rhel", "9.4"), ("rpm", "fedora", "40"), ("rpm", "sles", "15.6"),
     ("rpm", "opensuse-leap", "15.6"), ("rpm", "amzn", "2023")],
)  # fmt: skip
def test_a_package_url_means_the_ecosystem_that_inspection_finds(kind: Any, name: str, version: str) -> None:
    """What inspection concludes from `os-release` is what an SBOM's package URL of the same package leads to."""
    release = OsRelease(id=name, version_id=version, version=f"{version} LTS")
    package = FoundPackage(kind=kind, name="a", version="1.0-1", location="x", architecture="amd64")
    named = purls.parse(naming.purl(package, release))
    assert named is not None
    assert (named.kind, named.name, named.version) == (kind, "a", "1.0-1")
    assert named.ecosystem == naming.ecosystem(package, release)


@pytest.mark.parametrize(
    ("text", "kind", "name", "version", "ecosystem"),
    [
        ("pkg:deb/debian/bsdutils@2.38?arch=amd64&distro=debian-12.5&epoch=1", "deb", "bsdutils", "1:2.38",
         "Debian:12"),
        ("pkg:apk/alpine/musl@1.2-r0?arch=x86_64&distro=3.20.3", "apk", "musl", "1.2-r0", "Alpine:v3.20"),
        ("pkg:deb/ubuntu/a@1?distro=ubuntu-23.10", "deb", "a", "1", "Ubuntu:23.10"),
        ("pkg:deb/debian/a@1", "deb", "a", "1", "Debian:11"),
        ("pkg:golang/stdlib@v1.22.1", "golang", "stdlib", "1.22.1", "Go"),
        ("pkg:maven/guice@1", "maven", "guice", "1", "unknown"),
        ("pkg:composer/symfony/http@1", "other", "symfony/http", "1", "Packagist"),
        ("pkg:generic/busybox@1.36", "other", "busybox", "1.36", ""),
    ],
)  # fmt: skip
def test_package_urls_of_other_tools(text: str, kind: str, name: str, version: str, ecosystem: str) -> None:
    """Epochs, Trivy's and Syft's ways to name a distribution, and ecosystems that are not inspected here."""
    named = purls.parse(text, ("debian", "11"))
    assert named is not None
    assert (named.kind, named.name, named.version, named.ecosystem) == (kind, name, version, ecosystem)


def _statement(kind: str, predicate: object, *digests: str) -> dict[str, Any]:
    return {
        "_type": "https://in-toto.io/Statement/v1", "predicateType": kind, "predicate": predicate,
        "subject": [{"name": "a", "digest": {"sha256": digest}} for digest in digests],
    }  # fmt: skip


def test_an_attestation_is_opened() -> None:
    """A statement, and a DSSE envelope around it, give the document inside; its subject is what it is about."""
    statement = _statement("https://cyclonedx.org/bom/v1.5", bom(part("a", "1", "pkg:pypi/a@1")), "ab" * 32)
    envelope = {
        "payloadType": "application/vnd.in-toto+json",
        "payload": base64.b64encode(json.dumps(statement).encode()).decode(),
        "signatures": [{"sig": ""}],
    }
    for given_document in (statement, envelope):
        found = reading(given_document)
        assert (found.digest, [one.purl for one in found.components]) == (DIGEST, ["pkg:pypi/a@1"])
    two = _statement("https://spdx.dev/Document", document(), "ab" * 32, "cd" * 32)
    assert reading(two).digest == ""


def test_predicate_types_of_sboms() -> None:
    """The type alone or with a version behind it, and nothing that only begins alike."""
    assert is_sbom("https://spdx.dev/Document")
    assert is_sbom("https://spdx.dev/Document/v2.3")
    assert not is_sbom("https://spdx.dev/Documentary")
    assert not is_sbom("https://slsa.dev/provenance/v1")


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"\xff\xfe",
        b"<bom/>",
        b"[]",
        b"{}",
        b"null",
        b'{"bomFormat": "CycloneDX", "specVersion": "1.6", "specVersion": "1.5"}',
        b'{"bomFormat": "CycloneDX", "specVersion": "1.5", "components": [{"name": "a", "name": "b"}]}',
        b'{"bomFormat": "CycloneDX", "specVersion": "1.1"}',
        b'{"bomFormat": "CycloneDX", "specVersion": "2.0"}',
        b'{"bomFormat": "CycloneDX", "specVersion": "1.5", "components": [{"name": 1}]}',
        b'{"bomFormat": "CycloneDX", "specVersion": "1.5", "components": {"a": 1}}',
        b'{"bomFormat": "CycloneDX", "specVersion": "1.5", "x": NaN}',
        b'{"spdxVersion": "SPDX-3.0"}',
        b'{"spdxVersion": "SPDX-2.3", "packages": [{"name": "a"}]}',
        b'{"artifacts": [], "schema": {"version": "x"}}',
        b'{"artifacts": {}, "schema": {"version": "16.0.0"}}',
        b'{"_type": "https://example.com/Statement", "predicateType": "https://spdx.dev/Document", "predicate": {}}',
        b'{"_type": "https://in-toto.io/Statement/v1", "predicateType": "https://slsa.dev/provenance/v1"}',
        b'{"_type": "https://in-toto.io/Statement/v1", "predicateType": "https://spdx.dev/Document"}',
        b'{"payloadType": "text/plain", "payload": ""}',
        b'{"payloadType": "application/vnd.in-toto+json", "payload": "*"}',
        b'{"payloadType": "application/vnd.in-toto+json", "payload": "e30="}',
    ],
    ids=range(23),
)
def test_what_is_no_sbom_is_refused(text: bytes) -> None:
    """Other JSON, other versions, wrong shapes, ambiguous keys and broken envelopes are errors, never empty results."""
    with pytest.raises(InputError):
        read(text, "x")


def test_a_statement_may_not_contradict_its_document() -> None:
    """A statement about one image around an SBOM about another is refused."""
    inside = bom(metadata={"component": {"type": "container", "name": "a", "version": LAYER}})
    with pytest.raises(InputError, match="the statement is about"):
        reading(_statement("https://cyclonedx.org/bom", inside, "ab" * 32))


def nested(levels: int) -> bytes:
    """A document whose JSON nests `levels` deep; text that looks like brackets does not count."""
    inner: Any = {"type": "library", "name": '[{[{\\"[{['}
    for number in range((levels - 3) // 2):
        inner = {"type": "library", "name": f"a{number}", "components": [inner]}
    return json.dumps(bom(inner)).encode()


def test_depth_is_bounded() -> None:
    """At the bound a document is read, components inside components too; beyond it is refused, however deep."""
    assert limits.JSON_DEPTH % 2 == 0
    assert len(read(nested(limits.JSON_DEPTH - 1), "x").components) == (limits.JSON_DEPTH - 4) // 2 + 1
    with pytest.raises(LimitError, match="nested deeper"):
        read(nested(limits.JSON_DEPTH + 1), "x")
    with pytest.raises(LimitError, match="nested deeper"):
        read(b"[" * 100_000 + b"]" * 100_000, "x")


def test_size_and_numbers_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bytes, values, packages and licences are accepted at their bounds and refused one above."""
    licenses = [{"license": {"name": "x"}}, {"license": {"id": "MIT"}}, {"license": {"name": "x"}}]
    data = json.dumps(bom(part("a", "1", "pkg:pypi/a@1"), part("b", "1", "pkg:pypi/b@1", licenses=licenses))).encode()
    values = data.count(b",") + data.count(b"[") + data.count(b"{")
    for name, bound in (("SBOM_BYTES", len(data)), ("SBOM_VALUES", values), ("COMPONENTS", 2), ("SBOM_LICENSES", 2)):
        with monkeypatch.context() as patch:
            patch.setattr(limits, name, bound)
            assert len(read(data, "x").components) == 2
            patch.setattr(limits, name, bound - 1)
            with pytest.raises(LimitError):
                read(data, "x")


def test_notes_and_package_urls_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A document cannot fill a screen with its oddities, control a terminal, or make a package URL of any length."""
    monkeypatch.setattr(limits, "SBOM_NOTES", 1)
    found = reading(bom({"type": "device", "name": "a\u001b[2J"}, {"type": "data", "name": "b"}))
    assert found.notes == ("components of type device are not read (1: a [2J)",)
    for hidden in (
        "pkg:pypi/a%1b[2J@1",
        "pkg:pypi/a@1%0ab",
        "pkg:deb/x/a@1?distro=x%1b-1",
        "pkg:deb/x/a@1?upstream=%07",
    ):
        assert purls.parse(hidden) is None
    longest = "pkg:pypi/" + "a" * (limits.PURL_CHARACTERS - 11) + "@1"
    assert purls.parse(longest) is not None
    assert purls.parse(longest + "1") is None


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
_PACKAGES = [
    lambda odd: bom({"name": odd, "purl": "pkg:pypi/a@1"}),
    lambda odd: bom({"name": "a", "licenses": odd, "properties": odd}),
    lambda odd: bom(metadata=odd, dependencies=odd),
    document,
    lambda odd: document(package("a", "pkg:pypi/a@1", licenseDeclared=odd)),
    lambda odd: {"artifacts": odd, "schema": {"version": "16.0.0"}},
    lambda odd: _statement("https://spdx.dev/Document", odd),
]


@given(odd=_JSON, place=st.sampled_from(_PACKAGES))
@settings(max_examples=200, deadline=None)
def test_odd_values_are_read_or_refused(odd: Any, place: Any) -> None:
    """Whatever stands where a value is expected, the answer is a document or an error of ours."""
    try:
        found = reading(place(odd))
    except TidewaiterError:
        return
    assert msgspec.json.decode(msgspec.json.encode(found), type=SbomDocument) == found


_printable = st.text(max_size=20).map(lambda text: "".join(filter(str.isprintable, text)))


@given(_printable.filter(bool), _printable)
def test_the_source_package_in_a_package_url_is_read_back(name: str, version: str) -> None:
    """Whatever a source package is called, our documents' package URLs are canonical and say it."""
    component = Component(
        kind="deb", name="a", version="1", purl="pkg:deb/debian/a@1?arch=amd64", ecosystem="",
        source_name=name.replace("@", ""), source_version=version,
    )  # fmt: skip
    written = purls.with_source(component)
    named = purls.parse(written)
    assert named is not None
    assert named.purl == component.purl
    if component.source_name.strip() == component.source_name != "a" and component.source_name:
        assert PackageURL.from_string(written).to_string() == written
        assert named.source_name == component.source_name
        assert named.source_version == ("" if version == "1" else version)
