"""A catalog with the images that a small company would have, and one whose names are hostile."""

import datetime as dt
import hashlib
from typing import Any
from urllib.parse import quote

import msgspec

from tidewaiter.advisories.finding import Finding, NotChecked, ScanResult
from tidewaiter.advisories.severity import Level
from tidewaiter.catalog.catalog import Catalog
from tidewaiter.catalog.records import (
    AttachmentRecord,
    AttestationRecord,
    BuildRecord,
    BuiltLayer,
    LayerKind,
    Material,
    ScanRecord,
    SignatureRecord,
)
from tidewaiter.core import clock
from tidewaiter.core.settings import Settings
from tidewaiter.inspection.facts import ImageFacts, LayerSummary, OperatingSystem, Program
from tidewaiter.oci.digest import Digest, of
from tidewaiter.oci.layout import Layout
from tidewaiter.oci.manifest import MANIFEST
from tidewaiter.sbom.component import Component
from tidewaiter.signing import predicates

COMMIT = "6f1c0e5ad1b84b6f8c1e2f0a9d3b7c5e4f6a8b90"
KEY = "sha256:4c1d9a7e0b35f2688d9c7a41e6f0b2c3d4e5f60718293a4b5c6d7e8f90a1b2c3"
RIGHT_TO_LEFT = "\u202egnp.exe\u202c"
SCRIPT = "<script>document.title='owned'</script>"
LONG = "long-" * 800

WHEELS = (
    ("tensorflow-cpu", "2.15.1", "Apache-2.0", 213_800_000, 756_000_000),
    ("numpy", "1.26.4", "BSD-3-Clause", 15_400_000, 61_000_000),
    ("h5py", "3.10.0", "BSD-3-Clause", 4_100_000, 12_000_000),
    ("grpcio", "1.60.0", "Apache-2.0", 4_800_000, 15_000_000),
    ("keras", "2.15.0", "Apache-2.0", 1_600_000, 8_400_000),
)
SMALL_WHEELS = (
    ("absl-py", "2.1.0", "Apache-2.0"),
    ("flatbuffers", "23.5.26", "Apache-2.0"),
    ("protobuf", "4.25.1", "BSD-3-Clause"),
    ("requests", "2.31.0", "Apache-2.0"),
    ("urllib3", "2.1.0", "MIT"),
    ("werkzeug", "3.0.1", "BSD-3-Clause"),
    ("wrapt", "1.14.1", "BSD-2-Clause"),
)
DEBS = (
    ("libc6", "2.36-9+deb12u9", "glibc", "GPL-2.0-only AND LGPL-2.1-only"),
    ("libssl3", "3.0.15-1~deb12u1", "openssl", "Apache-2.0"),
    ("libpython3.11-minimal", "3.11.2-6+deb12u4", "python3.11", "Python-2.0"),
    ("python3.11-minimal", "3.11.2-6+deb12u4", "python3.11", "Python-2.0"),
    ("zlib1g", "1:1.2.13.dfsg-1", "zlib", "Zlib"),
    ("libstdc++6", "12.2.0-14", "gcc-12", "GPL-3.0-with-GCC-exception"),
)


def digest(text: str) -> Digest:
    """A digest that looks like any other."""
    return Digest("sha256:" + hashlib.sha256(text.encode()).hexdigest())


def _layer(title: str, kind: LayerKind, size: int, unpacked: int, contents: tuple[str, ...]) -> BuiltLayer:
    return BuiltLayer(
        digest=digest(f"blob {title}"),
        diff_id=digest(f"diff {title}"),
        size=size,
        unpacked_size=unpacked,
        kind=kind,
        title=title,
        contents=contents,
    )


def layers(app: str) -> tuple[BuiltLayer, ...]:
    """Layers of a TensorFlow image as the product builds them."""
    return (
        _layer("base debian12-python3.11", "base", 14_100_000, 56_300_000, tuple(f"{d[0]} {d[1]}" for d in DEBS)),
        *(_layer(f"wheel {w[0]}", "python", w[3], w[4], (f"{w[0]} {w[1]}",)) for w in WHEELS),
        _layer("small wheels", "python", 6_900_000, 21_000_000, tuple(f"{w[0]} {w[1]}" for w in SMALL_WHEELS)),
        _layer(f"app {app}", "app", 3_100, 12_400, ("train.py",)),
    )


