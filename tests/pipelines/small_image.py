"""A home with a small image that is pulled from a layout, commands that run in this process, and an advisory."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from image_builder import Tar, put_image
from tidewaiter.cli import app
from tidewaiter.oci.layout import Layout
from tidewaiter.oci.manifest import RunConfig
from workplace import run

NAME = "a/b:1.0.0"
SITE = "usr/lib/python3/dist-packages"
LEAK = "CVE-2026-10001"
"""About the package `leaky` in the image; staging denies it."""


class Home:
    """A home and its commands."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder = folder
        self._capsys = capsys

    @property
    def keys(self) -> Path:
        return self.folder / "home" / "keys"

    def run(self, *words: object) -> tuple[int, Any]:
        """Exit code, and what was printed: JSON, decoded, where that was asked for, else both streams."""
        self._capsys.readouterr()
        code = app.run([str(word) for word in words])
        printed = self._capsys.readouterr()
        return code, json.loads(printed.out) if "json" in words else printed.out + printed.err

    def do(self, *words: object) -> Any:
        """What a command printed that must succeed."""
        code, printed = self.run(*words)
        assert code == 0, printed
        return printed

    def leak(self, *, fixed: bool = False) -> None:
        """Let an advisory reach the package in the image; or, `fixed`, reach only versions before it."""
        severity = [{"type": "CVSS_V3", "score": "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H"}]
        events = [{"introduced": "0"}, {"fixed": "1.0" if fixed else "2.0"}]
        affected = {
            "package": {"ecosystem": "PyPI", "name": "leaky"},
            "ranges": [{"type": "ECOSYSTEM", "events": events}],
        }
        entry = {
            "id": "PYSEC-2026-1",
            "aliases": [LEAK],
            "modified": f"2026-01-0{2 if fixed else 1}T00:00:00Z",
            "severity": severity,
            "affected": [affected],
        }
        path = self.folder / "advisory.json"
        path.write_text(json.dumps(entry))
        self.do("advisories", "import", path)


def make(folder: Path) -> Path:
    """A home in `folder` whose store holds the image `NAME`, with the key `tidewaiter`, to be copied."""
    tar = Tar().file("etc/os-release", 'ID=debian\nVERSION_ID="12"\n')
    tar.file(f"{SITE}/leaky-1.4.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: leaky\nVersion: 1.4.0\n")
    put_image(Layout(folder / "it"), [tar.bytes()], name="1", run=RunConfig(user="1000"))
    for words in (("pull", f"oci:{folder}/it:1", NAME), ("key", "generate")):
        done = run(folder / "home", *words)
        assert done.code == 0, done.err
    return folder / "home"


def use(template: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Home:
    """A copy of the home `template` in `folder`, which commands of this process use."""
    shutil.copytree(template, folder / "home")
    for name in [name for name in os.environ if name.startswith(("TIDEWAITER_", "CI_", "GITHUB_", "BUILD_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("TIDEWAITER_HOME", str(folder / "home"))
    monkeypatch.setenv("COSIGN_PASSWORD", "")
    return Home(folder, capsys)
