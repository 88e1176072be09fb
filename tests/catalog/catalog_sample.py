"""Small records for the catalog's tests."""

import datetime as dt
import hashlib
from pathlib import Path
from typing import Any

import postgres
from tidewaiter.advisories.finding import Finding, NotChecked, ScanResult
from tidewaiter.catalog.records import BuildRecord, BuiltLayer, ScanRecord
from tidewaiter.core import settings as all_settings
from tidewaiter.core.settings import Settings
from tidewaiter.inspection.facts import ImageFacts, LayerSummary
from tidewaiter.oci.digest import Digest
from tidewaiter.oci.manifest import MANIFEST
from tidewaiter.sbom.component import Component

NOW = dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=dt.UTC)


def home(path: Path) -> Settings:
    """Settings of an empty home; its catalog is where the test is to have it."""
    return all_settings.load({"TIDEWAITER_HOME": str(path), **postgres.variables(path)})


def digest(text: str) -> Digest:
    """A digest by name."""
    return Digest("sha256:" + hashlib.sha256(text.encode()).hexdigest())


def component(name: str, version: str = "1.0", layer: str = "base", **more: Any) -> Component:
    """A Python package in a layer."""
    values: dict[str, Any] = {
        "kind": "python",
        "name": name,
        "version": version,
        "purl": f"pkg:pypi/{name}@{version}",
        "ecosystem": "PyPI",
        "licenses": ("MIT",),
        "location": f"site/{name}",
        "layer": digest(f"diff {layer}"),
    }
    return Component(**{**values, **more})


def facts(image: str, *components: Component, layers: tuple[str, ...] = ("base", "app")) -> ImageFacts:
    """Facts of an image named by a word."""
    return ImageFacts(
        reference=image,
        digest=digest(image),
        os="linux",
        architecture="amd64",
        user="65532",
        runs_as_root=False,
        entrypoint=("python",),
        cmd=(),
        env={},
        labels={},
        annotations={},
        exposed_ports=(),
        working_dir="",
        created="2026-01-01T00:00:00Z",
        operating_system=None,
        components=components,
        programs=(),
        layers=tuple(LayerSummary(digest(f"blob {one}"), digest(f"diff {one}"), 100, 300, 3) for one in layers),
        size=100 * len(layers),
        unpacked_size=300 * len(layers),
    )


def build(image: str, repository: str = "team/model", **more: Any) -> BuildRecord:
    """A build of an image named by a word."""
    values: dict[str, Any] = {
        "repository": repository,
        "digest": digest(image),
        "media_type": MANIFEST,
        "layers": (
            BuiltLayer(
                digest=digest("blob base"), diff_id=digest("diff base"), size=100, kind="base", title="the base"
            ),
            BuiltLayer(digest=digest("blob app"), diff_id=digest("diff app"), size=100, kind="app", contents=("a.py",)),
        ),
        "environment": "staging",
        "purpose": "training",
        "source": "https://git.example.org/model",
        "commit": "ab" * 20,
        "dirty": False,
        "builder": "local",
        "started": NOW,
        "finished": NOW + dt.timedelta(seconds=9),
        "seconds": 9.0,
        "base_name": "debian12",
        "base_lock": digest("base.lock"),
    }
    return BuildRecord(**{**values, **more})


def finding(purl: str, advisory: str, *aliases: str, **more: Any) -> Finding:
    """A finding of severity high."""
    name, _, version = purl.removeprefix("pkg:pypi/").partition("@")
    values: dict[str, Any] = {
        "advisory": advisory,
        "aliases": aliases,
        "component_purl": purl,
        "name": name,
        "version": version,
        "kind": "python",
        "ecosystem": "PyPI",
        "severity": "high",
        "score": 7.5,
        "vector": "",
        "fixed_in": ("2.0",),
        "found_as": name,
        "published": "2025-01-01T00:00:00Z",
        "modified": "",
    }
    return Finding(**{**values, **more})


def scan(
    image: str,
    *findings: Finding,
    at: dt.datetime = NOW,
    revision: str = "r1",
    not_checked: tuple[NotChecked, ...] = (),
) -> ScanRecord:
    """A scan of an image named by a word."""
    result = ScanResult(
        findings=findings,
        not_checked=not_checked,
        coverage=(),
        revision=digest(revision),
        oldest_as_of="2025-12-01T00:00:00Z",
    )
    return ScanRecord(digest=digest(image), result=result, scanned_at=at)


def verdict(image: str, answer: str, at: dt.datetime, environment: str = "staging") -> dict[str, Any]:
    """A verdict valid for an hour."""
    return {
        "id": digest(f"{image} {answer} {environment}"),
        "artifact": digest(image),
        "environment": environment,
        "verdict": answer,
        "policy_revision": digest("policy"),
        "advisories_revision": digest("r1"),
        "evidence": {},
        "violations": [{"rule": "r", "severity": "high", "message": "m", "evidence": ["e"], "remedy": "x"}],
        "waived": [],
        "warnings": [],
        "not_checked": [],
        "decided_at": at.isoformat(),
        "valid_until": (at + dt.timedelta(hours=1)).isoformat(),
    }
