"""Times the first build of the example image: cold, after a change of the app, and with nothing to do.

    .venv/bin/python benchmarks/first_image.py

Whole processes, as a user runs them. Downloads are fetched first and not counted. Run it on a machine that does
nothing else.
"""

import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
EXAMPLE = ROOT / "examples" / "mnist"
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tidewaiter-benchmarks"
PROGRAM = Path(sys.executable).with_name("tidewaiter")


def environment(home: Path) -> dict[str, str]:
    """A user's environment; bytecode of tidewaiter itself is written and used, as in an installation."""
    variables = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return {**variables, "TIDEWAITER_HOME": str(home), "COSIGN_PASSWORD": ""}


def timed(home: Path, *arguments: str) -> tuple[float, float, str]:
    """Wall-clock seconds, peak memory of the process in MB, and standard output of one command."""
    started = time.perf_counter()
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(
            [PROGRAM, *arguments], stdout=out, stderr=errors, env=environment(home), cwd=home.parent
        )
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        errors.seek(0)
        if process.returncode:
            sys.exit(f"{arguments}: {errors.read().decode()}")
        return seconds, usage.ru_maxrss / 1024, out.read().decode()


def git(folder: Path, *arguments: str) -> None:
    identity = ("-c", "user.name=Benchmark", "-c", "user.email=benchmark@example.com")
    subprocess.run(["git", *identity, "-C", folder, *arguments], check=True, capture_output=True)


def commit(project: Path) -> None:
    git(project, "add", "-A")
    git(project, "commit", "-q", "-m", "change")


def cold_home(parent: Path, name: str) -> Path:
    """A home that has the downloads and nothing else."""
    home = parent / name
    for part in ("debs", "wheels"):
        shutil.copytree(CACHE / "cache" / part, home / "cache" / part, copy_function=os.link)
    return home


def main() -> None:
    """Measure and print a table."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=CACHE) as text:
        folder = Path(text)
        project = folder / "mnist"
        shutil.copytree(EXAMPLE, project)
        git(project, "init", "-q")
        commit(project)
        timed(CACHE, "build", str(project))  # downloads, and bytecode of tidewaiter itself

        cold = [timed(cold_home(folder, f"cold{number}"), "build", str(project)) for number in range(3)]
        home = folder / "cold0"
        nothing = [timed(home, "build", str(project), "--format", "json") for _ in range(7)]
        changed = []
        for number in range(7):
            (project / "train.py").open("a").write(f"# {number}\n")
            commit(project)
            changed.append(timed(home, "build", str(project)))
        timed(home, "key", "generate")
        first_way = timed(home, "ci", str(project))
        way = [timed(home, "ci", str(project)) for _ in range(5)]
        version = [timed(home, "--version") for _ in range(15)]

        built = json.loads(nothing[-1][2])
        size = sum(layer["size"] for layer in built["layers"]) / 1e6
        print(
            f"{platform.processor() or platform.machine()}, {len(os.sched_getaffinity(0))} cores, "
            f"Python {platform.python_version()}; {built['reference']}"
        )
        print("\n| what | seconds (median) | peak memory, MB |\n|---|---|---|")
        for label, runs in (
            ("build, cold: downloads there, nothing built", cold),
            ("build, one line of the app changed", changed),
            ("build, nothing to do", nothing),
            ("ci, first time after a build", [first_way]),
            ("ci, again", way),
            ("--version", version),
        ):
            print(f"| {label} | {statistics.median(run[0] for run in runs):.2f} | {max(run[1] for run in runs):.0f} |")
        print(f"\nimage: {size:.1f} MB compressed in {len(built['layers'])} layers")


if __name__ == "__main__":
    main()
