"""Times push, pull and copy beside skopeo and crane, on one docker-registry, in one run.

    .venv/bin/python benchmarks/distribution.py [--runs 3] [--only forty|tensorflow]

Two images: the example's (built once by `tidewaiter build` into the benchmark's own cache), and one of 40 layers of
200 kB. Whole processes, as a user runs them. A cold push goes to a registry that has nothing, a cold pull into an empty
folder; the files that are read are in the page cache for all alike. Run it on a machine that does nothing else. It
needs docker-registry and skopeo; crane is taken from `tools/peers` when it is there. Memory of a process under 30 MB
shows as that of the benchmark itself.
"""

import argparse
import fcntl
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from workbench import CACHE, EXAMPLE, PROGRAM, ROOT, Run, commit, environment, median, peak, registry, timed

sys.path.insert(0, str(ROOT / "tests"))

from images import make_image

LAYERS, LAYER_BYTES = 40, 200_000

Commands = dict[str, list[str]]


@contextmanager
def emptied(parent: Path) -> Iterator[Path]:
    """An empty folder on the disk of `parent`, removed afterwards; what is written before is on the disk by then."""
    folder = Path(tempfile.mkdtemp(dir=parent))
    os.sync()
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


def crane() -> str | None:
    """Path of crane, or None."""
    peers = subprocess.run([ROOT / "tools/peers", "--path"], capture_output=True, text=True, check=True).stdout.strip()
    return shutil.which("crane", path=os.pathsep.join([peers, os.environ["PATH"]]))


def forty() -> tuple[Path, str]:
    """The layout with the image of many small layers, made once."""
    folder = CACHE / "forty-1"
    if not (folder / "ready").exists():
        shutil.rmtree(folder, ignore_errors=True)
        layout, image = make_image(folder, sizes=(LAYER_BYTES,) * LAYERS)
        layout.tag("image", image)
        (folder / "ready").touch()
    return folder, "image"


def tensorflow(variables: dict[str, str]) -> tuple[Path, str]:
    """A layout with the example's image, built once and copied out of the store."""
    folder = CACHE / "tensorflow-1"
    if not (folder / "ready").exists():
        shutil.rmtree(folder, ignore_errors=True)
        with tempfile.TemporaryDirectory(dir=CACHE) as text:
            project = Path(text) / "mnist"
            shutil.copytree(EXAMPLE, project)
            commit(project)
            reference = json.loads(timed([PROGRAM, "build", project, "--format", "json"], variables).output)[
                "reference"
            ]
            timed([PROGRAM, "copy", f"oci:{CACHE}/store:{reference}", f"oci:{folder}:image"], variables)
        (folder / "ready").touch()
    return folder, "image"


def pushes(layout: Path, tag: str, name: str, with_crane: str | None) -> Commands:
    """Each tool's command that sends the image; `name` has a place for the tool's own repository."""
    found = {
        "tidewaiter": [PROGRAM, "copy", f"oci:{layout}:{tag}", name.format("tidewaiter")],
        "skopeo": ["skopeo", "copy", "-q", "--dest-tls-verify=false", f"oci:{layout}:{tag}",
                   "docker://" + name.format("skopeo")],
    }  # fmt: skip
    if with_crane:
        # crane reads a layout only when it holds one image; it has no way to name one.
        found["crane"] = [with_crane, "push", "--insecure", str(layout), name.format("crane")]
    return found


def pulls(name: str, folder: Path, with_crane: str | None) -> Commands:
    """Each tool's command that fetches the image into a layout below `folder`."""
    found = {
        "tidewaiter": [PROGRAM, "copy", name, f"oci:{folder}/tidewaiter:image"],
        "skopeo": ["skopeo", "copy", "-q", "--src-tls-verify=false", "docker://" + name, f"oci:{folder}/skopeo:image"],
    }
    if with_crane:
        found["crane"] = [with_crane, "pull", "--insecure", "--format=oci", name, f"{folder}/crane"]
    return found


def copies(name: str, to: str, with_crane: str | None) -> Commands:
    """Each tool's command that copies from one repository to another of the same registry."""
    found = {
        "tidewaiter": [PROGRAM, "copy", name, to.format("tidewaiter")],
        "skopeo": ["skopeo", "copy", "-q", "--src-tls-verify=false", "--dest-tls-verify=false",
                   "docker://" + name, "docker://" + to.format("skopeo")],
    }  # fmt: skip
    if with_crane:
        found["crane"] = [with_crane, "copy", "--insecure", name, to.format("crane")]
    return found


