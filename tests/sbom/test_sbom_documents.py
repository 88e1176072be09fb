import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tidewaiter.sbom import cyclonedx, spdx
from tidewaiter.sbom.component import Component
from tidewaiter.sbom.licenses import conjunction, expression, is_single
from tidewaiter.sbom.subject import EPOCH, Subject, SubjectLayer, purl, timestamp

DIGEST = "sha256:" + "ab" * 32
LAYER = "sha256:" + "cd" * 32
BLOB = "sha256:" + "12" * 32
SUBJECT = Subject(
    name="registry.example.com:5000/vision/mnist:1.0",
    digest=DIGEST,
    created="2026-01-02T03:04:05.123456789Z",
    architecture="amd64",
    distribution="debian",
    distribution_version="12",
    distribution_name="Debian GNU/Linux 12",
    layers=(SubjectLayer(BLOB, LAYER),),
)
LIBC = Component(
    kind="deb",
    name="libc6",
    version="2.36-9+deb12u9",
    purl="pkg:deb/debian/libc6@2.36-9%2Bdeb12u9?arch=amd64&distro=debian-12",
    ecosystem="Debian:12",
    source_name="glibc",
    licenses=("GPL-2.0-or-later OR MIT", "common-licenses/LGPL-2.1"),
    supplier="GNU Libc Maintainers <x@debian.org>",
    description="GNU C Library",
    location="var/lib/dpkg/status.d/libc6",
    layer=LAYER,
    hashes=("sha256:" + "ef" * 32,),
)
NUMPY = Component(
    kind="python", name="numpy", version="2.1.0", purl="pkg:pypi/numpy@2.1.0", ecosystem="PyPI",
    licenses=("BSD-3-Clause",), location="site/numpy-2.1.0.dist-info/METADATA", layer=LAYER,
)  # fmt: skip
TENSORFLOW = Component(
    kind="python", name="tensorflow", version="2.18.0", purl="pkg:pypi/tensorflow@2.18.0", ecosystem="PyPI",
    licenses=("Apache-2.0", "My own"), location="site/tf/METADATA", layer=LAYER,
    requires=(NUMPY.purl, "pkg:pypi/absent@1"),
)  # fmt: skip
TWINS = [
    Component(
        kind="python", name="six", version="1.0", purl="pkg:pypi/six@1.0", ecosystem="PyPI",
        licenses=("MIT AND Zlib", "GPL-2.0-only WITH Classpath-exception-2.0"), location=f"{place}/six", layer=LAYER,
        requires=("pkg:pypi/six@1.0",),
    )
    for place in ("a", "b")
]  # fmt: skip
ALL = [TENSORFLOW, LIBC, NUMPY, *TWINS]


def valid_cyclonedx(document: bytes) -> dict[str, Any]:
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(document.decode()) is None
    parsed: dict[str, Any] = json.loads(document)
    return parsed


def valid_spdx(document: bytes, folder: Path) -> dict[str, Any]:
    from spdx_tools.spdx.parser.parse_anything import parse_file
    from spdx_tools.spdx.validation.document_validator import validate_full_spdx_document

    path = folder / "document.spdx.json"
    path.write_bytes(document)
    assert [message.validation_message for message in validate_full_spdx_document(parse_file(str(path)))] == []
    parsed: dict[str, Any] = json.loads(document)
    return parsed