def components(stack: tuple[BuiltLayer, ...]) -> tuple[Component, ...]:
    """Packages of that image."""
    by_title = {layer.title: layer.diff_id for layer in stack}
    site = "usr/local/lib/python3.11/dist-packages"
    debs = [
        Component(
            kind="deb",
            name=name,
            version=version,
            purl=f"pkg:deb/debian/{name.replace('+', '%2B')}@{version.replace('+', '%2B')}?arch=amd64&distro=debian-12",
            ecosystem="Debian:12",
            source_name=source,
            licenses=(license_text,),
            location=f"var/lib/dpkg/status.d/{name}",
            layer=by_title["base debian12-python3.11"],
        )
        for name, version, source, license_text in DEBS
    ]
    wheels = [(w[0], w[1], w[2], f"wheel {w[0]}") for w in WHEELS] + [(*w, "small wheels") for w in SMALL_WHEELS]
    pythons = [
        Component(
            kind="python",
            name=name,
            version=version,
            purl=f"pkg:pypi/{name}@{version}",
            ecosystem="PyPI",
            licenses=(license_text,),
            location=f"{site}/{name.replace('-', '_')}-{version}.dist-info/METADATA",
            layer=by_title[title],
        )
        for name, version, license_text, title in wheels
    ]
    return (*debs, *pythons)


def facts(name: str, image: Digest, stack: tuple[BuiltLayer, ...], packages: tuple[Component, ...]) -> ImageFacts:
    """What inspection would find."""
    return ImageFacts(
        reference=name,
        digest=image,
        os="linux",
        architecture="amd64",
        user="65532:65532",
        runs_as_root=False,
        entrypoint=("python", "/app/train.py"),
        cmd=(),
        env={"PATH": "/usr/local/bin:/usr/bin", "PYTHONUNBUFFERED": "1"},
        labels={},
        annotations={"org.opencontainers.image.revision": COMMIT},
        exposed_ports=(),
        working_dir="/app",
        created="2026-10-30T08:00:00Z",
        operating_system=OperatingSystem("debian", "12", "Debian GNU/Linux 12 (bookworm)"),
        components=packages,
        programs=(),
        layers=tuple(
            LayerSummary(layer.digest, layer.diff_id, layer.size, layer.unpacked_size, 100, layer.title)
            for layer in stack
        ),
        size=sum(layer.size for layer in stack),
        unpacked_size=sum(layer.unpacked_size for layer in stack),
    )


def _finding(
    purl: str, advisory: str, severity: Level, fixed_in: tuple[str, ...], aliases: tuple[str, ...], **more: Any
) -> Finding:
    name, _, version = purl.removeprefix("pkg:pypi/").partition("@")
    finding = Finding(
        advisory=advisory,
        aliases=aliases,
        component_purl=purl,
        name=name,
        version=version,
        kind="python",
        ecosystem="PyPI",
        severity=severity,
        score=None,
        vector="",
        fixed_in=fixed_in,
        found_as=name,
        published="2024-05-06T14:21:27Z",
        modified="2024-05-30T00:00:00Z",
    )
    return msgspec.structs.replace(finding, **more)


FINDINGS = (
    _finding("pkg:pypi/requests@2.31.0", "GHSA-9wx4-h78v-vm56", "medium", ("2.32.0",), ("CVE-2024-35195",), score=5.6),
    _finding("pkg:pypi/werkzeug@3.0.1", "GHSA-2g68-c3qc-8985", "high", ("3.0.3",), ("CVE-2024-34069",), score=7.5),
    _finding(
        "pkg:pypi/urllib3@2.1.0",
        "GHSA-34jh-p97f-mpxf",
        "medium",
        ("1.26.19", "2.2.2"),
        ("CVE-2024-37891", "PYSEC-2024-1"),
    ),
    _finding(
        "pkg:pypi/tensorflow-cpu@2.15.1",
        "GHSA-xxxx-2024-sample",
        "unknown",
        (),
        (),
        found_as="tensorflow",
    ),
)


def scan(
    image: Digest, at: dt.datetime, findings: tuple[Finding, ...], not_checked: tuple[NotChecked, ...] = ()
) -> ScanRecord:
    """A scan with the advisories of October 2024."""
    result = ScanResult(
        findings=findings,
        not_checked=not_checked,
        coverage=(),
        revision=digest("advisories"),
        oldest_as_of="2024-10-10T00:00:00Z",
    )
    return ScanRecord(digest=image, result=result, scanned_at=at)


