"""Packs and documents that policy tests start from."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from tidewaiter.policy import pack as packs
from tidewaiter.policy.input import PolicyInput
from tidewaiter.policy.pack import Pack

GOOD: dict[str, Any] = {
    "now": "2026-01-31T12:00:00Z",
    "environment": "production",
    "image": {
        "reference": "vision/mnist:0123456789ab",
        "name": "vision/mnist",
        "tag": "0123456789ab",
        "pinned": False,
        "digest": "sha256:" + "a" * 64,
        "user": "65532",
        "runs_as_root": False,
        "entrypoint": ["python", "/app/train.py"],
        "cmd": [],
        "exposed_ports": ["8501/tcp"],
        "labels": {"team": "vision"},
        "annotations": {"org.opencontainers.image.revision": "0123456789ab"},
        "created": "2026-01-30T12:00:00Z",
        "dirty": False,
        "builder": "ci.example/builder",
    },
    "base": {
        "name": "debian12-python3.11",
        "digest": "sha256:" + "c" * 64,
        "approved": True,
        "expired": False,
        "retired": False,
        "outdated": False,
        "owner": "platform team",
        "expires_at": "2026-06-30T00:00:00Z",
        "reason": "",
    },
    "programs": [],
    "exposed": [],
    "attached": {
        name: {"state": "present", "created": "2026-01-30T12:00:00Z", "age_days": 1}
        for name in ("sbom", "provenance", "signature")
    },
    "framework": {
        "tensorflow": "2.18.0",
        "python": "3.11.2",
        "cuda": "12.5.82",
        "cudnn": "9.3.0.75",
        "serving": "",
        "least_driver": "525.60.13",
        "tested": "yes",
        "tested_reason": "TensorFlow 2.18 with Python 3.9-3.12, CUDA 12.5 and cuDNN 9.3 is a tested configuration",
        "nearest_tested": "TensorFlow 2.18 with Python 3.9-3.12, CUDA 12.5 and cuDNN 9.3",
        "conflicts": [],
    },
    "packages": {
        "python": {"numpy": ["2.1.0"]},
        "deb": {"libc6": ["2.36-9+deb12u9"]},
        "licenses": {"BSD-3-Clause": ["numpy"], "LGPL-2.1-or-later": ["libc6"]},
    },
    "findings": [],
    "not_checked": [],
    "advisories": {
        "revision": "sha256:" + "b" * 64,
        "feeds": [{"ecosystem": "PyPI", "as_of": "2026-01-30T00:00:00Z", "age_days": 1}],
    },
    "settings": {"registered_builders": ["ci.example/builder"]},
}
"""An image that satisfies every rule of the default pack in every environment."""

FINDING: dict[str, Any] = {
    "advisory": "PYSEC-2024-1",
    "aliases": ["CVE-2024-1"],
    "purl": "pkg:pypi/pillow@10.2.0",
    "kind": "python",
    "name": "pillow",
    "version": "10.2.0",
    "severity": "high",
    "fixed_in": ["10.3.0"],
    "upgrade_to": "10.3.0",
    "waived_by": "",
    "kev": False,
    "epss": 0.01,
    "epss_percentile": 0.5,
}

PASSING = 'package p\n\nresults contains {"id": "a.b", "status": "pass", "evidence": [], "remedy": ""}\n'


def change(document: dict[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of `document` in which `a.b` of `changes` replaces field `b` of `a`."""
    result: dict[str, Any] = json.loads(json.dumps(document))
    for path, value in changes.items():
        *parents, last = path.split("__")
        target = result
        for parent in parents:
            target = target[parent]
        target[last] = value
    return result


def document(**changes: Any) -> PolicyInput:
    """The good document with changes: `document(image__dirty=True)`."""
    return msgspec.convert(change(GOOD, changes), PolicyInput)


def make_pack(parent: Path, rego: str | Mapping[str, str], *rules: str, levels: str = "deny", data: str = "") -> Pack:
    """Writes a pack of Rego files (or one) whose manifest promises the rules named, and loads it."""
    folder = parent / f"pack{len(list(parent.iterdir()))}"
    folder.mkdir()
    for name, text in ({"p.rego": rego} if isinstance(rego, str) else rego).items():
        (folder / name).write_text(text)
    manifest = 'name = "trial"\n'
    for rule in rules:
        manifest += (
            f'[[rule]]\nid = "{rule}"\ntitle = "Holds {rule}"\nfailure = "Breaks {rule}."\nwhy = "Because."\n'
            f'severity = "high"\n'
            f'levels = {{ research = "{levels}", staging = "{levels}", production = "{levels}" }}\n'
        )
    (folder / "pack.toml").write_text(manifest)
    if data:
        (folder / "data.json").write_text(data)
    return packs.load(folder)
