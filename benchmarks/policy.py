"""Verdicts on an image of 300 packages: the embedded engine beside a real OPA, in the same run.

    python benchmarks/policy.py [--runs 300] [--opa opa]

One process, one question at a time: document to JSON, through the pipe, rules, results, verdict. The document is made
here: 200 Python and 100 Debian packages with licences, 12 findings; the goal is 5 ms for 99 of 100 verdicts. Without an
OPA on PATH (or named), the embedded engine runs alone and says so.
"""

import argparse
import os
import shutil
import statistics
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import msgspec

from tidewaiter.oci import digest as digests
from tidewaiter.policy.adapt import NOTHING_KNOWN
from tidewaiter.policy.engine import EmbeddedEngine, Engine
from tidewaiter.policy.input import (
    NO_BASE,
    AdvisoriesInput,
    FeedInput,
    FindingInput,
    FrameworkInput,
    ImageInput,
    PackagesInput,
    PolicyInput,
    ProgramInput,
    SettingsInput,
)
from tidewaiter.policy.mentions import Needs
from tidewaiter.policy.opa import OpaEngine
from tidewaiter.policy.pack import default_pack
from tidewaiter.policy.verdict import decide

_GOAL = 0.005
_WARM = 20
_NOW = "2026-01-31T12:00:00Z"


def _findings() -> Iterator[FindingInput]:
    for number in range(12):
        name = f"python-package-{number * 7}"
        yield FindingInput(
            advisory=f"PYSEC-2025-{number}",
            aliases=(f"CVE-2025-{10000 + number}", f"GHSA-aaaa-bbbb-{number:04}"),
            purl=f"pkg:pypi/{name}@1.2.{number}",
            kind="python",
            name=name,
            version=f"1.2.{number}",
            severity=("critical", "high", "medium", "low")[number % 4],
            fixed_in=("2.0",) if number % 2 else (),
            upgrade_to="2.0" if number % 2 else "",
            waived_by="",
            kev=number == 1,
            epss=number / 20,
            epss_percentile=number / 12,
        )


def document(number: int) -> PolicyInput:
    """An image of 300 packages; `number` makes it another one."""
    python: dict[str, tuple[str, ...]] = {f"python-package-{index}": (f"1.2.{index}",) for index in range(200)}
    deb: dict[str, tuple[str, ...]] = {f"lib-debian-{index}": (f"2.36-9+deb12u{index}",) for index in range(100)}
    licenses = ("MIT", "BSD-3-Clause", "Apache-2.0", "MIT OR Apache-2.0", "LGPL-2.1-or-later", "GPL-2.0-only")
    names = (*python, *deb)
    return PolicyInput(
        now=_NOW,
        environment="production",
        image=ImageInput(
            reference=f"team/image:{number:012x}",
            name="team/image",
            tag=f"{number:012x}",
            pinned=False,
            digest=digests.parse("sha256:" + "a" * 64),
            user="65532",
            runs_as_root=False,
            entrypoint=("python", "/app/main.py"),
            cmd=(),
            exposed_ports=("8501/tcp",),
            labels={"org.opencontainers.image.title": "image", "team": "vision"},
            annotations={},
            created=_NOW,
            dirty=False,
            builder="local",
        ),
        base=NO_BASE,
        programs=(ProgramInput(path="/bin/sh", kind="shell"),),
        exposed=(),
        attached=NOTHING_KNOWN,
        framework=FrameworkInput(
            tensorflow="2.18.0",
            python="3.11.2",
            cuda="",
            cudnn="",
            serving="",
            least_driver="",
            tested="yes",
            tested_reason="",
            nearest_tested="",
            conflicts=(),
        ),
        packages=PackagesInput(
            python=python, deb=deb, licenses={one: names[place::6] for place, one in enumerate(licenses)}
        ),
        findings=tuple(_findings()),
        not_checked=(),
        advisories=AdvisoriesInput(revision="r", feeds=(FeedInput(ecosystem="PyPI", as_of=_NOW, age_days=0),)),
        settings=SettingsInput(registered_builders=()),
    )


def _processor_seconds() -> float:
    """Of this process and everything below it; a busy machine does not make it longer."""
    ticks, waiting = 0, [os.getpid()]
    while waiting:
        process = Path(f"/proc/{waiting.pop()}")
        ticks += sum(map(int, (process / "stat").read_text().rpartition(")")[2].split()[11:13]))
        for thread in (process / "task").iterdir():
            waiting += map(int, (thread / "children").read_text().split())
    return ticks / os.sysconf("SC_CLK_TCK")


def measure(engine: Engine, runs: int) -> list[float]:
    """Seconds of each verdict, after some that do not count."""
    for number in range(_WARM):
        decide(document(number), engine)
    seconds = []
    for number in range(runs):
        question = document(number)
        started = time.perf_counter()
        verdict = decide(question, engine)
        seconds.append(time.perf_counter() - started)
        if verdict.undetermined or verdict.allowed:
            raise SystemExit(f"this is not what the rules say: {verdict}")
    return seconds


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description="Verdicts on 300 packages, embedded and by a real OPA.")
    parser.add_argument("--runs", type=int, default=300)
    parser.add_argument("--opa", default="opa")
    arguments = parser.parse_args()
    pack, program = default_pack(), shutil.which(arguments.opa)
    sizes = [len(msgspec.json.encode(one)) for one in (document(0), Needs(pack).of(document(0)))]
    print(f"document of 300 packages: {sizes[0]} bytes, of which an engine is sent {sizes[1]}")
    with ExitStack() as stack:
        engines: dict[str, Engine] = {"embedded": stack.enter_context(EmbeddedEngine(pack))}
        if program is None:
            print(f"opa: not measured, there is no program {arguments.opa!r}")
        else:
            engines["opa"] = stack.enter_context(OpaEngine(pack, Path(program)))
        medians = {}
        for name, engine in engines.items():
            started = _processor_seconds()
            seconds = sorted(measure(engine, arguments.runs))
            work = (_processor_seconds() - started) / (arguments.runs + _WARM)
            medians[name] = statistics.median(seconds)
            slow = seconds[int(len(seconds) * 0.99)]
            print(
                f"{name}: p50 {medians[name] * 1000:.2f} ms, p99 {slow * 1000:.2f} ms (goal {_GOAL * 1000:.0f} ms), "
                f"processor time {work * 1000:.2f} ms a verdict"
            )
    if "opa" in medians:
        print(f"opa / embedded: {medians['opa'] / medians['embedded']:.1f} (p50)")


if __name__ == "__main__":
    main()
