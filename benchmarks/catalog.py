"""What a company of 100,000 images costs, in SQLite and in PostgreSQL: loading, lists, questions, a new advisory.

    .venv/bin/python benchmarks/catalog.py [--database sqlite|postgresql|both] [--images 100000] [--fresh]

The company (`company.py`) is made once for each database and kept in the folder of the benchmarks' cache; --fresh makes
it anew. PostgreSQL is a server of its own, of the programs that Debian installs, on a port of this machine.
"""

import argparse
import json
import os
import random
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import company
from workbench import CACHE

from tidewaiter.advisories import feed, importing
from tidewaiter.advisories.database import Database
from tidewaiter.advisories.rows import rows_of
from tidewaiter.catalog.browsing import Filter
from tidewaiter.catalog.catalog import Catalog
from tidewaiter.core import settings as all_settings
from tidewaiter.core.progress import SILENT
from tidewaiter.pipelines import affected, tracing, workshop
from tidewaiter.pipelines.redeciding import redecide
from tidewaiter.pipelines.rematching import rematch
from tidewaiter.pipelines.workshop import Workshop

ASKED = 100
"""Times that each question is asked, about things by chance."""
EXTRA = 2_000
"""Images that are loaded once more when the company is there already."""
_NOBODY = 65534
_MS = 1000


@contextmanager
def server(folder: Path) -> Iterator[str]:
    """Address of a database on a server whose data lies in the folder, durable as it is by default."""
    found = sorted(Path("/usr/lib/postgresql").glob("[0-9]*/bin"), key=lambda path: int(path.parent.name))
    if not found:
        sys.exit("PostgreSQL is not installed (/usr/lib/postgresql/*/bin)")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]

    def run(program: str, *words: str) -> None:
        command = [str(found[-1] / program), "-D", str(folder / "data"), *words]
        if not os.getuid():  # it refuses to run as root
            command = ["setpriv", f"--reuid={_NOBODY}", f"--regid={_NOBODY}", "--clear-groups", *command]
        subprocess.run(command, check=True, cwd="/", stdout=subprocess.DEVNULL)

    if not (folder / "data").exists():
        folder.mkdir(parents=True, exist_ok=True)
        if not os.getuid():
            os.chown(folder, _NOBODY, _NOBODY)
        run("initdb", "-U", "postgres", "-E", "UTF8", "--no-locale", "-A", "trust")
    options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories= -c shared_buffers=512MB"
    run("pg_ctl", "-l", str(folder / "log"), "-o", options, "-w", "start")
    try:
        import psycopg

        there = f"postgresql://postgres@127.0.0.1:{port}"
        with psycopg.connect(f"{there}/postgres", autocommit=True) as connection:
            if connection.execute("SELECT 1 FROM pg_database WHERE datname = 'tidewaiter'").fetchone() is None:
                connection.execute("CREATE DATABASE tidewaiter TEMPLATE template0 ENCODING 'UTF8'")
        yield f"{there}/tidewaiter"
    finally:
        run("pg_ctl", "-m", "fast", "-w", "stop")


def told(title: str, times: list[float], goal: float = 0, more: str = "") -> None:
    """Print a row: how long it took in the middle and at most in 95 of 100, in milliseconds, and the goal for that."""
    times.sort()
    p95 = times[int(len(times) * 0.95)] * _MS
    said(
        f"{title}{more}",
        f"{times[len(times) // 2] * _MS:.0f} ms, p95 {p95:.0f} ms",
        f"{goal:.0f} ms" if goal else "",
        met=p95 <= goal,
    )


def said(what: str, measured: str, goal: str = "", *, met: bool = True) -> None:
    """Print a row of the table."""
    how = f"{goal}: {'met' if met else 'not met'}" if goal else ""
    print(f"| {what} | {measured} | {how} |", flush=True)


