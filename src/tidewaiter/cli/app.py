"""Dispatch: which module serves which command, and how errors become messages and exit codes.

Exit codes: 0 done or allowed; 1 a negative answer; 2 wrong usage or bad input; 3 could not find out;
130 interrupted.
"""

import contextlib
import itertools
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, NoReturn

import tidewaiter
from tidewaiter.core.errors import TidewaiterError, UndeterminedError

SUMMARY = "Governs AI container images from the commit to the running container."


class Command(NamedTuple):
    """Where a command's function is, as `module:function` (imported when it runs), and its one-line description."""

    target: str
    summary: str


COMMANDS: dict[str, Command] = {
    "lock": Command("tidewaiter.cli.build:lock", "Resolve the requirements of a project anew and write pylock.toml."),
    "build": Command("tidewaiter.cli.build:build", "Build the image of a project into the local store."),
    "ci": Command("tidewaiter.cli.ci:ci", "Build, inspect, match, decide, sign and clear the image of a project."),
    "inspect": Command(
        "tidewaiter.cli.look:inspect",
        "Show what is in an image: platform, user, entry point, layers, packages with licences.",
    ),
    "contents": Command(
        "tidewaiter.cli.compare:contents",
        "Show the files of an image as a tree by size, and the layers that they came from.",
    ),
    "diff": Command(
        "tidewaiter.cli.compare:diff", "Show what changed between two images: packages, files, size, facts."
    ),
    "sbom": Command("tidewaiter.cli.look:sbom", "Write the software bill of materials of an image."),
    "scan": Command("tidewaiter.cli.scan:scan", "Match the packages of an image with the advisories of this home."),
    "check": Command(
        "tidewaiter.cli.check:check",
        "Decide whether an image may go to an environment, and say what to change when it may not.",
    ),
    "affected": Command(
        "tidewaiter.cli.affected:affected",
        "Show which package versions and images an advisory touches, or a package is in.",
    ),
    "sign": Command("tidewaiter.cli.trust:sign", "Sign an image of the store in cosign's format."),
    "verify": Command("tidewaiter.cli.trust:verify", "Check the signature of an image."),
    "push": Command("tidewaiter.cli.ship:push", "Push a cleared image of the store, and its signature, to a registry."),
    "pull": Command("tidewaiter.cli.ship:pull", "Put an image of a registry, a layout or an archive into the store."),
    "copy": Command(
        "tidewaiter.cli.ship:copy", "Copy an image between registries, layouts, archives and the store, byte for byte."
    ),
    "export": Command(
        "tidewaiter.cli.ship:export",
        "Write an image into a file that `docker load`, `ctr images import`, podman and skopeo read.",
    ),
    "exec": Command(
        "tidewaiter.cli.execute:execute",
        "Run a command in an image: its user and environment, a read-only root, no network.",
    ),
    "serve": Command("tidewaiter.cli.serve:serve", "Serve the catalog's pages and its JSON until interrupted."),
}

GROUPS: dict[str, tuple[str, dict[str, Command]]] = {
    "base": (
        "Bases: what images stand on.",
        {
            "build": Command("tidewaiter.cli.base:build", "Build a base alone into the store and list it there."),
            "list": Command(
                "tidewaiter.cli.base:list_bases", "List recipes, and the bases that were built, approved or retired."
            ),
            "update": Command(
                "tidewaiter.cli.base:update",
                "Lock the newest Debian packages for a base; show what changes and which images rest on it.",
            ),
            "approve": Command("tidewaiter.cli.base:approve", "Approve a base by name and digest."),
            "retire": Command("tidewaiter.cli.base:retire", "Retire a base and name the images that rest on it."),
            "rebase": Command(
                "tidewaiter.cli.base:rebase", "Put another base below an image of the store, without rebuilding it."
            ),
        },
    ),
    "advisories": (
        "Known vulnerabilities: where the data comes from and how old it is.",
        {
            "import": Command(
                "tidewaiter.cli.advisories:import_feed", "Import advisories (OSV), the KEV catalogue or EPSS scores."
            ),
            "update": Command("tidewaiter.cli.advisories:update", "Fetch current advisories, KEV and EPSS."),
            "status": Command(
                "tidewaiter.cli.advisories:status", "Show which ecosystems have advisory data, and how old it is."
            ),
        },
    ),
    "policy": (
        "Rules.",
        {
            "test": Command("tidewaiter.cli.policy:run_tests", "Run the tests that lie beside the rules."),
            "bundle": Command("tidewaiter.cli.policy:write_bundle", "Write a policy pack as an OPA bundle."),
            "explain": Command(
                "tidewaiter.cli.policy:explain_image",
                "Show how each rule answers about an image: where it stands, and on which values.",
            ),
        },
    ),
    "waiver": (
        "Exceptions from rules and advisories: somebody answers for each, somebody else has read it, and it ends.",
        {
            "request": Command(
                "tidewaiter.cli.waiver:request",
                "Ask for an exception from one advisory or one rule; it counts once somebody has approved it.",
            ),
            "approve": Command(
                "tidewaiter.cli.waiver:approve",
                "Approve a waiver; for production by somebody who neither asked for it nor answers for it.",
            ),
            "revoke": Command(
                "tidewaiter.cli.waiver:revoke", "Revoke a waiver, for good; the next decision does without it."
            ),
            "show": Command(
                "tidewaiter.cli.waiver:show",
                "Show one waiver: what it is about, and who asked for, approved and revoked it.",
            ),
            "list": Command(
                "tidewaiter.cli.waiver:list_waivers",
                "List waivers that are asked for or in force, the one that ends first first.",
            ),
        },
    ),
    "cache": (
        "What can be had again: downloads, unpacked bases, layers that no image needs.",
        {
            "status": Command(
                "tidewaiter.cli.cache:status",
                "Show what lies in the cache and in the store, and the bound of the cache.",
            ),
            "prune": Command(
                "tidewaiter.cli.cache:prune",
                "Remove cached things, least recently used first, until the cache is within its bound.",
            ),
        },
    ),
    "key": (
        "Keys that sign.",
        {
            "generate": Command(
                "tidewaiter.cli.trust:key_generate", "Make a key pair in cosign's format, marked `local`."
            ),
            "list": Command("tidewaiter.cli.trust:key_list", "List the keys of this home."),
        },
    ),
}
"""Command groups: description, then subcommands."""

