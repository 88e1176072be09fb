"""The command tree: descriptions are true, wrong calls are answered, nothing is imported before it is needed."""

import importlib
import inspect
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from image_builder import Tar, put_image
from tidewaiter.cli import app
from tidewaiter.cli.parameters import CommandLine
from tidewaiter.oci.layout import Layout

ALL = [
    *((name, command) for name, command in app.COMMANDS.items()),
    *((f"{group} {name}", command) for group, (_, rest) in app.GROUPS.items() for name, command in rest.items()),
]


@pytest.mark.parametrize(("name", "command"), ALL, ids=[name for name, _ in ALL])
def test_summary_is_the_first_line_of_the_docstring(name: str, command: app.Command) -> None:
    """What the list of commands says is what the command's own help page begins with."""
    module, _, function = command.target.partition(":")
    target = getattr(importlib.import_module(module), function)
    assert (inspect.getdoc(target) or "").splitlines()[0] == command.summary, name


@pytest.mark.parametrize(("name", "command"), ALL, ids=[name for name, _ in ALL])
def test_every_parameter_is_described(name: str, command: app.Command) -> None:
    """`Args:` of a command names each of its parameters and no other, and the help page can be made."""
    module, _, function = command.target.partition(":")
    target = getattr(importlib.import_module(module), function)
    described = {
        line.strip().partition(":")[0] for line in (inspect.getdoc(target) or "").partition("Args:\n")[2].splitlines()
    }
    assert inspect.signature(target).parameters.keys() <= described, name
    assert f"usage: tidewaiter {name} " in CommandLine(target, f"tidewaiter {name}").help()


def test_lists_of_commands(capsys: pytest.CaptureFixture[str]) -> None:
    """Without a command, and with --help, a level lists what it has; that is no error."""
    pages = []
    for words in ([], ["--help"], ["-h"]):
        assert app.run(words) == 0
        pages.append(capsys.readouterr().out)
    assert len(set(pages)) == 1
    assert all(f"\n  {name} " in pages[0] for name in (*app.COMMANDS, *app.GROUPS))
    assert app.run(["advisories"]) == 0
    page = capsys.readouterr().out
    assert all(f"\n  {name} " in page for name in app.GROUPS["advisories"][1])


