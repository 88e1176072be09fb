"""Fuzzing: `tools/fuzz TARGET --seconds N` looks for inputs that make a parser fail, `--input FILE` gives it one.

Atheris (libFuzzer with Python's coverage) changes the inputs. Each target runs in a process of its own under a limit on
memory; what makes it fail is stored in `.fuzz/TARGET`, beside the inputs that led to new paths, from which the next
run goes on.
"""

import argparse
import concurrent.futures
import contextlib
import io
import os
import re
import resource
import runpy
import signal
import sys
import time
import traceback
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from fuzz_target import Target  # noqa: E402  found beside this program

INPUT_SECONDS = 10
"""What one input may take."""
MEMORY_BYTES = 2 << 30
"""Address space of a target's process, as for a process that reads layers."""
RESIDENT_MEGABYTES = 1024
INPUT_BYTES = 64 << 10
"""Longest input that is made; seeds may be longer."""
_FAILURES = ("crash-*", "timeout-*", "oom-*", "leak-*", "slow-unit-*")


class Limits(NamedTuple):
    """How long a target is fuzzed, and how long one input may take."""

    seconds: int
    input_seconds: int


class Outcome(NamedTuple):
    """What became of one target."""

    target: str
    runs: int
    """Inputs that were tried."""
    said: str
    """The last lines that it printed; empty when it did not fail."""
    inputs: tuple[Path, ...]
    """Inputs that made it fail."""

    @property
    def failed(self) -> bool:
        """Whether something is wrong with the parser or with fuzzing it."""
        return bool(self.said)

    def __str__(self) -> str:
        if not self.failed:
            return f"{self.target}: {self.runs} inputs, no failure"
        again = "".join(f"\n  again: tools/fuzz {self.target} --input {path}" for path in self.inputs)
        return f"{self.target}: failed after {self.runs} inputs{again}\n{self.said}"


def targets(names: Sequence[str] = ()) -> list[Target]:
    """The targets of these names or `FILE.py:NAME`, all without any; raises `KeyError` for a name that is none."""
    if names and all(":" in name for name in names):
        return list(map(_of_file, names))
    import targets_catalogers
    import targets_documents
    import targets_oci
    import targets_tlog

    rooms = (targets_oci, targets_catalogers, targets_documents, targets_tlog)
    known = {target.name: target for room in rooms for target in room.TARGETS}
    return [known[name] for name in names or known]


def _of_file(name: str) -> Target:
    path, _, variable = name.rpartition(":")
    target: Target = runpy.run_path(path)[variable]
    return target._replace(name=name)


def _confine() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _inputs(target: Target, folder: Path) -> None:
    """Lay out the seeds; what earlier runs have found stays."""
    corpus = folder / "corpus"
    corpus.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(target.seeds):
        (corpus / f"seed-{number}").write_bytes(seed)


def _fuzz(target: Target, limit: Limits, folder: Path) -> None:
    """In the child: fuzz until the time is over or something fails; does not return."""
    import atheris

    _confine()
    longest = max([INPUT_BYTES, *map(len, target.seeds)])
    arguments = [
        target.name,
        f"-max_total_time={limit.seconds}",
        f"-timeout={limit.input_seconds}",
        f"-rss_limit_mb={RESIDENT_MEGABYTES}",
        f"-max_len={longest}",
        f"-artifact_prefix={folder}/",
        "-len_control=0",
        "-print_final_stats=1",
        "-report_slow_units=1000000",
        str(folder / "corpus"),
    ]

    def one(data: bytes) -> None:
        try:
            target(data)
        except Exception:
            # libFuzzer keeps what takes too long; this is the other half.
            (folder / f"crash-{sha256(data).hexdigest()[:16]}").write_bytes(data)
            raise

    atheris.Setup(arguments, one)
    atheris.Fuzz()


def _tried(text: str) -> int:
    """The number of inputs that libFuzzer has told of last."""
    return max(
        (int(number) for number in re.findall(r"^(?:#|stat::number_of_executed_units: *)(\d+)", text, re.MULTILINE)),
        default=0,
    )


