"""The audit log: durable entries a second, proofs in a log of a million, random manipulations found.

    .venv/bin/python benchmarks/audit.py [--entries 1000000] [--home FOLDER]

Every entry is written with a change in the change's own transaction, as everywhere (`synchronous=FULL`), while the
sequencer of `serve` numbers, hashes and signs. Proofs are asked of the log with all entries; Go's sumdb packages
(`tools/peers`) check them, and the whole export. With --home the log is kept there, and used again when it is there.
"""

import argparse
import functools
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from sqlalchemy import Connection
from workbench import ROOT

from tidewaiter.catalog.audit import entries as audit
from tidewaiter.catalog.audit import log as audit_log
from tidewaiter.catalog.audit import reading as audit_reading
from tidewaiter.catalog.audit import sequencer as audit_sequencer
from tidewaiter.catalog.audit import verify as audit_verify
from tidewaiter.catalog.catalog import Catalog
from tidewaiter.catalog.group_commit import GroupCommit
from tidewaiter.core import clock, progress
from tidewaiter.core import settings as all_settings
from tidewaiter.core.errors import UndeterminedError
from tidewaiter.core.settings import Settings
from tidewaiter.pipelines.audit import auditing
from tidewaiter.pipelines.workshop import opened

THREADS = 64
ALONE, TOGETHER = 500, 30_000
PROOFS, CHECKED = 1000, 20
MANIPULATIONS = 1000


def change(connection: Connection, number: int) -> None:
    """Log something; what else a change writes comes on top of it."""
    detail = {"environment": "production", "verdict": "allow", "id": f"{number:064x}"}
    audit.append(connection, "verdict", f"sha256:{number:064x}", detail, at=clock.now())


def durable(settings: Settings) -> None:
    """Entries a second, of one thread alone and of many with group commit, with the sequencer beside them."""
    with Catalog.open(settings) as catalog, audit_sequencer.running(settings):
        started = time.perf_counter()
        for number in range(ALONE):
            with catalog.database.writing() as connection:
                change(connection, number)
        alone = ALONE / (time.perf_counter() - started)
        group = GroupCommit(catalog.database)
        delays: list[float] = []

        def write(number: int) -> None:
            begun = time.perf_counter()
            group.run(lambda connection: change(connection, number))
            delays.append(time.perf_counter() - begun)

        started = time.perf_counter()
        with ThreadPoolExecutor(THREADS) as pool:
            list(pool.map(write, range(TOGETHER)))
        together = TOGETHER / (time.perf_counter() - started)
        written = time.perf_counter()
        while waiting(settings):
            time.sleep(0.01)
        behind = time.perf_counter() - written
    print(f"one commit an entry, one thread     {alone:8,.0f} durable entries/s")
    print(f"group commit, {THREADS} threads            {together:8,.0f} durable entries/s   x {together / alone:.1f}")
    print(f"  a change waits {1000 * statistics.median(delays):.0f} ms (median), {1000 * max(delays):.0f} ms at most")
    print(f"  all have positions and a signature {behind:.2f} s after the last was written")


def waiting(settings: Settings) -> bool:
    """Whether an entry has no position yet."""
    with audit_log.reading(settings.home.catalog) as log:
        return log.execute("SELECT 1 FROM audit_pending LIMIT 1").fetchone() is not None


def fill(settings: Settings, count: int) -> None:
    """Bring the log to `count` entries, and say how fast the sequencer is."""
    with Catalog.open(settings) as catalog:
        with audit_log.reading(settings.home.catalog) as log:
            state = audit_log.state(log)
        missing = count - (0 if state is None else state.size)
        for start in range(0, missing, 10_000):
            with catalog.database.plainly(writing=True) as connection:
                for number in range(start, min(missing, start + 10_000)):
                    subject = f"sha256:{number:064x}"
                    audit.append(connection, "verdict", subject, {"environment": "staging"}, at=clock.now())
    started = time.perf_counter()
    done = audit_sequencer.Sequencer(settings).run()
    if done:
        print(f"sequencer                           {done / (time.perf_counter() - started):8,.0f} entries/s")


