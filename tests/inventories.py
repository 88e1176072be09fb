"""Images and advisories as small as they may be, for tests of what is found in a whole catalog."""

import hashlib
import json
from pathlib import Path

from tidewaiter.advisories import feed
from tidewaiter.advisories.advisory import Advisory
from tidewaiter.core import settings as all_settings
from tidewaiter.core.settings import Settings
from tidewaiter.inspection.facts import ImageFacts, LayerSummary
from tidewaiter.oci.digest import Digest
from tidewaiter.sbom.component import Component


def home(path: Path) -> Settings:
    """Settings of an empty home."""
    return all_settings.load({"TIDEWAITER_HOME": str(path)})


def digest(text: str) -> Digest:
    """A digest by name."""
    return Digest("sha256:" + hashlib.sha256(text.encode()).hexdigest())


def python(name: str, version: str) -> Component:
    """A Python package in the layer `app`."""
    purl = f"pkg:pypi/{name}@{version}"
    layer = digest("diff app")
    return Component(kind="python", name=name, version=version, purl=purl, ecosystem="PyPI", layer=layer)


def facts(image: str, *components: Component) -> ImageFacts:
    """Facts of an image of one layer, named by a word."""
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
        layers=(LayerSummary(digest("blob app"), digest("diff app"), 100, 300, 3),),
        size=100,
        unpacked_size=300,
    )


def advisory(
    id_: str,
    name: str,
    *,
    introduced: str = "0",
    fixed: str = "",
    ecosystem: str = "PyPI",
    aliases: tuple[str, ...] = (),
) -> Advisory:
    """An advisory about the versions of one package from `introduced` to before `fixed`."""
    events = [{"introduced": introduced}, *([{"fixed": fixed}] if fixed else [])]
    item = {"package": {"ecosystem": ecosystem, "name": name}, "ranges": [{"type": "ECOSYSTEM", "events": events}]}
    entry = {"id": id_, "modified": "2024-05-01T00:00:00Z", "affected": [item], "aliases": aliases}
    return feed.parse(feed.Document("test", json.dumps(entry).encode()))