class Table:
    """Collects times by task and tool."""

    def __init__(self, variables: dict[str, str]) -> None:
        self.variables = variables
        self.seen: dict[str, dict[str, list[Run]]] = {}

    def time(self, task: str, commands: Commands, before: Callable[[], None] | None = None) -> None:
        """Run each command once, in an order that changes from call to call."""
        results = self.seen.setdefault(task, {})
        names = list(commands)
        turn = len(next(iter(results.values()), [])) % len(names)
        for name in names[turn:] + names[:turn]:
            if before is not None:
                before()
            results.setdefault(name, []).append(timed(commands[name], self.variables))

    def show(self) -> None:
        """Medians, shortest times, ratios of the medians to each peer's, processor time and the highest memory."""
        for task, results in self.seen.items():
            medians = {name: median(seen) for name, seen in results.items()}
            shortest = {name: min(run.seconds for run in seen) for name, seen in results.items()}
            computing = {name: min(run.computing for run in seen) for name, seen in results.items()}
            memory = {name: peak(seen) for name, seen in results.items()}
            own = medians["tidewaiter"]
            print(task)
            for name, seconds in medians.items():
                ratio = "" if name == "tidewaiter" else f"   tidewaiter takes {own / seconds:.2f} of it"
                best = f"(shortest {shortest[name]:.3f} s, of processors {computing[name]:.3f} s)"
                print(f"  {name:<11}{seconds:8.3f} s {best} {memory[name]:7.0f} MB{ratio}")


def starts() -> Commands:
    """What no command can be faster than: showing the version, Python alone, Python with the library of our values."""
    return {
        "tidewaiter": [PROGRAM, "--version"],
        "python": [sys.executable, "-c", "pass"],
        "msgspec": [sys.executable, "-c", "import msgspec"],
    }


def measure(label: str, image: tuple[Path, str], table: Table, runs: int, with_crane: str | None) -> None:
    """All tasks for one image."""
    layout, tag = image
    for _ in range(runs):
        # Each tool meets a registry that has nothing, so that none profits from another's blobs.
        for tool in pushes(layout, tag, "x/{}", with_crane):
            with emptied(CACHE) as folder, registry(folder) as host:
                commands = pushes(layout, tag, f"{host}/cold/{{}}:1", with_crane)
                variables = {**table.variables, "TIDEWAITER_PLAIN_HTTP": host}
                results = table.seen.setdefault(f"{label}: cold push", {})
                results.setdefault(tool, []).append(timed(commands[tool], variables))
    with emptied(CACHE) as folder, registry(folder) as host:
        table.variables["TIDEWAITER_PLAIN_HTTP"] = host
        name = f"{host}/from/image:1"
        timed(pushes(layout, tag, name, None)["skopeo"], table.variables)
        for _ in range(runs):
            with emptied(CACHE) as place:
                table.time(f"{label}: cold pull into a layout", pulls(name, place, with_crane), os.sync)
        for again in range(runs + 1):
            commands = pushes(layout, tag, f"{host}/again/{{}}:1", with_crane)
            between = copies(name, f"{host}/copied/{{}}:1", with_crane)
            if again == 0:
                for command in (*commands.values(), *between.values()):
                    timed(command, table.variables)
                continue
            table.time(f"{label}: push with everything present", commands)
            table.time(f"{label}: copy between repositories with everything present", between)
        with emptied(CACHE) as place:
            commands = pulls(name, place, None)
            for command in commands.values():
                timed(command, table.variables)
            for _ in range(runs):
                table.time(f"{label}: pull with everything present", commands)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--only", choices=["forty", "tensorflow"])
    chosen = parser.parse_args()
    CACHE.mkdir(parents=True, exist_ok=True)
    variables = environment(CACHE)
    with (CACHE / "distribution.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with_crane = crane()
        table = Table(variables)
        for _ in range(3 * chosen.runs):
            table.time("Starting", starts())
        if chosen.only != "tensorflow":
            measure(f"{LAYERS} layers", forty(), table, chosen.runs, with_crane)
        if chosen.only != "forty":
            measure("TensorFlow", tensorflow(variables), table, chosen.runs, with_crane)
    print(f"{platform.machine()}, {os.cpu_count()} processors, Python {platform.python_version()}, runs: {chosen.runs}")
    table.show()


if __name__ == "__main__":
    main()