def prove(settings: Settings, folder: Path) -> None:
    """Proofs of random entries, each on its own and checked; some, and the whole export, also by Go's packages."""
    chance, files = random.Random(1), audit_log.places(settings)
    key = audit_log.public_key(files)
    with audit_log.reading(settings.home.catalog) as log:
        size = audit_reading.required_state(log).size
        wanted = [chance.randrange(size) for _ in range(PROOFS)]
        took = [timed(functools.partial(audit_reading.prove, log, key, position)) for position in wanted]

    def alone(position: int) -> None:
        with audit_log.reading(settings.home.catalog) as log:
            audit_reading.prove(log, key, position)

    said(f"proof, {size:,} entries", took)
    said("  the catalog opened for each", [timed(functools.partial(alone, position)) for position in wanted])
    go = peer()
    if go is None:
        print("Go's sumdb packages: not here; `tools/peers` installs tlogcheck")
        return
    with opened(settings, progress.SILENT) as shop:
        for position in wanted[:CHECKED]:
            file = folder / f"{position}.tlog-proof"
            file.write_bytes(auditing.prove(shop, position, key="").encode())
            subprocess.run([go, "proof", file, "-", str(key)], check=True, capture_output=True)
        export = folder / "export"
        ours = timed(lambda: auditing.export(shop, export))
    theirs = timed(lambda: subprocess.run([go, "directory", export, str(key)], check=True, capture_output=True))
    again = timed(lambda: verify(settings))
    print(f"Go's sumdb packages accept {CHECKED} of them, and the whole export")
    print(f"export                              {ours:8.1f} s")
    print(f"verify the export: Go               {theirs:8.1f} s")
    print(f"audit verify, tables compared too   {again:8.1f} s   x {again / theirs:.1f} of Go")


def said(what: str, took: list[float]) -> None:
    """Print the median, the slowest in 100 and the slowest of these seconds."""
    milliseconds = sorted(1000 * seconds for seconds in took)
    middle, slow = statistics.median(milliseconds), milliseconds[int(0.99 * len(took))]
    print(f"{what:35} {middle:8.2f} ms median, {slow:.2f} ms of 99 in 100, {milliseconds[-1]:.2f} ms at most")


def peer() -> str | None:
    """tlogcheck, when it is installed."""
    found = subprocess.run([ROOT / "tools" / "peers", "--path"], capture_output=True, text=True, check=False)
    return shutil.which("tlogcheck", path=found.stdout.strip())


def verify(settings: Settings) -> None:
    """Fails when the log does not hold."""
    files = audit_log.places(settings)
    with audit_log.reading(settings.home.catalog) as log:
        written = audit_log.written_checkpoint(files)
        found = audit_verify.verify(log, audit_log.public_key(files), [("the file", written)])
    assert found.holds, found.problems


def timed(work: Callable[[], object]) -> float:
    """Seconds."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def manipulate(folder: Path) -> None:
    """How many of many random manipulations of a database are found."""
    sys.path.insert(0, str(ROOT / "tests" / "catalog"))
    from audit_manipulations import Before, entries, flatten, furnish, manipulate, verified

    settings, older, chance = furnish(folder / "home"), folder / "older.db", random.Random(1)
    path = settings.home.catalog
    flatten(path)
    shutil.copyfile(path, older)
    entries(settings, 5)
    flatten(path)
    original, missed, unreadable = path.read_bytes(), [], 0
    for _ in range(MANIPULATIONS):
        path.write_bytes(original)
        what = manipulate(Before(settings, older), chance)
        try:
            if verified(settings).holds:
                missed.append(what)
        except UndeterminedError:
            unreadable += 1
    print(
        f"{MANIPULATIONS} random manipulations: {MANIPULATIONS - len(missed)} found, of which {unreadable} made the "
        f"database unreadable; missed: {missed or 'none'}"
    )


def main() -> None:
    """Run everything."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--entries", type=int, default=1_000_000)
    parser.add_argument("--home", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        settings = all_settings.load({"TIDEWAITER_HOME": str(given.home or folder / "log")})
        durable(settings)
        fill(settings, given.entries)
        prove(settings, folder)
        (folder / "small").mkdir()
        manipulate(folder / "small")


if __name__ == "__main__":
    main()
