"""What durable work costs, how much of it goes through, and that no kill loses or doubles any of it.

    .venv/bin/python benchmarks/pipelines.py [--runs 200] [--kills 200] [--only steps queue kills]

- steps: a run of a project that is built already, beside the same steps called in one process: what a step costs
  beyond its work.
- queue: so many runs, each of another commit of one project, on two workers that share a catalog in PostgreSQL.
- kills: 20 such runs on two workers that are killed (-9) again and again, each time at a random moment of a run that
  the worker has; each digest must be the one that a run without kills gives. The kills are spread over all runs.

The project is the example's, without its large packages; its home is made once and kept in the benchmarks' cache.
PostgreSQL is a server of its own, of the programs that Debian installs.
"""

import argparse
import collections
import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import workbench
from workbench import CACHE, EXAMPLE, PROGRAM

from catalog import server as postgresql
from tidewaiter.catalog.catalog import Catalog
from tidewaiter.catalog.runs import reading
from tidewaiter.catalog.runs.records import Asked, Run, Source, Trigger
from tidewaiter.core import settings as all_settings
from tidewaiter.pipelines.durable import asking_runs

REPEATS = 10
GOAL_STEP = 0.1
GOAL_KILLS = 15 * 60
MOST_KILLS = 20
"""Of one run: whose workers die 25 times in the same step is given up."""


def main() -> None:
    """Prints a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--killed-runs", type=int, default=20)
    parser.add_argument("--only", nargs="+", choices=("steps", "queue", "kills"), default=("steps", "queue", "kills"))
    given = parser.parse_args()
    home = _home()
    print("| what | measured | goal |\n|---|---|---|")
    with tempfile.TemporaryDirectory(prefix="pipelines-") as folder:
        Path(folder).chmod(0o711)  # PostgreSQL does not run as root, and has its folder in it
        if "steps" in given.only:
            _steps(home, Path(folder))
        if "queue" in given.only:
            _queue(home, Path(folder), given.runs)
        if "kills" in given.only:
            _kills(home, Path(folder), given.kills, given.killed_runs)


def _say(what: str, measured: str, goal: str = "") -> None:
    print(f"| {what} | {measured} | {goal} |", flush=True)


# What everything needs


def _project(folder: Path) -> Path:
    """A project under Git with one small package."""
    folder.mkdir()
    for name in ("tidewaiter.toml", "train.py", "base.lock"):
        shutil.copy(EXAMPLE / name, folder / name)
    (folder / "requirements.in").write_text("six==1.17.0\n")
    file = folder / "tidewaiter.toml"
    file.write_text(file.read_text().replace('"vision/mnist"', '"bench/pipelines"').replace('"staging"', '"research"'))
    return folder


def _home() -> Path:
    """A home in which the project was built once."""
    home = CACHE / "pipelines-1"
    if (home / "ready").is_file():
        return home
    shutil.rmtree(home, ignore_errors=True)
    project = _project(Path(tempfile.mkdtemp()) / "project")
    variables = workbench.environment(home)
    workbench.timed([PROGRAM, "key", "generate", "tidewaiter"], variables)
    workbench.timed([PROGRAM, "lock", project], variables)
    workbench.commit(project)
    workbench.timed([PROGRAM, "ci", project], variables)
    shutil.copytree(project, home / "project")
    (home / "ready").touch()
    return home


def _fresh(home: Path, folder: Path) -> Path:
    """A home of one's own, with what building needs in its cache."""
    made = Path(tempfile.mkdtemp(dir=folder)) / "home"
    subprocess.run(["cp", "-a", "--reflink=auto", home, made], check=True)
    return made


def _commits(project: Path, count: int) -> list[str]:
    """So many commits, each of which changes a line of the app; made by one process."""
    text = (EXAMPLE / "train.py").read_text()
    stream = []
    for number in range(count):
        data = f"{text}\n# change {number}\n"
        begin = "from HEAD^0\n" if number == 0 else ""
        stream.append(
            f"commit refs/heads/changes\ncommitter Bench <bench@example.com> {1_700_000_000 + number} +0000\n"
            f"data 6\nchange\n{begin}M 100644 inline train.py\ndata {len(data.encode())}\n{data}\n"
        )
    git = ["git", "-C", str(project)]
    subprocess.run([*git, "fast-import", "--quiet"], check=True, input="".join(stream), text=True)
    listed = [*git, "rev-list", "--reverse", "HEAD..refs/heads/changes"]
    return subprocess.run(listed, check=True, capture_output=True, text=True).stdout.split()


