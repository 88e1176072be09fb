"""Fuzzing finds what is wrong, keeps the input and says how to give it again; every parser is fuzzed for seconds."""

import os
import subprocess
import sys
from pathlib import Path

import fuzz_run
import pytest

BAD = Path(__file__).with_name("bad_parsers.py")
SECONDS = 1
"""For each target, of some 70, two at a time: in 90 seconds all are done. libFuzzer rounds up."""


@pytest.fixture(scope="module")
def _atheris() -> None:
    """Skips where there is no Atheris for the platform; in CI that is a failure."""
    try:
        import atheris  # noqa: F401
    except ImportError:
        if os.environ.get("CI") == "true":
            pytest.fail("Atheris is not installed")
        pytest.skip("Atheris is not installed; it comes with `tools/setup test` on Linux, x86-64")


def fuzz(*arguments: object, timeout: float = 200) -> subprocess.CompletedProcess[str]:
    program = Path(fuzz_run.__file__)
    return subprocess.run(
        [sys.executable, program, *map(str, arguments)], capture_output=True, text=True, check=False, timeout=timeout
    )


@pytest.mark.interop
@pytest.mark.usefixtures("_atheris")
@pytest.mark.parametrize(("name", "said"), [("RAISES", "KeyError"), ("HANGS", "timeout"), ("GROWS", "MemoryError")])
def test_a_failing_parser_is_found_and_fails_again(tmp_path: Path, name: str, said: str) -> None:
    """An undocumented exception, an endless input and one that needs much memory each fail, with the input kept."""
    found = fuzz(f"{BAD}:{name}", "--seconds", 30, "--input-seconds", 2, "--folder", tmp_path)
    assert found.returncode == 1, found.stderr
    assert said in found.stdout
    (again,) = [line for line in found.stdout.splitlines() if "again: tools/fuzz" in line]
    *_, path = again.split()
    assert fuzz(f"{BAD}:{name}", "--input", path, "--input-seconds", 2).returncode != 0


@pytest.mark.thorough
def test_one_input_is_given_again(tmp_path: Path) -> None:
    """`--input` says whether a file makes the target fail, without Atheris; 0 only when it does not."""
    (tmp_path / "good").write_bytes(b"sha256:" + b"0" * 64)
    assert fuzz("digest", "--input", tmp_path / "good").stdout == "digest: understood, no failure\n"
    (tmp_path / "bad").write_bytes(b"\x21abc")
    failed = fuzz(f"{BAD}:RAISES", "--input", tmp_path / "bad")
    assert (failed.returncode, "KeyError" in failed.stderr) == (1, True)
    assert fuzz("no-such-target", "--input", tmp_path / "bad").returncode == 2


@pytest.mark.interop
@pytest.mark.usefixtures("_atheris")
def test_no_parser_fails_in_some_seconds_of_fuzzing(tmp_path: Path) -> None:
    """Every target, from its seeds, for a bounded time; `make fuzz` goes on for longer."""
    done = fuzz("--seconds", SECONDS, "--folder", tmp_path, timeout=400)
    assert done.returncode == 0, done.stdout + done.stderr
    tried = [int(line.split(": ")[1].split()[0]) for line in done.stdout.splitlines()]
    assert len(tried) == len(fuzz_run.targets())
    assert min(tried) > 0
