"""Times what a TensorFlow team does every day beside buildah (a uv Dockerfile with layer cache) and umoci.

    .venv/bin/python benchmarks/assembly.py [--runs 7] [--only daily|fleet|start|gpu]

Whole processes on the same content: the example's locked wheels, all downloaded before, and the same Debian base. `gpu`
downloads 2.4 GB once.
Run it on a machine that does nothing else. buildah's memory is that of its largest process, as it is for tidewaiter.
"""

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from workbench import CACHE, EXAMPLE, PROGRAM, Run, commit, environment, median, peak, registry, timed, tree_bytes

DOCKERFILE = """\
FROM localhost/base
USER 0:0
RUN --mount=type=bind,source=.,target=/context ["/context/uv", "pip", "install", "--offline", "--no-cache", \
"--no-index", "--find-links", "/context/wheels", "--require-hashes", "--no-deps", "--compile-bytecode", \
"--python", "/usr/bin/python3.11", "--target", "/usr/local/lib/python3.11/dist-packages", \
"-r", "/context/requirements.txt"]
COPY train.py /app/train.py
RUN ["/usr/bin/python3.11", "-m", "compileall", "-q", "--invalidation-mode", "unchecked-hash", "/app"]
WORKDIR /app
USER 65532:65532
ENTRYPOINT ["python", "/app/train.py"]
"""

SMALL = [
    "click",
    "tqdm",
    "rich",
    "pyyaml",
    "requests",
    "attrs",
    "cachetools",
    "colorama",
    "decorator",
    "docutils",
    "filelock",
    "flask",
    "fsspec",
    "gitpython",
    "humanize",
    "itsdangerous",
    "jinja2",
    "joblib",
    "lark",
    "loguru",
]
"""Each image of the fleet has one of these beside TensorFlow."""


class Bench:
    """The folders of one run of the benchmark."""

    def __init__(self, folder: Path, runs: int, cold_runs: int) -> None:
        self.folder = folder
        self.runs = runs
        self.cold_runs = cold_runs
        self.home = folder / "home"
        self.project = folder / "mnist"
        shutil.copytree(EXAMPLE, self.project)
        # What no verdict allows is pushed for research only.
        settings = self.project / "tidewaiter.toml"
        settings.write_text(settings.read_text().replace('"staging"', '"research"'))
        commit(self.project)
        timed([PROGRAM, "build", self.project], environment(CACHE))  # downloads
        self.context = folder / "context"
        self.rows: list[str] = []

    def say(self, text: str) -> None:
        """Print, and keep for the end."""
        print(text, flush=True)
        self.rows.append(text)

    # tidewaiter

    def cold_home(self, name: str) -> Path:
        """A home that has the downloads and nothing else."""
        home = self.folder / name
        for part in ("debs", "wheels"):
            shutil.copytree(CACHE / "cache" / part, home / "cache" / part, copy_function=os.link)
        return home

    def build(self, home: Path, project: Path | None = None) -> tuple[Run, dict[str, object]]:
        """`tidewaiter build`, and what it printed."""
        run = timed([PROGRAM, "build", project or self.project, "--format", "json"], environment(home))
        return run, json.loads(run.output)

    # buildah

    def buildah(self, *arguments: str | Path, store: str) -> Run:
        """One buildah command with a storage of its own."""
        root = self.folder / store
        options: list[str | Path] = [
            "--root",
            root / "root",
            "--runroot",
            root / "run",
            "--storage-driver",
            self.driver,
        ]
        return timed(["buildah", *options, *arguments], environment(self.home), self.context)

    @property
    def driver(self) -> str:
        """overlay where the kernel lets buildah mount it, else vfs."""
        return os.environ.get("STORAGE_DRIVER", "overlay")

    def prepare_buildah(self) -> None:
        """The context folder: uv, the wheels, pinned requirements with hashes, the app, and the Dockerfile."""
        import uv

        self.context.mkdir()
        (self.context / "wheels").mkdir()
        for wheel in (CACHE / "cache" / "wheels").rglob("*.whl"):
            target = self.context / "wheels" / wheel.name
            if not target.exists():
                os.link(wheel, target)
        shutil.copy(uv.find_uv_bin(), self.context / "uv")
        exported = timed([sys.executable, "-c", _REQUIREMENTS, str(self.project)], environment(self.home))
        (self.context / "requirements.txt").write_text(exported.output)
        (self.context / "Dockerfile").write_text(DOCKERFILE)
        shutil.copy(self.project / "train.py", self.context / "train.py")

    def buildah_build(self, store: str) -> Run:
        """The Dockerfile with layer cache."""
        return self.buildah(
            "build", "--isolation", "chroot", "--layers", "--timestamp", "0", "-t", "mnist", ".", store=store
        )