@contextmanager
def _catalog(variables: Mapping[str, str]) -> Iterator[Catalog]:
    """What the workers' catalog says, without a process for each question that takes their time."""
    with Catalog.open(all_settings.load(dict(variables))) as catalog:
        yield catalog


def _ask(catalog: Catalog, project: Path, commits: Sequence[str], variables: Mapping[str, str]) -> list[str]:
    """Ask for a run of each commit; their ids."""
    settings = all_settings.load(dict(variables))
    trigger = Trigger(kind="command", by="benchmark")
    sources = [Source(repository=f"file://{project}", commit=commit) for commit in commits]
    asked = [Asked(kind="clear", source=source, trigger=trigger) for source in sources]
    return [asking_runs.submit(settings, catalog, one).id for one in asked]


def _runs(catalog: Catalog, names: Sequence[str]) -> list[Run]:
    with catalog.database.reading() as connection:
        return [reading.run(connection, name) for name in names]


def _open(catalog: Catalog) -> tuple[Run, ...]:
    """What has not ended."""
    with catalog.database.reading() as connection:
        return reading.listed(connection, states=["queued", "running"], rows=1000).runs


@contextmanager
def _shared(home: Path, folder: Path) -> Iterator[dict[str, str]]:
    """The environment of workers that share a home and a catalog in PostgreSQL."""
    made = _fresh(home, folder)
    (made / "catalog.db").unlink()
    with postgresql(Path(tempfile.mkdtemp(dir=folder))) as url:
        more = {"TIDEWAITER_DATABASE_URL": url, "TIDEWAITER_LOCAL_SOURCES": str(folder)}
        yield workbench.environment(made, **more)


def _worker(name: str, variables: Mapping[str, str]) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        [PROGRAM, "worker", "--name", name, "--concurrency", "1"],
        env=dict(variables),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def _require_whole(runs: Sequence[Run], *, killed: bool = False) -> None:
    """Every run is done, each step once; with kills a step may have been begun again, and was done once."""
    for run in runs:
        states = [step.state for step in run.steps]
        if run.state != "done" or set(states) != {"done"}:
            sys.exit(f"{run.id}: {run.state} {states} {run.error}")
        if not killed and any(step.attempts != 1 for step in run.steps):
            sys.exit(f"{run.id}: a step was done twice")


# What is measured


_DIRECT = """
import sys, time
from pathlib import Path
from tidewaiter.core import project as projects, settings
from tidewaiter.core.progress import SILENT
from tidewaiter.pipelines import clear, static, trusting
from tidewaiter.pipelines.workshop import opened
loaded = settings.load()
folder = Path(sys.argv[1])
times = []
with opened(loaded, SILENT) as shop:
    for _ in range(int(sys.argv[2])):
        began = time.perf_counter()
        project = projects.load(folder)
        static.require(static.analyse(loaded, folder, project, note=lambda text: None))
        signers = trusting.signers(shop, trusting.KEY_NAME, lambda: b"")
        clear.clear(shop, project, signers)
        times.append(time.perf_counter() - began)
print(min(times), sorted(times)[len(times) // 2])
"""


def _steps(home: Path, folder: Path) -> None:
    made = _fresh(home, folder)
    project = made / "project"
    variables = workbench.environment(made)
    direct = float(workbench.timed([sys.executable, "-c", _DIRECT, project, str(REPEATS)], variables).output.split()[1])
    worker = _worker("one", variables)
    try:
        took = []
        for _ in range(REPEATS + 1):
            began = time.perf_counter()
            workbench.timed([PROGRAM, "pipeline", "run", project, "--wait"], variables)
            took.append(time.perf_counter() - began)
    finally:
        worker.terminate()
        worker.wait()
    asking = workbench.median([workbench.timed([PROGRAM, "pipeline", "list"], variables) for _ in range(REPEATS)])
    whole = statistics.median(took[1:])  # the first one starts the process of the steps
    each = (whole - asking - direct) / 10
    _say("the steps of a built project, called in one process", f"{direct * 1000:.0f} ms")
    _say(
        "the same as a run, until `--wait` says so",
        f"{whole * 1000:.0f} ms, of which the command {asking * 1000:.0f} ms",
    )
    met = "met" if each <= GOAL_STEP else "not met"
    _say("overhead of each of the ten steps", f"{each * 1000:.0f} ms", f"100 ms: {met}")