def timed(work: Callable[[], object]) -> float:
    """Seconds."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def advise(database: Database, number: int, name: str) -> None:
    """Import one new advisory about every version of a package."""
    ranges = [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "2.0"}]}]
    item = {"package": {"ecosystem": "PyPI", "name": name}, "ranges": ranges}
    names = {"id": f"PYSEC-2099-{number}", "aliases": [f"CVE-2099-{number}"]}
    vectors = [{"type": "CVSS_V3", "score": "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H"}]
    entry = {**names, "modified": "2026-01-01T00:00:00Z", "affected": [item], "severity": vectors}
    database.put_single(rows_of(feed.parse(feed.Document("benchmark", json.dumps(entry).encode()))))


def load(catalog: Catalog, images: int, *, first: int = 0) -> None:
    """Record images as `catalog sync` does, and print how fast."""
    started, count, making = time.perf_counter(), 0, 0.0
    every = company.repositories(images, first=first)
    while True:
        before = time.perf_counter()
        some = next(every, None)
        if some is None:
            break
        batch = company.batch(some[1])
        making += time.perf_counter() - before
        catalog.record_sync(some[0], batch)
        count += len(some[1])
    seconds = time.perf_counter() - started - making
    rate = count / seconds
    said(f"loading {count} images", f"{rate:.0f} images/s", "300 images/s", met=rate >= 300)


def make(shop: Workshop, database: Database, images: int, folder: Path) -> None:
    """The company, unless it is there."""
    if (folder / "complete").exists():
        load(shop.catalog, EXTRA, first=random.randrange(10**6, 10**9))
        return
    load(shop.catalog, images)
    said("bases, workloads, model versions, owners", f"{timed(lambda: company.use(shop.catalog, images)):.0f} s")
    # Somebody looked after Debian as well, so that its packages are checked.
    item = {"package": {"ecosystem": "Debian:12", "name": "unheard-of"}, "versions": ["0"]}
    entry = {"id": "TEST-1", "modified": "2026-01-01T00:00:00Z", "affected": [item]}
    place = folder / "feed"
    place.mkdir(exist_ok=True)
    (place / "entry.json").write_text(json.dumps(entry))
    importing.import_feed(database, place, ecosystem="Debian", as_of="2026-11-01T00:00:00Z", force=True)
    said("matching all package versions", f"{timed(lambda: rematch(shop.catalog, database)):.0f} s")
    said("deciding every image", f"{timed(lambda: company.judge(shop, database, images)):.0f} s")
    redecide(shop, database)
    if shop.catalog.database.engine.dialect.name == "postgresql":
        with shop.catalog.database.writing() as connection:
            connection.exec_driver_sql("ANALYZE")  # as its own housekeeping does some time later
    (folder / "complete").touch()


def measure(shop: Workshop, database: Database, count: int) -> None:
    """Print the figures."""
    follow(shop, database)
    lists(shop.catalog)
    ask(shop.catalog, database)
    trace(shop.catalog, count)


def follow(shop: Workshop, database: Database) -> None:
    """A new advisory about a package in a fifth of the images: matched, and what it touches decided anew."""
    number = 1000 + time.time_ns() % 10**9
    advise(database, number, company.POPULAR)
    started = time.perf_counter()
    found = rematch(shop.catalog, database)
    matched = time.perf_counter() - started
    verdicts = redecide(shop, database)
    seconds = time.perf_counter() - started
    answer = affected.answer(shop.catalog, database, f"CVE-2099-{number}")
    if answer.totals.images != found.images:
        sys.exit(f"the matching found {found.images} images, `affected` {answer.totals.images}")
    what = f"a new advisory: {found.component_sets} component sets, {found.images} images, {verdicts.verdicts} verdicts"
    said(what, f"{seconds:.1f} s, matching {matched:.2f} s of it", "10 s", met=seconds <= 10)


def lists(catalog: Catalog) -> None:
    """How long a page of a list takes, with filters and searches."""
    chance = random.Random(5)

    def repository() -> str:
        return company.place(chance.randrange(2500))

    wanted: dict[str, Callable[[], Filter]] = {
        "everything": Filter,
        "of a team": lambda: Filter(repository=repository().rpartition("/")[0]),
        "by a pattern of repositories": lambda: Filter(repository=f"*model-{chance.randrange(250)}*"),
        "by tag": lambda: Filter(tag=f"1.{chance.randrange(1000)}*"),
        "by environment": lambda: Filter(environment="production"),
        "by environment that nothing has": lambda: Filter(environment="staging"),
        "by severity": lambda: Filter(finding="high"),
        "by package": lambda: Filter(package=f"pkg:pypi/company-package-{chance.randrange(1, company.NAMES)}"),
        "by owner": lambda: Filter(owner=f"owner-{chance.randrange(company.OWNERS)}"),
        "denied and running": lambda: Filter(verdict="deny", running=True),
        "team, severity and environment": lambda: Filter(
            repository=repository().rpartition("/")[0], finding="critical", environment="production"
        ),
        "search for a name": lambda: Filter(search=f"model-{chance.randrange(2500)}"),
        "search for a tag": lambda: Filter(search=f"1.{chance.randrange(100_000)}"),
        "search for NAME:TAG": lambda: Filter(search=f"{repository()}:1."),
        "search for the beginning of a digest": lambda: Filter(search=company.digest(str(chance.random()))[:11]),
        "search for what is not there": lambda: Filter(search="nothing of that name"),
    }
    every: list[float] = []
    for title, filters in wanted.items():
        times = [timed(lambda: catalog.browse(filters())) for _ in range(20)]  # noqa: B023 - called at once
        every += times
        told(f"list, {title}", times, 100)
    told("list and search, all of these", every, 100)


def ask(catalog: Catalog, database: Database) -> None:
    """How long `affected` takes for packages by chance, and for some in many images."""
    chance, times, reached = random.Random(3), [], []
    for _ in range(ASKED):
        thing = f"pkg:pypi/company-package-{chance.randrange(1, company.NAMES)}"
        started = time.perf_counter()
        found = affected.answer(catalog, database, thing)
        times.append(time.perf_counter() - started)
        reached.append(found.totals.images)
    told(f"affected, packages in {min(reached)} to {max(reached)} images", times, 200)
    for title, thing in (
        ("in every 45th layer", f"pkg:pypi/{company.POPULAR}"),
        ("of all bases", "pkg:deb/debian/library-3"),
    ):
        times = []
        for _ in range(5):
            started = time.perf_counter()
            found = affected.answer(catalog, database, thing)
            times.append(time.perf_counter() - started)
        told(f"affected, a package {title}, in {found.totals.images} images", times)


def trace(catalog: Catalog, count: int) -> None:
    """How long `trace` takes for things of each kind, by chance."""
    chance, bundles = random.Random(4), company.bundles_of(count)
    packages = sorted({one.name for number in bundles for one in company.bundle(number)} - {company.POPULAR})
    kinds: dict[str, Callable[[], str]] = {
        "an image": lambda: company.digest(f"image {chance.randrange(count)}"),
        "a base": lambda: company.digest(f"base image {chance.randrange(company.BASES)}"),
        "a layer": lambda: company.digest(f"diff bundle {chance.choice(bundles)}"),
        "a package": lambda: f"pkg:pypi/{chance.choice(packages)}",
        "a workload": lambda: company.workload(chance.randrange(count // company.IMAGES_OF_A_WORKLOAD)),
        "a model version": lambda: f"model-{chance.randrange(count // company.IMAGES_OF_A_MODEL)}:1",
    }
    for title, name in kinds.items():
        times = [timed(lambda: tracing.trace(catalog, name())) for _ in range(20)]  # noqa: B023 - called at once
        told(f"trace of {title}", times, 100)


def run(kind: str, images: int, *, fresh: bool) -> None:
    """Everything, in one database."""
    folder = CACHE / "company" / f"{kind}-{images}"
    # Whom the server runs as when this is root cannot read root's folders.
    data = Path("/var/tmp") / f"tidewaiter-benchmarks-{images}" if not os.getuid() else folder / "server"
    if fresh:
        shutil.rmtree(folder, ignore_errors=True)
        shutil.rmtree(data, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    load = os.getloadavg()[0]
    print(f"\n{kind}, at a load of {load:.1f}\n\n| what | measured | goal |\n|---|---|---|", flush=True)
    with ExitStack() as stack:
        variables = {"TIDEWAITER_HOME": str(folder / "home")}
        if kind == "postgresql":
            variables["TIDEWAITER_DATABASE_URL"] = stack.enter_context(server(data))
        shop = stack.enter_context(workshop.opened(all_settings.load(variables), SILENT))
        database = stack.enter_context(Database(shop.settings.home.advisories))
        make(shop, database, images, folder)
        measure(shop, database, images)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--database", choices=("sqlite", "postgresql", "both"), default="both")
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--fresh", action="store_true")
    given = parser.parse_args()
    for kind in ("sqlite", "postgresql") if given.database == "both" else (given.database,):
        run(kind, given.images, fresh=given.fresh)


if __name__ == "__main__":
    main()