_REQUIREMENTS = """
import sys
from pathlib import Path
from tidewaiter.assembly import python_lock
from tidewaiter.core import project
for one in python_lock.read(project.load(Path(sys.argv[1]))).wheels:
    print(f"{one.name}=={one.version} --hash=sha256:{one.sha256}")
"""


def blob(layout: Path, digest: str) -> Path:
    """Path of a blob in a layout."""
    return layout / "blobs" / digest.replace(":", "/")


def base_of(home: Path, digest: str, target: Path) -> Path:
    """A layout with the base image alone, as the built image names it."""
    store = home / "store"
    named = json.loads(blob(store, digest).read_text())["annotations"]["org.opencontainers.image.base.digest"]
    manifest = json.loads(blob(store, named).read_text())
    (target / "blobs/sha256").mkdir(parents=True)
    for one in (named, manifest["config"]["digest"], *(layer["digest"] for layer in manifest["layers"])):
        os.link(blob(store, one), blob(target, one))
    (target / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
    entry = {
        "mediaType": manifest["mediaType"],
        "digest": named,
        "size": blob(store, named).stat().st_size,
        "annotations": {"org.opencontainers.image.ref.name": "base"},
    }
    (target / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [entry]}))
    return target


def cold(bench: Bench) -> None:
    """From downloaded wheels and packages to an image; bytecode on both sides."""
    own = []
    for number in range(bench.cold_runs):
        run, built = bench.build(bench.cold_home(f"cold{number}"))
        own.append(run)
    bench.home = bench.folder / "cold0"
    bench.prepare_buildah()
    base = base_of(bench.home, str(built["digest"]), bench.folder / "base")
    peers = []
    for number in range(bench.cold_runs):
        storage = f"{bench.driver}@{bench.folder}/buildah{number}/root+{bench.folder}/buildah{number}/run"
        subprocess.run(
            ["skopeo", "copy", "-q", f"oci:{base}:base", f"containers-storage:[{storage}]localhost/base:latest"],
            check=True,
        )
        peers.append(bench.buildah_build(f"buildah{number}"))
        # buildah's storage holds unpacked files; an image in a layout is what tidewaiter has by now.
        peers[-1] = Run(
            peers[-1].seconds
            + bench.buildah("push", "mnist", f"oci:{bench.folder}/out{number}:1", store=f"buildah{number}").seconds,
            peers[-1].memory,
            "",
        )
    bench.say(
        f"cold build: tidewaiter {median(own):.2f} s, {peak(own):.0f} MB; buildah {median(peers):.2f} s, "
        f"{peak(peers):.0f} MB; buildah takes {median(peers) / median(own):.1f} times as long"
    )


def store_state(home: Path) -> set[tuple[str, int]]:
    """Names and times of all blobs of the store."""
    return {(path.name, path.stat().st_mtime_ns) for path in (home / "store" / "blobs").rglob("*")}


