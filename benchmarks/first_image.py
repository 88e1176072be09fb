"""Times the first build of the example image: cold, after a change of the app, and with nothing to do.

    .venv/bin/python benchmarks/first_image.py

Whole processes, as a user runs them. Downloads are fetched first and not counted. Run it on a machine that does
nothing else.
"""

import json
import os
import platform
import shutil
import tempfile
from pathlib import Path

from workbench import CACHE, EXAMPLE, PROGRAM, Run, commit, environment, median, peak
from workbench import timed as timed_process


def timed(home: Path, *arguments: str) -> Run:
    """One command of tidewaiter in `home`."""
    return timed_process([PROGRAM, *arguments], environment(home), home.parent)


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

        built = json.loads(nothing[-1].output)
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
            print(f"| {label} | {median(runs):.2f} | {peak(runs):.0f} |")
        print(f"\nimage: {size:.1f} MB compressed in {len(built['layers'])} layers")


if __name__ == "__main__":
    main()