def verdict(image: Digest, environment: str, answer: str, when: dt.datetime, **more: Any) -> dict[str, Any]:
    """A verdict document in the architecture's form."""
    document = {
        "id": digest(f"verdict {image} {environment} {answer} {more}"),
        "artifact": image,
        "environment": environment,
        "verdict": answer,
        "policy_revision": digest("policy"),
        "advisories_revision": digest("advisories"),
        "evidence": {"facts": digest("facts"), "scan": digest("scan")},
        "violations": [],
        "waived": [],
        "warnings": [],
        "not_checked": [],
        "decided_at": clock.rfc3339(when),
        "valid_until": clock.rfc3339(when + dt.timedelta(hours=24)),
    }
    return {**document, **more}


OLD_DATA = {
    "rule": "advisories.fresh",
    "severity": "medium",
    "message": "The advisory data is too old.",
    "evidence": ["as of 2024-10-10, 773 days ago"],
    "remedy": "Run `tidewaiter advisories update`.",
}
FIXABLE = {
    "rule": "vulnerabilities.fixable",
    "severity": "high",
    "message": "Packages have HIGH or CRITICAL vulnerabilities that a newer version corrects.",
    "evidence": ["werkzeug 3.0.1: GHSA-2g68-c3qc-8985 (high), fixed in 3.0.3"],
    "remedy": "Raise werkzeug to 3.0.3 in requirements.in, then run `tidewaiter lock` and build again.",
}
COVERAGE = {
    "rule": "vulnerabilities.coverage",
    "severity": "undetermined",
    "message": "Packages without advisory data: could not be evaluated.",
    "evidence": [f"{name} {version}: no advisory data for Debian:12" for name, version, _, _ in DEBS],
    "remedy": "Import the Debian feed with `tidewaiter advisories import FILE`.",
}


def _build(name: str, image: Digest, stack: tuple[BuiltLayer, ...], at: dt.datetime, **more: Any) -> BuildRecord:
    record = BuildRecord(
        repository=name,
        digest=image,
        media_type=MANIFEST,
        layers=stack,
        environment="staging",
        purpose="training",
        source="https://git.example.org/vision/mnist",
        commit=COMMIT,
        dirty=False,
        branch="main",
        builder="local",
        started=at - dt.timedelta(seconds=48),
        finished=at,
        seconds=47.6,
        created=at - dt.timedelta(days=1),
        base_name="debian12-python3.11",
        base_lock=digest("base.lock"),
        python_lock=digest("pylock.toml"),
        materials=(
            Material("base.lock", digest("base.lock")),
            Material("pylock.toml", digest("pylock.toml")),
            Material("train.py", digest("train.py")),
        ),
        reused_layers=6,
        built_layers=1,
    )
    return msgspec.structs.replace(record, **more)


def fill_mnist(catalog: Catalog, settings: Settings, now: dt.datetime) -> Digest:
    """The demo's image: allowed in staging, denied in production, signed, with SBOMs."""
    image, name = digest("mnist"), "vision/mnist"
    stack = layers("mnist")
    packages = components(stack)
    catalog.record_build(_build(name, image, stack, now - dt.timedelta(hours=2)))
    catalog.record_facts(facts(f"{name}:latest", image, stack, packages), repository=name)
    store = Layout(settings.home.store)
    for kind, media_type in (("cyclonedx", "application/vnd.cyclonedx+json"), ("spdx", "application/spdx+json")):
        document = msgspec.json.encode({"kind": kind, "subject": image})
        store.put(document)
        catalog.record_attachment(
            AttachmentRecord(
                digest=image,
                kind="cyclonedx" if kind == "cyclonedx" else "spdx",
                media_type=media_type,
                blob_digest=of(document),
                size=len(document),
                created=now,
            )
        )
    not_checked = tuple(
        NotChecked(
            purl=package.purl,
            name=package.name,
            version=package.version,
            ecosystem="Debian:12",
            reason="no advisory data for Debian:12",
        )
        for package in packages
        if package.kind == "deb"
    )
    catalog.record_scan(scan(image, now - dt.timedelta(hours=2), FINDINGS, not_checked))
    gaps = [
        {
            "ecosystem": "Debian:12",
            "reason": "no advisory data for Debian:12",
            "count": len(not_checked),
            "examples": [gap.purl for gap in not_checked[:3]],
        }
    ]
    catalog.record_verdict(
        verdict(image, "staging", "allow", now - dt.timedelta(hours=2), warnings=[OLD_DATA], not_checked=gaps)
    )
    catalog.record_verdict(
        verdict(
            image, "production", "deny", now - dt.timedelta(hours=1), violations=[FIXABLE, COVERAGE], not_checked=gaps
        )
    )
    catalog.record_signature(
        SignatureRecord(
            digest=image,
            key_fingerprint=KEY,
            builder="local",
            manifest_digest=digest("signature"),
            created=now - dt.timedelta(hours=2),
            format="bundle",
        )
    )
    for predicate_type, key in ((predicates.SPDX, KEY), (predicates.SIGNATURE, KEY), ("https://x.test/<b>", "")):
        catalog.record_attestations(
            [
                AttestationRecord(
                    digest=image,
                    format="bundle",
                    predicate_type=predicate_type,
                    manifest_digest=digest(f"manifest {predicate_type}"),
                    blob_digest=digest(f"bundle {predicate_type}"),
                    size=2000,
                    key_fingerprint=key,
                    builder="local" if key else "",
                    created=now - dt.timedelta(hours=2),
                )
            ]
        )
    catalog.set_tag(name, COMMIT[:12], image, cleared_for="staging")
    return image