def daily(bench: Bench) -> None:
    """Nothing changed; one line changed; pushed."""
    bench.buildah_build("buildah0")
    nothing, theirs = [], []
    for _ in range(bench.runs):
        before = store_state(bench.home)
        nothing.append(bench.build(bench.home)[0])
        if store_state(bench.home) != before:
            sys.exit("a build with nothing to do wrote into the store")
        theirs.append(bench.buildah_build("buildah0"))
    bench.say(
        f"nothing to do: tidewaiter {median(nothing):.2f} s, {peak(nothing):.0f} MB; buildah {median(theirs):.2f} s; "
        f"buildah takes {median(theirs) / median(nothing):.1f} times as long"
    )
    with tempfile.TemporaryDirectory(dir=CACHE) as text, registry(Path(text)) as host:
        one_line(bench, host)


def one_line(bench: Bench, host: str) -> None:
    """A line of the app is changed and built, then one is changed, built and pushed, again and again."""
    names = environment(bench.home, TIDEWAITER_PLAIN_HTTP=host)
    pushing = [PROGRAM, "build", bench.project, "--push", f"{host}/own/mnist:1", "--format", "json"]
    plain = ["push", "--tls-verify=false", "mnist", f"docker://{host}/buildah/mnist:1"]
    built, pushed, sent, theirs, their_pushes = [], [], [], [], []
    for number in range(bench.runs + 1):
        change(bench, f"# {number}")
        run, _ = bench.build(bench.home)
        their_build = bench.buildah_build("buildah0")
        change(bench, f"# {number}, pushed")
        push = timed(pushing, names)
        their_second = bench.buildah_build("buildah0")
        their_push = bench.buildah(*plain, store="buildah0")
        if number == 0:
            continue  # the first push sends everything
        built.append(run)
        pushed.append(push)
        document = json.loads(push.output)
        app = sum(layer["size"] for layer in document["layers"] if layer["kind"] == "app")
        sent.append(document["pushed"]["sent_bytes"] - app)
        theirs.append(their_build)
        their_pushes.append(Run(their_second.seconds + their_push.seconds, 0, ""))
    bench.say(
        f"one line changed, in the store: tidewaiter {median(built):.3f} s; buildah {median(theirs):.3f} s; "
        f"{median(theirs) / median(built):.1f} times as long"
    )
    bench.say(
        f"one line changed, pushed: tidewaiter {median(pushed):.3f} s; buildah {median(their_pushes):.3f} s; "
        f"{median(their_pushes) / median(pushed):.1f} times as long; {max(sent) / 1000:.1f} kB beside the app layer"
    )


def change(bench: Bench, line: str) -> None:
    """Another line in the app, committed, for both."""
    with (bench.project / "train.py").open("a") as file:
        file.write(f"{line}\n")
    shutil.copy(bench.project / "train.py", bench.context / "train.py")
    commit(bench.project)


def fleet(bench: Bench) -> None:
    """Twenty images with differing small dependencies in one store."""
    sizes: list[int] = []
    first = 0

    def prepare(name: str) -> Path:
        project = bench.folder / "fleet" / name
        project.mkdir(parents=True)
        for file in ("tidewaiter.toml", "train.py", "base.lock"):
            shutil.copy(EXAMPLE / file, project / file)
        (project / "requirements.in").write_text((EXAMPLE / "requirements.in").read_text() + f"{name}\n")
        timed([PROGRAM, "lock", project], environment(CACHE))
        commit(project)
        return project

    with ThreadPoolExecutor(2) as pool:
        projects = list(pool.map(prepare, SMALL))
    for number, project in enumerate(projects):
        _, built = bench.build(bench.home, project)
        layers = built["layers"]
        assert isinstance(layers, list)
        sizes.append(sum(layer["size"] for layer in layers))
        if number == 0:
            first = tree_bytes(bench.home / "store")
    stored = tree_bytes(bench.home / "store") - first
    bench.say(
        f"fleet of {len(projects)}: {stored / 1e6:.1f} MB stored beyond the first, "
        f"{100 * stored / sum(sizes[1:]):.2f} % of the {sum(sizes[1:]) / 1e6:.0f} MB of the others"
    )


