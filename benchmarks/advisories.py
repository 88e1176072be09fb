"""Times importing and matching advisories, and holds the findings against osv-scanner on the same data.

    .venv/bin/python benchmarks/advisories.py [--runs 3]

The data is the export of 2,661 PyPI advisories beside the checkout. Importing goes into an empty home, packages have
50,000 distinct versions. osv-scanner (`tools/peers all`) runs offline on the same export, over ten sets of packages
with versions that were published. Entries whose dates have a blank for the T it drops without a word, so it gets them
with a T. Every difference is printed with its reason; one without a reason ends the benchmark.
"""

import argparse
import functools
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from workbench import ROOT

from tidewaiter.advisories.database import Database
from tidewaiter.advisories.importing import import_feed
from tidewaiter.advisories.matcher import Matcher
from tidewaiter.advisories.names import normalise
from tidewaiter.sbom.component import Component

EXPORT = ROOT.parent / "shared/data/osv-pypi-2024-10-10.zip"
VERSIONS = 50_000
SETS, SIZE = 10, 60

DATES = ("modified", "published", "withdrawn")

Published = dict[str, list[str]]
Found = dict[tuple[str, str], set[str]]


class Difference(NamedTuple):
    """One advisory that one of the two reports for a package version, and why the other does not."""

    package: str
    advisory: str
    reported_by: str
    reason: str


class Took(NamedTuple):
    """Seconds on the clock, and of the processor: on a machine that does other things too, the second one counts."""

    clock: float
    processor: float

    def __str__(self) -> str:
        return f"{self.clock:.2f} s, {self.processor:.2f} s of the processor"


def timed(work: Callable[[], object]) -> Took:
    clock, processor = time.perf_counter(), time.process_time()
    work()
    return Took(time.perf_counter() - clock, time.process_time() - processor)


def median(runs: list[Took]) -> Took:
    return Took(statistics.median(run.clock for run in runs), statistics.median(run.processor for run in runs))


def published() -> Published:
    """Versions by name of package, as the advisories list them."""
    names: dict[str, set[str]] = {}
    with zipfile.ZipFile(EXPORT) as archive:
        for member in archive.namelist():
            for affected in json.loads(archive.read(member)).get("affected", []):
                package = affected.get("package", {})
                if package.get("ecosystem") == "PyPI":
                    names.setdefault(normalise("PyPI", package["name"]), set()).update(affected.get("versions", []))
    return {name: sorted(versions) for name, versions in sorted(names.items())}


def component(name: str, version: str) -> Component:
    return Component(kind="python", name=name, version=version, purl=f"pkg:pypi/{name}@{version}", ecosystem="PyPI")


