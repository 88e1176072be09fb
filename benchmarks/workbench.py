"""What the benchmarks share: whole processes timed as a user runs them, a project under Git, an empty registry."""

import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
EXAMPLE = ROOT / "examples" / "mnist"
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tidewaiter-benchmarks"
PROGRAM = str(Path(sys.executable).with_name("tidewaiter"))


class Run(NamedTuple):
    """One finished process: wall-clock seconds, peak memory in MB, standard output, seconds on processors."""

    seconds: float
    memory: float
    output: str
    computing: float = 0.0


def environment(home: Path, **more: str) -> dict[str, str]:
    """A user's environment; bytecode of tidewaiter itself is written and used, as in an installation."""
    variables = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    local = {"NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}
    return {**variables, **local, "TIDEWAITER_HOME": str(home), "COSIGN_PASSWORD": "", **more}


def timed(command: Sequence[str | Path], variables: Mapping[str, str], folder: Path | None = None) -> Run:
    """Run `command` once; a failure ends the benchmark. Children that it waited for count for the memory too."""
    started = time.perf_counter()
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(command, stdout=out, stderr=errors, env=variables, cwd=folder)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        errors.seek(0)
        if process.returncode:
            said = (errors.read() + out.read()).decode(errors="replace")
            sys.exit(f"{' '.join(map(str, command))}: {said[-3000:]}")
        return Run(seconds, usage.ru_maxrss / 1024, out.read().decode(), usage.ru_utime + usage.ru_stime)


def median(runs: Sequence[Run]) -> float:
    """Seconds."""
    return statistics.median(run.seconds for run in runs)


def peak(runs: Sequence[Run]) -> float:
    """MB."""
    return max(run.memory for run in runs)


def git(folder: Path, *arguments: str) -> None:
    """One Git command, with an identity of its own."""
    identity = ("-c", "user.name=Benchmark", "-c", "user.email=benchmark@example.com")
    subprocess.run(["git", *identity, "-C", folder, *arguments], check=True, capture_output=True)


def commit(project: Path) -> None:
    """Commit everything that is in the project's folder."""
    if not (project / ".git").exists():
        git(project, "init", "-q")
    git(project, "add", "-A")
    git(project, "commit", "-q", "-m", "change")


def tree_bytes(folder: Path) -> int:
    """Bytes of all files below `folder`."""
    return sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file())


@contextmanager
def registry(folder: Path) -> Iterator[str]:
    """HOST:PORT of an empty docker-registry."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        host = f"127.0.0.1:{probe.getsockname()[1]}"
    config = folder / "config.yml"
    config.write_text(
        "version: 0.1\nlog: {level: error, accesslog: {disabled: true}}\n"
        f"storage: {{filesystem: {{rootdirectory: {folder}}}, delete: {{enabled: true}}}}\nhttp: {{addr: '{host}'}}\n"
    )
    process = subprocess.Popen(
        ["docker-registry", "serve", config], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        for _ in range(200):
            try:
                opener.open(f"http://{host}/v2/", timeout=1).close()
                break
            except (urllib.error.URLError, OSError):
                time.sleep(0.05)
        yield host
    finally:
        process.terminate()
        process.wait()