def gpu(bench: Bench) -> None:
    """A GPU image, and what a bump of one small dependency makes a registry take."""
    project = bench.folder / "gpu"
    project.mkdir()
    for file in ("tidewaiter.toml", "train.py", "base.lock"):
        shutil.copy(EXAMPLE / file, project / file)
    reports = []
    with tempfile.TemporaryDirectory(dir=CACHE) as text, registry(Path(text)) as host:
        names = environment(CACHE, TIDEWAITER_PLAIN_HTTP=host)
        for version in ("1.16.0", "1.17.0"):
            (project / "requirements.in").write_text(f"tensorflow[and-cuda]==2.15.1\nsix=={version}\n")
            timed([PROGRAM, "lock", project], names)
            commit(project)
            run, built = bench.build(CACHE, project)
            reference = f"oci:{CACHE}/store:{built['reference']}"
            push = timed([PROGRAM, "copy", reference, f"{host}/gpu/mnist:1", "--format", "json"], names)
            layers = built["layers"]
            assert isinstance(layers, list)
            reports.append((run.seconds, len(layers), sum(layer["size"] for layer in layers), json.loads(push.output)))
    (first, count, size, _), (second, _, _, sent) = reports
    bench.say(
        f"GPU image of {size / 1e6:.0f} MB in {count} layers: built in {first:.1f} s, downloads included; "
        f"a small dependency bumped: built in {second:.1f} s, {sent['sent_bytes'] / 1e6:.2f} MB sent"
    )


def start(bench: Bench) -> None:
    """`import tensorflow` in a container whose files were not read before, with and without bytecode, by turns."""
    plain = bench.folder / "plain"
    shutil.copytree(EXAMPLE, plain)
    commit(plain)
    runs: dict[str, list[Run]] = {}
    images = {}
    for label, folder, options in (("with", bench.project, []), ("without", plain, ["--no-bytecode"])):
        built = timed([PROGRAM, "build", folder, "--format", "json", *options], environment(bench.home))
        images[label] = [PROGRAM, "exec", json.loads(built.output)["reference"], "--", "python", "-c"]
        timed([*images[label], "pass"], environment(bench.home))  # unpacks
    for _ in range(bench.runs):
        for label, image in images.items():
            drop_caches()
            runs.setdefault(label, []).append(timed([*image, "import tensorflow"], environment(bench.home)))
    own, theirs = median(runs["with"]), median(runs["without"])
    bench.say(f"import tensorflow: {own:.2f} s with bytecode, {theirs:.2f} s without; {own / theirs:.2f} of the time")


def drop_caches() -> None:
    """Forget the files in memory, where the kernel lets us."""
    os.sync()
    path = Path("/proc/sys/vm/drop_caches")
    if os.access(path, os.W_OK):
        path.write_text("3")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--cold-runs", type=int, default=3)
    parser.add_argument("--only", choices=["daily", "fleet", "start", "gpu"])
    chosen = parser.parse_args()
    CACHE.mkdir(parents=True, exist_ok=True)
    tasks: dict[str, Callable[[Bench], None]] = {"daily": daily, "fleet": fleet, "start": start, "gpu": gpu}
    with tempfile.TemporaryDirectory(dir=CACHE) as text:
        try:
            bench = Bench(Path(text), chosen.runs, chosen.cold_runs)
            print(
                f"{platform.machine()}, {os.cpu_count()} processors, Python {platform.python_version()}, "
                f"{subprocess.run(['buildah', '--version'], capture_output=True, text=True, check=True).stdout.strip()}"
            )
            if chosen.only != "gpu":
                cold(bench)
            for name, task in tasks.items():
                if chosen.only in {None, name}:
                    task(bench)
        finally:
            unmount(Path(text))


def unmount(folder: Path) -> None:
    """Undo what buildah leaves mounted below `folder`, so that it can be removed."""
    mounted = [line.split(" ")[1] for line in Path("/proc/self/mounts").read_text().splitlines()]
    for place in sorted((one for one in mounted if Path(one).is_relative_to(folder)), reverse=True):
        subprocess.run(["umount", place], check=False)


if __name__ == "__main__":
    main()