def test_cyclonedx_is_valid_and_says_what_is_known() -> None:
    """The reference library accepts the document; licences, origin and dependencies are where readers look."""
    document = valid_cyclonedx(cyclonedx.encode(SUBJECT, ALL))
    assert document["metadata"]["timestamp"] == "2026-01-02T03:04:05Z"
    image = document["metadata"]["component"]
    assert image["purl"] == (
        f"pkg:oci/mnist@sha256:{'ab' * 32}?arch=amd64&repository_url=registry.example.com:5000/vision/mnist&tag=1.0"
    )
    components = {part["bom-ref"]: part for part in document["components"]}
    assert components["os:debian:12"]["type"] == "operating-system"
    assert components[NUMPY.purl]["licenses"] == [{"license": {"id": "BSD-3-Clause"}}]
    assert components[TENSORFLOW.purl]["licenses"] == [
        {"license": {"id": "Apache-2.0"}},
        {"license": {"name": "My own"}},
    ]
    assert components[LIBC.purl]["licenses"] == [
        {"license": {"name": "GPL-2.0-or-later OR MIT"}},
        {"license": {"name": "common-licenses/LGPL-2.1"}},
    ]
    assert components["pkg:pypi/six@1.0#a/six"]["licenses"] == [
        {"expression": "(MIT AND Zlib) AND (GPL-2.0-only WITH Classpath-exception-2.0)"}
    ]
    assert components[LIBC.purl]["purl"] == f"{LIBC.purl}&upstream=glibc"
    assert components[LIBC.purl]["hashes"] == [{"alg": "SHA-256", "content": "ef" * 32}]
    assert image["hashes"] == [{"alg": "SHA-256", "content": "ab" * 32}]
    assert {entry["name"]: entry["value"] for entry in image["properties"]} == {
        "tidewaiter:os": "linux",
        "tidewaiter:architecture": "amd64",
        "tidewaiter:layer:0:diff_id": LAYER,
        "tidewaiter:layer:0:digest": BLOB,
    }
    properties = {entry["name"]: entry["value"] for entry in components[LIBC.purl]["properties"]}
    assert properties == {
        "tidewaiter:ecosystem": "Debian:12",
        "tidewaiter:location": LIBC.location,
        "tidewaiter:layer:diff_id": LAYER,
        "tidewaiter:source:name": "glibc",
        "aquasecurity:trivy:FilePath": LIBC.location,
        "aquasecurity:trivy:LayerDiffID": LAYER,
        "aquasecurity:trivy:SrcName": "glibc",
        "aquasecurity:trivy:SrcVersion": LIBC.version,
    }
    assert document["compositions"] == [{"aggregate": "unknown", "assemblies": [image["bom-ref"]]}]
    edges = {edge["ref"]: edge.get("dependsOn") for edge in document["dependencies"]}
    assert edges[TENSORFLOW.purl] == [NUMPY.purl]
    assert edges["pkg:pypi/six@1.0#a/six"] == ["pkg:pypi/six@1.0#b/six"]
    assert set(edges[image["bom-ref"]]) == set(components)


def test_spdx_is_valid_and_says_what_is_known(tmp_path: Path) -> None:
    """spdx-tools accepts the document; texts that are no expressions come with it under a LicenseRef."""
    document = valid_spdx(spdx.encode(SUBJECT, ALL), tmp_path)
    packages = {package["name"]: package for package in document["packages"]}
    assert packages[SUBJECT.name]["checksums"] == [{"algorithm": "SHA256", "checksumValue": "ab" * 32}]
    assert packages["debian"]["primaryPackagePurpose"] == "OPERATING-SYSTEM"
    extracted = {entry["licenseId"]: entry["extractedText"] for entry in document["hasExtractedLicensingInfos"]}
    assert sorted(extracted.values()) == ["My own", "common-licenses/LGPL-2.1"]
    assert packages["libc6"]["originator"] == "Organization: GNU Libc Maintainers (x@debian.org)"
    declared = packages["libc6"]["licenseDeclared"]
    assert declared.startswith("(GPL-2.0-or-later OR MIT) AND LicenseRef-")
    assert extracted[declared.rpartition(" ")[2]] == "common-licenses/LGPL-2.1"
    assert packages["libc6"]["sourceInfo"] == f"built package from: glibc {LIBC.version}"
    assert packages["libc6"]["checksums"] == [{"algorithm": "SHA256", "checksumValue": "ef" * 32}]
    assert packages["libc6"]["externalRefs"][0]["referenceLocator"] == f"{LIBC.purl}&upstream=glibc"
    comments = {name: [note["comment"] for note in found.get("annotations", ())] for name, found in packages.items()}
    assert comments["libc6"] == [f"FilePath: {LIBC.location}", f"LayerDiffID: {LAYER}"]
    assert comments[SUBJECT.name] == [f"DiffID: {LAYER}", f"LayerDigest: {BLOB}"]
    edges = {
        (edge["spdxElementId"].split("-")[1], edge["relationshipType"], edge["relatedSpdxElement"].split("-")[1:3][-1])
        for edge in document["relationships"]
        if edge["relationshipType"] == "DEPENDS_ON"
    }
    assert ("python", "DEPENDS_ON", "numpy") in edges
    contained = [edge for edge in document["relationships"] if edge["relationshipType"] == "CONTAINS"]
    assert len(contained) == len(ALL) + 1