_HELP = ("--help", "-h")


def _list(call: str, description: str, commands: Mapping[str, str]) -> None:
    """Print the help page of a level that only leads to commands; nothing is imported for it."""
    import shutil
    import textwrap

    width = min(120, shutil.get_terminal_size().columns) - 2
    indent = max(map(len, commands)) + 4
    lines = [f"usage: {call} COMMAND", "", description, "", "commands:"]
    for name, summary in sorted(commands.items()):
        first = f"  {name}".ljust(indent)
        lines += textwrap.wrap(
            summary, width, initial_indent=first, subsequent_indent=" " * indent, break_on_hyphens=False
        )
    lines += ["", f"`{call} COMMAND --help` describes a command, `tidewaiter --version` prints the version."]
    sys.stdout.write("\n".join(lines) + "\n")


def _summaries(commands: Mapping[str, Command]) -> dict[str, str]:
    return {name: command.summary for name, command in commands.items()}


def _import_msgspec() -> None:
    """Import msgspec without typing_extensions, as it is imported where that is not installed.

    It would take three names from there that Python has too, and a third of the time that its import takes.
    """
    if "typing_extensions" in sys.modules:
        return
    sys.modules["typing_extensions"] = None  # type: ignore[assignment]  # what Python documents for "not importable"
    try:
        import msgspec  # noqa: F401
    finally:
        del sys.modules["typing_extensions"]


def _call(command: Command, call: str, words: Sequence[str]) -> object:
    """Import the command's module, and only that, and run its function with what the words say."""
    from importlib import import_module

    from tidewaiter.cli.parameters import CommandLine

    _import_msgspec()
    module, _, name = command.target.partition(":")
    function = getattr(import_module(module), name)
    line = CommandLine(function, call)
    parsed = line.parse(words)
    if parsed is None:
        sys.stdout.write(line.help())
        return 0
    arguments, options = parsed
    return function(*arguments, **options)


def _dispatch(words: Sequence[str]) -> object:
    """What the command that `words` names returns."""
    call, description, commands = "tidewaiter", SUMMARY, COMMANDS
    listed = _summaries(COMMANDS) | {name: summary for name, (summary, _) in GROUPS.items()}
    if words and words[0] in GROUPS:
        description, commands = GROUPS[words[0]]
        call, listed, words = f"tidewaiter {words[0]}", _summaries(commands), words[1:]
    if not words or words[0] in _HELP:
        _list(call, description, listed)
        return 0
    if words[0] in commands:
        return _call(commands[words[0]], f"{call} {words[0]}", words[1:])

    from tidewaiter.cli.parameters import unknown

    what = "option" if words[0].startswith("-") else "command"
    raise unknown(what, words[0], [*listed, *_HELP, "--version"], f"{call} --help")


def _wants_json(arguments: Sequence[str]) -> bool:
    return "--format=json" in arguments or any(pair == ("--format", "json") for pair in itertools.pairwise(arguments))


def _report(error: TidewaiterError, arguments: Sequence[str]) -> int:
    from tidewaiter.cli import console

    if _wants_json(arguments):
        try:
            console.emit_json({"error": {"code": error.code, "message": error.message, "next": error.next_step}})
        except (OSError, AttributeError):  # stdout is full or closed, which may be the very error
            pass
        else:
            return error.exit_code
    with contextlib.suppress(OSError):  # what is left in the buffer must not change the exit code at the very end
        console.finish()
    word = "denied" if error.exit_code == 1 else "error"
    console.tell(f"{word}: {error.message}\n  next: {error.next_step}")
    return error.exit_code


def _translate(error: Exception) -> TidewaiterError:
    """A `TidewaiterError` for anything that a room let through."""
    if isinstance(error, TidewaiterError):
        return error
    if isinstance(error, OSError):
        from tidewaiter.core.durable import storage_error

        return storage_error(error, str(error.filename or "a file"))
    return UndeterminedError(
        f"unexpected {type(error).__name__}: {error}",
        next_step="This is a fault of tidewaiter. Run again with TIDEWAITER_TRACE=1 and report what it prints.",
        code="unexpected",
    )


def _finish() -> None:
    from tidewaiter.cli import console

    console.finish()


def _terminated(_signal: int, _frame: object) -> NoReturn:
    raise KeyboardInterrupt


def _open_streams() -> None:
    """Give closed standard streams an end that leads nowhere.

    Python has no stdout or stderr when they were closed before it ran, and a file that is opened later would take
    their number: a child's pipe then lands in its place, and what a library prints in the file.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number, which is this one
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115  # open to the end


def run(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    _open_streams()
    if words[:1] == ["--version"]:
        sys.stdout.write(tidewaiter.__version__ + "\n")
        return 0
    signal.signal(signal.SIGTERM, _terminated)
    try:
        result = _dispatch(words)
        _finish()
    except KeyboardInterrupt:
        sys.stderr.write("interrupted; what was finished is kept, run the same command to go on\n")
        return 130
    except Exception as error:  # the one place where any error becomes a message
        from tidewaiter.core import settings

        if settings.tracing():
            raise
        return _report(_translate(error), words)
    return result if isinstance(result, int) else 0