def many(names: Published) -> list[Component]:
    """Distinct package versions: a fifth of packages that have advisories, the others unheard of."""
    known = ((name, f"{number % 7}.{number // 7}.{number % 3}") for number in range(VERSIONS) for name in names)
    found = [component(name, version) for (name, version), _ in zip(known, range(VERSIONS // 5), strict=False)]
    return found + [component(f"unheard-of-{number}", "1.0") for number in range(VERSIONS - len(found))]


def package_sets(names: Published) -> Iterator[list[tuple[str, str]]]:
    """Ten images' worth of packages, TensorFlow under one of its names in each."""
    chance = random.Random(10)
    usable = [name for name, versions in names.items() if versions]
    for number in range(SETS):
        framework = ("tensorflow", "tensorflow-cpu", "tensorflow-gpu")[number % 3]
        chosen = {framework, *chance.sample(usable, SIZE)}
        yield [(name, chance.choice(names[name])) for name in sorted(chosen)]


def own(matcher: Matcher, packages: list[tuple[str, str]], ids: set[str]) -> Found:
    found: Found = {package: set() for package in packages}
    for finding in matcher.match([component(*package) for package in packages]).findings:
        found[finding.name, finding.version] |= {finding.advisory, *finding.aliases} & ids
    return found


def osv_scanner(program: str, packages: list[tuple[str, str]], cache: Path) -> tuple[Found, float]:
    with tempfile.TemporaryDirectory() as text:
        file = Path(text, "requirements.txt")
        file.write_text("".join(f"{name}=={version}\n" for name, version in packages))
        command = [program, "scan", "source", "--offline", "--format", "json", "--lockfile", str(file)]
        variables = {**os.environ, "OSV_SCALIBR_LOCAL_DB_CACHE_DIRECTORY": str(cache)}
        started = time.perf_counter()
        done = subprocess.run(command, env=variables, capture_output=True, text=True, check=False)
        seconds = time.perf_counter() - started
    if done.returncode not in (0, 1):
        sys.exit(f"osv-scanner: {done.stderr[-2000:]}")
    found: Found = {package: set() for package in packages}
    for result in json.loads(done.stdout)["results"]:
        for item in result["packages"]:
            place = normalise("PyPI", item["package"]["name"]), item["package"]["version"]
            found[place] |= {entry["id"] for entry in item["vulnerabilities"]}
    return found, seconds


def why_only_here(place: tuple[str, str], entry: dict[str, Any]) -> str:
    own = [item for item in entry["affected"] if normalise("PyPI", item["package"]["name"]) == place[0]]
    if not own:
        return "filed under another name of the same code"
    stops = all(item["ranges"][0]["type"] == "GIT" for item in own)
    if stops and not any(place[1] in item["versions"] for item in own):
        return "in the range of versions, but osv-scanner stops at the range of Git commits before it"
    return ""


def differences(mine: Found, theirs: Found, entries: dict[str, dict[str, Any]]) -> Iterator[Difference]:
    for place in mine:
        for id_ in sorted(mine[place] - theirs[place]):
            yield Difference("==".join(place), id_, "tidewaiter", why_only_here(place, entries[id_]))
        for id_ in sorted(theirs[place] - mine[place]):
            yield Difference("==".join(place), id_, "osv-scanner", "")


def export_for_osv_scanner(path: Path) -> list[dict[str, Any]]:
    """Write the export with every date as RFC 3339 has it; gives its entries and says how many needed that."""
    rewritten = 0
    entries = []
    with zipfile.ZipFile(EXPORT) as archive, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as new:
        for member in archive.namelist():
            entry = json.loads(archive.read(member))
            dates = {key: entry[key].replace(" ", "T") for key in DATES if key in entry}
            rewritten += any(entry[key] != date for key, date in dates.items())
            entries.append({**entry, **dates})
            new.writestr(member, json.dumps(entries[-1]))
    print(f"osv-scanner would drop {rewritten} of {len(entries)} entries for their dates; it gets them with others")
    return entries


def compare(program: str, names: Published) -> None:
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text, "osv-scalibr", "PyPI")
        folder.mkdir(parents=True)
        compare_in(Path(text), program, names, export_for_osv_scanner(folder / "all.zip"))


def compare_in(cache: Path, program: str, names: Published, entries: list[dict[str, Any]]) -> None:
    by_id = {entry["id"]: entry for entry in entries}
    agreed = 0
    unexplained = []
    seconds: dict[str, list[float]] = {"tidewaiter": [], "osv-scanner": []}
    reasons: dict[tuple[str, str], int] = {}
    with Database(cache / "advisories.db") as database:
        matcher = Matcher(database)
        for packages in package_sets(names):
            started = time.perf_counter()
            mine = own(matcher, packages, set(by_id))
            seconds["tidewaiter"].append(time.perf_counter() - started)
            theirs, took = osv_scanner(program, packages, cache)
            seconds["osv-scanner"].append(took)
            agreed += sum(len(mine[place] & theirs[place]) for place in mine)
            for item in differences(mine, theirs, by_id):
                if item.reason:
                    key = item.reported_by, item.reason
                    reasons[key] = reasons.get(key, 0) + 1
                else:
                    unexplained.append(item)
    print(f"osv-scanner: {SETS} sets of {SIZE + 1} packages at most, {agreed} advisories reported by both")
    for (reporter, reason), count in sorted(reasons.items()):
        print(f"  {count} only by {reporter}: {reason}")
    for item in unexplained[:40]:
        print(f"  NOT EXPLAINED: {item.package} {item.advisory}, only by {item.reported_by}")
    one, other = (statistics.median(seconds[name]) for name in ("tidewaiter", "osv-scanner"))
    print(f"  a set: {one:.3f} s here in a process that has the data open, {other:.2f} s osv-scanner, a whole process")
    if unexplained:
        sys.exit(f"{len(unexplained)} differences without a reason")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=3)
    runs = parser.parse_args().runs
    if not EXPORT.exists():
        sys.exit(f"{EXPORT} is not there")
    names = published()
    importing, matching = [], []
    for _ in range(runs):
        with tempfile.TemporaryDirectory() as text, Database(Path(text, "advisories.db")) as database:
            database.replace("PyPI", (), source="nothing", as_of="2024-01-01T00:00:00Z", force=True)
            importing.append(timed(lambda: import_feed(database, EXPORT)))
            matching.append(timed(functools.partial(Matcher(database).match, many(names))))
    print(f"importing 2,661 advisories: {median(importing)} (goal 3 s)")
    print(f"matching {VERSIONS} distinct package versions: {median(matching)} (goal 3 s)")
    peers = subprocess.run([ROOT / "tools/peers", "--path"], capture_output=True, text=True, check=True).stdout.strip()
    program = shutil.which("osv-scanner", path=os.pathsep.join([peers, os.environ["PATH"]]))
    if program is None:
        sys.exit("osv-scanner is not installed: run tools/peers all")
    compare(program, names)


if __name__ == "__main__":
    main()