def test_documents_do_not_depend_on_order_or_time() -> None:
    """The same image gives the same bytes, another image another serial number and name space."""
    for encode, key in ((cyclonedx.encode, "serialNumber"), (spdx.encode, "documentNamespace")):
        assert encode(SUBJECT, ALL) == encode(SUBJECT, ALL[::-1])
        other = Subject(name=SUBJECT.name, digest="sha256:" + "00" * 32)
        assert json.loads(encode(SUBJECT, ALL))[key] != json.loads(encode(other, ALL))[key]


def test_an_image_without_anything_is_a_valid_document(tmp_path: Path) -> None:
    """No components, no distribution, no date: still valid."""
    subject = Subject(name="scratch", digest=DIGEST)
    assert valid_cyclonedx(cyclonedx.encode(subject, []))["components"] == []
    document = valid_spdx(spdx.encode(subject, []), tmp_path)
    assert document["creationInfo"]["created"] == EPOCH
    assert "hasExtractedLicensingInfos" not in document


def test_what_could_not_be_read_stands_in_the_documents(tmp_path: Path) -> None:
    """A document from which packages may be missing does not look complete."""
    subject = msgspec.structs.replace(SUBJECT, unread=("var/lib/dpkg/status: it is cut off", "b: broken"))
    document = valid_cyclonedx(cyclonedx.encode(subject, ALL))
    assert document["compositions"][0]["aggregate"] == "incomplete"
    notes = [one["value"] for one in document["metadata"]["component"]["properties"] if one["name"].endswith("unread")]
    assert notes == list(subject.unread)
    said = valid_spdx(spdx.encode(subject, ALL), tmp_path)["comment"]
    assert all(note in said for note in subject.unread)


_text = st.text(max_size=30).map(lambda text: " ".join("".join(c for c in text if c.isprintable()).split()))


@given(st.lists(st.tuples(_text, _text, st.lists(_text.filter(bool), max_size=3)), max_size=4))
@settings(max_examples=15, deadline=None)
def test_odd_texts_give_valid_documents(
    tmp_path_factory: pytest.TempPathFactory, found: list[tuple[str, str, list[str]]]
) -> None:
    """Whatever printable text a package calls its name, supplier or licence, both documents validate."""
    components = [
        Component(
            kind="python", name=name or "x", version="1", purl=f"pkg:pypi/p{number}@1", ecosystem="PyPI",
            supplier=supplier, description=supplier, licenses=tuple(licenses), location="l",
        )
        for number, (name, supplier, licenses) in enumerate(found)
    ]  # fmt: skip
    valid_cyclonedx(cyclonedx.encode(SUBJECT, components))
    valid_spdx(spdx.encode(SUBJECT, components), tmp_path_factory.mktemp("spdx"))


def test_every_identifier_that_counts_is_one_for_cyclonedx() -> None:
    """Identifiers that we write as `license.id` are in CycloneDX's list, all of them."""
    from license_expression import get_spdx_licensing

    names = [
        key for key, symbol in get_spdx_licensing().known_symbols.items()
        if not key.startswith("LicenseRef") and not symbol.is_exception
    ]  # fmt: skip
    assert len(names) > 500
    components = [
        Component(kind="python", name=name, version="1", purl=f"pkg:pypi/{name}@1", ecosystem="PyPI", licenses=(name,))
        for name in names
    ]
    document = valid_cyclonedx(cyclonedx.encode(SUBJECT, components))
    assert (
        sum(
            "id" in part["licenses"][0]["license"]
            for part in document["components"][1:]
            if "license" in part["licenses"][0]
        )
        > 500
    )


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("mit", "MIT"),
        ("MIT or Apache-2.0", "MIT OR Apache-2.0"),
        ("GPL-2.0-or-later WITH Classpath-exception-2.0", "GPL-2.0-or-later WITH Classpath-exception-2.0"),
        ("BSD", None),
        ("MIT License", None),
        ("", None),
        ("MIT OR", None),
        ("LicenseRef-x", None),
        ("LicenseRef-scancode-3com-microcode", None),
        ("MIT WITH MIT", None),
        ("Classpath-exception-2.0", None),
        ("(" * 50 + "MIT" + ")" * 50, None),
        ("MIT OR " * 60 + "MIT", None),
        ("Copyright (c) 2015 Project", None),
        ("MIT/X11; see file", None),
    ],
)
def test_what_is_an_expression(text: str, canonical: str | None) -> None:
    """Only identifiers of the SPDX list, joined as the grammar says, in bounded length."""
    assert expression(text) == canonical