def _queue(home: Path, folder: Path, count: int) -> None:
    project = _copied(home, folder)
    commits = _commits(project, count)
    with _shared(home, folder) as variables, _catalog(variables) as catalog:
        names = _ask(catalog, project, commits, variables)
        began = time.perf_counter()
        workers = [_worker(name, variables) for name in ("one", "two")]
        try:
            while _open(catalog):
                time.sleep(1)
        finally:
            took = time.perf_counter() - began
            _end(workers)
        runs = _runs(catalog, names)
    _require_whole(runs)
    digests = {run.result["digest"] for run in runs}
    if len(digests) != count:
        sys.exit(f"{count} commits gave {len(digests)} digests")
    shares = [sum(run.worker.startswith(f"{name}-") for run in runs) for name in ("one", "two")]
    _say(
        f"{count} queued runs on two workers",
        f"{took:.0f} s, {count / took * 60:.0f} a minute ({shares[0]} and {shares[1]})",
    )
    _say("lost or doubled steps of them", "0", "0: met")


def _end(workers: "Sequence[subprocess.Popen[bytes]]") -> None:
    for worker in workers:
        worker.terminate()
    for worker in workers:
        worker.wait()


def _copied(home: Path, folder: Path) -> Path:
    project = Path(tempfile.mkdtemp(dir=folder)) / "project"
    shutil.copytree(home / "project", project)
    return project


def _kills(home: Path, folder: Path, count: int, runs: int) -> None:
    project = _copied(home, folder)
    commits = _commits(project, runs)
    with _shared(home, folder) as variables, _catalog(variables) as catalog:
        names = _ask(catalog, project, commits, variables)
        began = time.perf_counter()
        worker = _worker("calm", variables)
        while _open(catalog):
            time.sleep(0.5)
        whole = time.perf_counter() - began
        _end([worker])
        found = _runs(catalog, names)
    _require_whole(found)
    calm = [run.result["digest"] for run in found]
    with _shared(home, folder) as variables, _catalog(variables) as catalog:
        names = _ask(catalog, project, commits, variables)
        began = time.perf_counter()
        killed = _killed(catalog, variables, count)
        took = time.perf_counter() - began
        found = _runs(catalog, names)
    _require_whole(found, killed=True)
    same = [run.result["digest"] for run in found] == calm
    met = "met" if same and killed >= count and took <= GOAL_KILLS else "not met"
    said = "as without kills" if same else "NOT as without kills"
    begun = sum(step.attempts for run in found for step in run.steps)
    _say(f"{runs} runs without kills on one worker", f"{whole:.0f} s")
    _say(f"{killed} kills over {runs} runs on two", f"{took:.0f} s, all done, digests {said}", f"15 min: {met}")
    _say("steps of them", f"{sum(len(run.steps) for run in found)} done, begun {begun} times")


def _killed(catalog: Catalog, variables: Mapping[str, str], count: int) -> int:
    """Let two workers carry out what waits, and kill them; how often one was killed in the end.

    The kills that are left are shared by the runs that are left: one that had its share goes on undisturbed.
    """
    chance = random.Random(1)
    dead: set[str] = set()
    kills: collections.Counter[str] = collections.Counter()
    workers = {name: _worker(name, variables) for name in ("one", "two")}
    try:
        while left := _open(catalog):
            share = -(-(count - sum(kills.values()) + sum(kills[run.id] for run in left)) // len(left))
            hit = [
                run
                for run in left
                if run.state == "running" and run.worker not in dead and kills[run.id] < min(share, MOST_KILLS)
            ]
            if len(dead) >= count or not hit:
                time.sleep(0.05)
                continue
            chosen = chance.choice(hit)
            # Now at once, now after as long as a run takes.
            time.sleep(chance.random() * chance.choice((0.3, 1.5)))
            name = chosen.worker.partition("-")[0]
            os.killpg(workers[name].pid, signal.SIGKILL)
            workers[name].wait()
            dead.add(chosen.worker)
            kills[chosen.id] += 1
            workers[name] = _worker(name, variables)
    finally:
        _end(tuple(workers.values()))
    return len(dead)


if __name__ == "__main__":
    main()