def _wait(child: int, deadline: float) -> int:
    """Exit status of `child`, which is killed at `deadline`."""
    while True:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() > deadline:
            os.kill(child, signal.SIGKILL)
        time.sleep(0.05)


def fuzz(target: Target, limit: Limits, folder: Path) -> Outcome:
    """Fuzz one target; its inputs and failures lie in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    _inputs(target, folder)
    before = {path for pattern in _FAILURES for path in folder.glob(pattern)}
    log = folder / "log"
    # A copy of this process, which has the parsers with their coverage loaded already.
    child = os.fork()
    if not child:
        try:
            output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(output, 1)
            os.dup2(output, 2)
            _fuzz(target, limit, folder)
        except SystemExit:
            pass  # Atheris has said why
        except BaseException:  # noqa: BLE001  nothing of the child may return into the parent's code
            traceback.print_exc()
        finally:
            os._exit(1)
    code = _wait(child, time.monotonic() + limit.seconds + 3 * limit.input_seconds + 10)
    text = log.read_text(errors="replace")
    found = sorted({path for pattern in _FAILURES for path in folder.glob(pattern)} - before)
    said = ""
    if code or found:
        wanted = [line for line in text.splitlines() if line.strip() and not line.startswith(("#", "stat::", "INFO:"))]
        said = "\n".join([f"  ended with {code}", *(f"  {line[:300]}" for line in wanted[-25:])])
    return Outcome(target.name, _tried(text), said, tuple(found))


def fuzz_all(chosen: Sequence[Target], limit: Limits, folder: Path, *, jobs: int = 2) -> list[Outcome]:
    """Fuzz each of the targets, `jobs` of them at the same time."""
    with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        return list(pool.map(lambda target: fuzz(target, limit, folder / Path(target.name).name), chosen))


def again(target: Target, path: Path, input_seconds: int) -> bool:
    """Give the target one input; whether it did not fail. What it raises is printed."""
    _confine()
    signal.alarm(input_seconds)
    try:
        understood = target(path.read_bytes())
    except BaseException:  # noqa: BLE001  a failure is whatever it raises
        traceback.print_exc()
        return False
    print(f"{target.name}: {'understood' if understood else 'refused or empty'}, no failure")
    return True


def main(arguments: Sequence[str]) -> int:
    """Exit code: 0 no failure, 1 a failure, 2 wrong usage, 3 Atheris is not installed."""
    parser = argparse.ArgumentParser("tools/fuzz", description="Look for inputs that make a parser fail.")
    parser.add_argument("target", nargs="*", help="names of targets, or FILE.py:NAME; all without any")
    parser.add_argument("--list", action="store_true", help="print the names of all targets")
    parser.add_argument("--seconds", type=int, default=60, help="for each target (default 60)")
    parser.add_argument(
        "--input-seconds", type=int, default=INPUT_SECONDS, help=f"for one input (default {INPUT_SECONDS})"
    )
    parser.add_argument("--jobs", type=int, default=2, help="targets at the same time (default 2)")
    parser.add_argument("--input", type=Path, help="give this file to the target instead")
    parser.add_argument("--folder", type=Path, default=ROOT / ".fuzz", help="where inputs are kept (default .fuzz)")
    given = parser.parse_args(arguments)
    try:
        if given.list or given.input is not None:
            chosen = targets(given.target)
        else:
            import atheris

            # Atheris names every module that it instruments.
            with contextlib.redirect_stderr(io.StringIO()), atheris.instrument_imports(include=["tidewaiter"]):
                chosen = targets(given.target)
    except ImportError as error:
        print(f"{error}: Atheris comes with `tools/setup test` on Linux, x86-64", file=sys.stderr)
        return 3
    except KeyError as error:
        parser.error(f"there is no target {error}; `tools/fuzz --list` names them")
    if given.list:
        print("\n".join(target.name for target in chosen))
        return 0
    if given.input is not None:
        if len(given.target) != 1:
            parser.error("--input needs one target")
        return 0 if again(chosen[0], given.input, given.input_seconds) else 1
    outcomes = fuzz_all(chosen, Limits(given.seconds, given.input_seconds), given.folder, jobs=given.jobs)
    for outcome in outcomes:
        print(outcome)
    return 1 if any(outcome.failed for outcome in outcomes) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