def test_expressions_are_joined_with_parentheses() -> None:
    """Alternatives keep their meaning when several licences apply."""
    assert conjunction(["MIT OR Zlib", "ISC"]) == "(MIT OR Zlib) AND ISC"
    assert conjunction(["MIT OR Zlib"]) == "MIT OR Zlib"
    assert (is_single("MIT"), is_single("MIT OR ISC")) == (True, False)


@pytest.mark.parametrize(
    ("created", "written"),
    [
        ("2026-01-02T03:04:05+02:00", "2026-01-02T01:04:05Z"),
        ("2026-01-02T03:04:05.9Z", "2026-01-02T03:04:05Z"),
        ("", EPOCH),
        ("yesterday", EPOCH),
        ("2026-13-02T03:04:05Z", EPOCH),
        ("2026-01-02T03:04:05", EPOCH),
        ("0001-01-01T00:00:00+14:00", EPOCH),
        ("0001-01-01T00:00:00Z", EPOCH),
    ],
)
def test_the_time_is_the_images(created: str, written: str) -> None:
    """The image's creation time in UTC and whole seconds; nonsense counts as 1970."""
    assert timestamp(Subject(name="x", digest=DIGEST, created=created)) == written


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("vision/mnist:abc", f"pkg:oci/mnist@sha256:{'ab' * 32}?tag=abc"),
        ("/tmp/layout", f"pkg:oci/layout@sha256:{'ab' * 32}"),
        (f"r.io/a/b@{DIGEST}", f"pkg:oci/b@sha256:{'ab' * 32}?repository_url=r.io/a/b"),
        ("localhost:5000/x", f"pkg:oci/x@sha256:{'ab' * 32}?repository_url=localhost:5000/x"),
    ],
)
def test_the_images_purl_parses(name: str, found: str) -> None:
    """The purl is canonical: packageurl-python reads it and writes the same."""
    from packageurl import PackageURL

    assert purl(Subject(name=name, digest=DIGEST)) == found
    assert PackageURL.from_string(found).to_string() == found


def test_every_kind_of_component_is_valid_in_both_documents(tmp_path: Path) -> None:
    """Packages of each ecosystem, one without a version among them, and a model pass both reference libraries."""
    kinds = [
        ("apk", "musl", "1.2-r0", "pkg:apk/alpine/musl@1.2-r0?arch=x86_64", "Alpine:v3.20"),
        ("rpm", "bash", "1:5.1-2", "pkg:rpm/rocky/bash@5.1-2?arch=x86_64&distro=rocky-9&epoch=1", "Rocky Linux:9"),
        ("npm", "@babel/core", "7.24.0", "pkg:npm/%40babel/core@7.24.0", "npm"),
        ("golang", "github.com/a/b", "1.0.0", "pkg:golang/github.com/a/b@v1.0.0", "Go"),
        ("cargo", "serde", "1.0.0", "pkg:cargo/serde@1.0.0", "crates.io"),
        ("maven", "org.slf4j:slf4j-api", "2.0.9", "pkg:maven/org.slf4j/slf4j-api@2.0.9", "Maven"),
        ("conda", "numpy", "1.26.4", "pkg:conda/numpy@1.26.4", "conda"),
        ("model", "mnist", "", "pkg:generic/mnist", ""),
    ]
    parts = [
        Component(kind=kind, name=name, version=version, purl=url, ecosystem=where, location=f"x/{name}")  # type: ignore[arg-type]  # from a table
        for kind, name, version, url, where in kinds
    ]
    editable = Component(
        kind="python", name="demo", version="1", purl="pkg:pypi/demo@1", ecosystem="PyPI", install="editable"
    )
    document = valid_cyclonedx(cyclonedx.encode(SUBJECT, [*parts, editable]))
    by_purl = {part["purl"]: part for part in document["components"] if "purl" in part}
    babel, slf4j = by_purl["pkg:npm/%40babel/core@7.24.0"], by_purl["pkg:maven/org.slf4j/slf4j-api@2.0.9"]
    assert (babel["group"], babel["name"]) == ("@babel", "core")
    assert (slf4j["group"], slf4j["name"]) == ("org.slf4j", "slf4j-api")
    assert by_purl["pkg:generic/mnist"]["type"] == "machine-learning-model"
    assert {"name": "tidewaiter:install", "value": "editable"} in by_purl["pkg:pypi/demo@1"]["properties"]
    described = valid_spdx(spdx.encode(SUBJECT, [*parts, editable]), tmp_path)
    assert {package["name"] for package in described["packages"]} >= {name for _, name, _, _, _ in kinds}