def fill_others(catalog: Catalog, now: dt.datetime) -> None:
    """A denied image, one that was built and no more, and a serving image in research."""
    names = (
        ("nlp/bert-serving", "production", "serving", "deny"),
        ("research/diffusion-notebook", "research", "notebook", None),
        ("speech/whisper-finetune", "research", "training", "allow"),
    )
    for number, (name, environment, purpose, answer) in enumerate(names, 1):
        image, stack = digest(name), layers(name)
        at = now - dt.timedelta(days=3 * number)
        commit = digest(f"commit {name}").removeprefix("sha256:")[:40]
        catalog.record_build(
            _build(
                name,
                image,
                stack,
                at,
                commit=commit,
                environment=environment,
                purpose=purpose,
                dirty=answer is None,
                source=f"https://git.example.org/{name}",
            )
        )
        if answer is not None:
            catalog.record_facts(facts(name, image, stack, components(stack)), repository=name)
            problems = [FIXABLE] if answer == "deny" else []
            catalog.record_verdict(verdict(image, environment, answer, at, violations=problems))
        catalog.set_tag(name, commit[:12] + ("-dirty" if answer is None else ""), image)


def fill_hostile(catalog: Catalog, now: dt.datetime) -> Digest:
    """An image whose every text is out to harm the one who looks at it."""
    image = digest("hostile")
    nasty = (SCRIPT, RIGHT_TO_LEFT, LONG, "\udcff\0'\"&</table>")
    stack = (_layer(SCRIPT, "python", 1000, 4000, nasty),)
    packages = tuple(
        Component(
            kind="python",
            name=text,
            version=text,
            purl=f"pkg:pypi/hostile{number}@{quote(text, errors='replace')}",
            ecosystem="PyPI",
            licenses=(text,),
            location=text,
            layer=stack[0].diff_id,
        )
        for number, text in enumerate(nasty)
    )
    found = facts("hostile", image, stack, packages)
    found = msgspec.structs.replace(
        found,
        user=SCRIPT,
        runs_as_root=True,
        entrypoint=nasty,
        labels={SCRIPT: RIGHT_TO_LEFT},
        working_dir=LONG,
        programs=(Program(SCRIPT, "shell", stack[0].diff_id),),
    )
    catalog.record_build(
        _build("zz/hostile", image, stack, now - dt.timedelta(days=30), source="javascript:alert(1)", branch=SCRIPT)
    )
    catalog.record_facts(found, repository="zz/hostile")
    finding = _finding(
        packages[0].purl, SCRIPT, "critical", (SCRIPT,), (LONG,), found_as=RIGHT_TO_LEFT, published=SCRIPT
    )
    catalog.record_scan(scan(image, now - dt.timedelta(days=9), (finding,)))
    rule = {"rule": SCRIPT, "message": RIGHT_TO_LEFT, "evidence": {SCRIPT: LONG}, "remedy": SCRIPT}
    catalog.record_verdict(verdict(image, "staging", "deny", now - dt.timedelta(days=9), violations=[rule]))
    catalog.set_tag("zz/hostile", "latest", image)
    return image


def fill(settings: Settings) -> Digest:
    """Fill the home's catalog; the digest of the demo's image."""
    now = clock.now()
    with Catalog.open(settings) as catalog:
        fill_hostile(catalog, now)
        fill_others(catalog, now)
        return fill_mnist(catalog, settings, now)
