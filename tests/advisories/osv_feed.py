"""OSV entries and feeds that the tests of the advisories room make."""

import io
import json
import zipfile
from pathlib import Path
from typing import Any

from tidewaiter.advisories import feed
from tidewaiter.advisories.advisory import Advisory
from tidewaiter.sbom.component import Component

Entry = dict[str, Any]


def affected(
    name: str,
    *events: tuple[str, str],
    ecosystem: str = "PyPI",
    kind: str = "ECOSYSTEM",
    versions: tuple[str, ...] = (),
    **more: Any,
) -> Entry:
    """An `affected` item with one range of `events`, none when there are no events."""
    item: Entry = {"package": {"ecosystem": ecosystem, "name": name}, **more}
    if events:
        item["ranges"] = [{"type": kind, "events": [{key: version} for key, version in events]}]
    if versions:
        item["versions"] = list(versions)
    return item


def entry(id_: str, *items: Entry, modified: str = "2024-05-01T00:00:00Z", **more: Any) -> Entry:
    """An OSV entry about `items`."""
    return {"id": id_, "modified": modified, "affected": list(items), "details": "Prose.", **more}


def simple(number: int, *, package: str = "", fixed: str = "2.0", **more: Any) -> Entry:
    """Entry `PYSEC-2024-<number>` about every version of a package of its own below `fixed`."""
    name = package or f"package-{number}"
    return entry(f"PYSEC-2024-{number}", affected(name, ("introduced", "0"), ("fixed", fixed)), **more)


def zipped(path: Path, *entries: Entry) -> Path:
    """A bulk export at `path`."""
    path.write_bytes(zip_bytes(*entries))
    return path


def zip_bytes(*entries: Entry) -> bytes:
    """A bulk export."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for item in entries:
            archive.writestr(f"{item['id']}.json", json.dumps(item))
    return buffer.getvalue()


def parsed(item: Entry) -> Advisory:
    """The entry as the feed reader reads it."""
    return feed.parse(feed.Document("test", json.dumps(item).encode()))


def python(name: str, version: str) -> Component:
    """A Python package."""
    purl = f"pkg:pypi/{name}@{version}"
    return Component(kind="python", name=name, version=version, purl=purl, ecosystem="PyPI")


def deb(name: str, version: str, *, source: str = "", source_version: str = "", release: str = "12") -> Component:
    """A Debian binary package."""
    return Component(
        kind="deb",
        name=name,
        version=version,
        purl=f"pkg:deb/debian/{name}@{version}",
        ecosystem=f"Debian:{release}",
        source_name=source,
        source_version=source_version,
    )


def debian_security() -> list[Entry]:
    """Ten real Debian Security Advisories, as OSV writes them (see ATTRIBUTION.md)."""
    facts = json.loads((Path(__file__).parent / "debian_advisories.json").read_text())
    return [
        entry(
            fact["id"],
            *(
                affected(fact["package"], ("introduced", "0"), ("fixed", version), ecosystem=f"Debian:{release}")
                for release, version in fact["fixed"].items()
            ),
            modified=fact["published"],
            published=fact["published"],
            upstream=fact["upstream"],
        )
        for fact in facts
    ]