@pytest.mark.parametrize(
    ("words", "message", "hint"),
    [
        (["inspcet", "x"], "there is no command 'inspcet'", "Did you mean inspect? `tidewaiter --help` lists all."),
        (["base", "lst"], "there is no command 'lst'", "Did you mean list? `tidewaiter base --help` lists all."),
        (["--verison"], "there is no option '--verison'", "Did you mean --version? `tidewaiter --help` lists all."),
        (["build"], "PROJECT is missing", "Give folder that holds tidewaiter.toml; see `tidewaiter build --help`."),
    ],
)
def test_wrong_calls(words: list[str], message: str, hint: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 2 and a next step, for people on stderr, for programs as one JSON document on stdout."""
    assert app.run(words) == 2
    assert capsys.readouterr().err == f"error: {message}\n  next: {hint}\n"
    for form in (["--format", "json"], ["--format=json"]):
        assert app.run([*words, *form]) == 2
        assert json.loads(capsys.readouterr().out) == {"error": {"code": "usage", "message": message, "next": hint}}


def test_a_command_leaves_modules_to_others_that_it_does_not_need(tmp_path: Path) -> None:
    """msgspec is imported without them; whoever needs them later can import them."""
    code = (
        "import sys; from tidewaiter.cli import app; app.run(['copy', 'oci:none', 'oci:to']);"
        "assert 'msgspec' in sys.modules and not {'typing_extensions', 'platform'} & sys.modules.keys();"
        "assert not {'msgspec.inspect', 'msgspec._json_schema', 'textwrap'} & sys.modules.keys();"
        "import platform, typing_extensions; assert platform.python_version();"
        "import msgspec; assert msgspec.json.schema(int) == {'type': 'integer'};"
        "assert msgspec.inspect.type_info(int) == msgspec.inspect.IntType();"
        "from msgspec.json import schema_components; assert callable(schema_components);"
        "assert not hasattr(msgspec, 'nothing') and not hasattr(msgspec.json, 'nothing')"
    )
    variables = {"PATH": "/usr/bin:/bin", "TIDEWAITER_HOME": str(tmp_path)}
    subprocess.run([sys.executable, "-c", code], check=True, env=variables)


def test_addresses_in_urls_are_understood_though_their_library_is_loaded_later(tmp_path: Path) -> None:
    """urllib.parse is imported without ipaddress, and asks it all the same for what stands in brackets."""
    code = """
import contextlib, sys
from tidewaiter import cli

cli._leave, sys.argv = (lambda codes: None), ["tidewaiter", "copy", "oci:none", "oci:to"]
with contextlib.suppress(SystemExit):
    cli.main()
assert "urllib.parse" in sys.modules and "ipaddress" not in sys.modules
from urllib.parse import urlsplit
assert urlsplit("http://[::1]:80/").hostname == "::1"
for wrong in ("http://[::z]/", "http://[127.0.0.1]/"):
    try:
        urlsplit(wrong)
    except ValueError:
        continue
    raise AssertionError(wrong)
import ipaddress
assert sys.modules["ipaddress"] is ipaddress and ipaddress.ip_address("::1").is_loopback
"""
    variables = {"PATH": "/usr/bin:/bin", "TIDEWAITER_HOME": str(tmp_path)}
    # Isolated: what a virtual environment loads at its start may bring the library along.
    code = f"import sys; sys.path[:0] = {sys.path!r}\n{code}"
    subprocess.run([sys.executable, "-I", "-S", "-c", code], check=True, env=variables, cwd=tmp_path)


def test_the_process_ends_after_all_that_a_command_left() -> None:
    """Threads end, what is registered for the end is called, output arrives whole, the exit code is the command's."""
    code = """
import atexit, threading, time
from tidewaiter.cli import app, main

def late():
    time.sleep(0.2)
    print("thread")

def run():
    atexit.register(print, "registered")
    threading.Thread(target=late).start()
    print("command")
    return 3

app.run = run
main()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env={})
    assert (done.returncode, done.stdout.split(), done.stderr) == (3, ["command", "thread", "registered"], "")


def _imported(home: Path, *arguments: str) -> set[str]:
    code = (
        "import sys; from tidewaiter.cli import app; app.run(sys.argv[1:]);"
        "print(*sorted({name.partition('.')[0] for name in sys.modules}), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True,
        text=True,
        check=True,
        env={"PATH": "/usr/bin:/bin", "TIDEWAITER_HOME": str(home)},
    )
    return set(done.stderr.splitlines()[-1].split())


HEAVY = {
    "alembic",
    "asyncio",
    "cryptography",
    "fastapi",
    "jinja2",
    "pydantic",
    "regorus",
    "rich",
    "sqlalchemy",
    "uvicorn",
}


def test_version_imports_nothing_but_the_standard_library(tmp_path: Path) -> None:
    """`--version` answers before any third-party library, and before argparse, is loaded."""
    assert not _imported(tmp_path, "--version") & {*HEAVY, "argparse", "httpx2", "msgspec"}


@pytest.mark.parametrize("words", [["--help"], ["base"]], ids=" ".join)
def test_lists_import_no_command(words: list[str], tmp_path: Path) -> None:
    """The list of commands is printed without any module of a command."""
    assert not _imported(tmp_path, *words) & {*HEAVY, "argparse", "httpx2"}


def test_only_help_loads_what_lays_out_help(tmp_path: Path) -> None:
    """A command that is refused, as one that runs, reads its words without argparse."""
    home = str(tmp_path)
    assert "argparse" not in _imported(tmp_path, "copy", f"oci:{home}/none", f"oci:{home}/to")
    assert "argparse" in _imported(tmp_path, "copy", "--help")


@pytest.mark.parametrize("command", ["build", "copy", "exec", "inspect", "pull", "sbom", "scan"])
def test_a_command_starts_without_what_it_may_not_need(command: str, tmp_path: Path) -> None:
    """Database, engine, server, progress bars and other commands are loaded when they are used, not before."""
    assert not _imported(tmp_path, command, "--help") & HEAVY


@pytest.mark.parametrize("buffered", [True, False], ids=["buffered", "unbuffered"])
@pytest.mark.parametrize("words", ["--version", "--help", "lint --help"])
def test_a_page_that_nobody_reads_is_no_fault(words: str, buffered: bool, tmp_path: Path) -> None:
    """The reader of a page may leave before it is written; a page that cannot be written is an error."""
    environment = {"TIDEWAITER_HOME": str(tmp_path / "home"), **({} if buffered else {"PYTHONUNBUFFERED": "1"})}
    command = [sys.executable, "-m", "tidewaiter", *words.split()]
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as gone:
        done = subprocess.run(command, check=False, stdout=gone, stderr=subprocess.PIPE, env=environment, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(command, check=False, stdout=full, stderr=subprocess.PIPE, env=environment, text=True)
    assert done.returncode == 3
    assert done.stderr.startswith("error: cannot write a file: the disk is full\n")


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_streams_are_no_fault(closed: str, tmp_path: Path) -> None:
    """Nobody reads what is printed into a closed stream; the exit code is still the answer."""
    command = f'"$1" -m tidewaiter contents "oci:$2" {closed}'
    put_image(Layout(tmp_path / "layout"), [Tar().file("a", b"1").bytes()], name="t")
    for place, code in (("layout", 0), ("none", 2)):
        told = subprocess.run(
            ["bash", "-c", command, "bash", sys.executable, str(tmp_path / place)],
            env={"TIDEWAITER_HOME": str(tmp_path / "home")},
            check=False,
            capture_output=True,
            timeout=120,
        )
        assert told.returncode == code, told
