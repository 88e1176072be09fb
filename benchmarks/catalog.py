"""What a new advisory costs a company: 100,000 images in 20,000 component sets, made up, recorded as any image is.

    .venv/bin/python benchmarks/catalog.py [--images 100000] [--sets 20000] [--home FOLDER]

An image stands on one of 50 bases of 150 Debian packages, and has 10 of 4,000 layers of Python packages. With --home
the company is kept there, and used again when it is there.
"""

import argparse
import hashlib
import json
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from tidewaiter.advisories import feed
from tidewaiter.advisories.database import Database, rows_of
from tidewaiter.catalog.catalog import Catalog
from tidewaiter.core import settings as all_settings
from tidewaiter.inspection.facts import ImageFacts, LayerSummary
from tidewaiter.oci.digest import Digest
from tidewaiter.pipelines import affected
from tidewaiter.pipelines.rematching import rematch
from tidewaiter.sbom.component import Component

BASES, BASE_PACKAGES = 50, 150
BUNDLES, BUNDLE_PACKAGES, BUNDLES_OF_AN_IMAGE = 4000, 11, 10
NAMES, REPOSITORIES = 2500, 2000
POPULAR = "company-package-0"
ROUNDS = 5


def digest(text: str) -> Digest:
    """A digest by name."""
    return Digest("sha256:" + hashlib.sha256(text.encode()).hexdigest())


def layer(name: str) -> LayerSummary:
    """A layer by name."""
    return LayerSummary(digest(f"blob {name}"), digest(f"diff {name}"), 1_000_000, 3_000_000, 500, name)


def base(number: int) -> tuple[Component, ...]:
    """The Debian packages of a base; each base has versions of its own."""
    of = digest(f"diff base {number}")
    return tuple(
        Component(
            kind="deb",
            name=f"library-{one}",
            version=f"1.{number}-{one}",
            purl=f"pkg:deb/debian/library-{one}@1.{number}-{one}",
            ecosystem="Debian:12",
            location="var/lib/dpkg/status",
            layer=of,
        )
        for one in range(BASE_PACKAGES)
    )


def bundle(number: int) -> tuple[Component, ...]:
    """The Python packages of a layer: names go round, so that each has many versions; the first is in many layers."""
    of = digest(f"diff bundle {number}")
    names = [0] if number % 20 == 0 else []
    names += [(number * BUNDLE_PACKAGES + one) % NAMES for one in range(BUNDLE_PACKAGES)]
    return tuple(
        Component(
            kind="python",
            name=f"company-package-{name}",
            version=f"1.{number}",
            purl=f"pkg:pypi/company-package-{name}@1.{number}",
            ecosystem="PyPI",
            location=f"usr/lib/python3/company_package_{name}",
            layer=of,
        )
        for name in dict.fromkeys(names)
    )


def images(count: int, sets: int) -> Iterator[tuple[ImageFacts, str]]:
    """The images of the company, those of one component set one after another."""
    chance = random.Random(6)
    bases, bundles = [base(one) for one in range(BASES)], [bundle(one) for one in range(BUNDLES)]
    for number in range(count):
        if number * sets // count != (number - 1) * sets // count or number == 0:
            ground = chance.randrange(BASES)
            chosen = sorted(chance.sample(range(BUNDLES), BUNDLES_OF_AN_IMAGE))
            parts = (bases[ground], *(bundles[one] for one in chosen))
            by_purl = {component.purl: component for part in parts for component in part}
            components = tuple(by_purl[purl] for purl in sorted(by_purl))
            layers = (layer(f"base {ground}"), *(layer(f"bundle {one}") for one in chosen))
        facts = ImageFacts(
            reference=f"image {number}",
            digest=digest(f"image {number}"),
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
            layers=(*layers, layer(f"app {number}")),
            size=12_000_000,
            unpacked_size=36_000_000,
        )
        yield facts, f"team/model-{number % REPOSITORIES}"


def advise(database: Database, number: int, name: str) -> None:
    """Import one new advisory about every version of a package."""
    item = {"package": {"ecosystem": "PyPI", "name": name}, "ranges": [{"type": "ECOSYSTEM", "events": []}]}
    item["ranges"] = [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "2.0"}]}]
    names = {"id": f"PYSEC-2099-{number}", "aliases": [f"CVE-2099-{number}"]}
    entry = {**names, "modified": "2026-01-01T00:00:00Z", "affected": [item]}
    database.put_single(rows_of(feed.parse(feed.Document("benchmark", json.dumps(entry).encode()))))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--sets", type=int, default=20_000)
    parser.add_argument("--home", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        home = given.home or Path(folder)
        settings = all_settings.load({"TIDEWAITER_HOME": str(home)})
        home.mkdir(parents=True, exist_ok=True)
        with Catalog.open(settings) as catalog, Database(settings.home.advisories) as database:
            measure(catalog, database, given.images, given.sets)


def measure(catalog: Catalog, database: Database, count: int, sets: int) -> None:
    """Print the figures."""
    started = time.perf_counter()
    known = catalog.list_images(rows=1).total
    if known != count:
        catalog.record_many(images(count, sets))
        print(f"recording {count} images in {sets} component sets: {time.perf_counter() - started:.1f} s")
    started = time.perf_counter()
    first = rematch(catalog, database)
    print(f"matching all {first.versions} package versions: {time.perf_counter() - started:.2f} s")
    for title, name in (
        ("a package of 5 % of the layers", POPULAR),
        ("a package like any other", "company-package-77"),
    ):
        times, asked = [], []
        for _ in range(ROUNDS):
            number = 1000 + time.time_ns() % 10**9
            advise(database, number, name)
            started = time.perf_counter()
            found = rematch(catalog, database)
            times.append(time.perf_counter() - started)
            started = time.perf_counter()
            answer = affected.answer(catalog, database, f"CVE-2099-{number}")
            asked.append(time.perf_counter() - started)
            if {one.change for one in found.changes} != {"added"} or len(answer.images) != found.images:
                sys.exit(f"the matching found {found.images} images, `affected` {len(answer.images)}")
        print(
            f"a new advisory about {title} ({found.versions} versions, {found.component_sets} sets, {found.images} "
            f"images): matched {statistics.median(times):.3f} s (worst {max(times):.3f}), "
            f"affected {statistics.median(asked):.3f} s"
        )


if __name__ == "__main__":
    main()
