"""Dispatch: which module serves which command, and how errors become messages and exit codes.

Exit codes: 0 done or allowed; 1 a negative answer; 2 wrong usage or bad input; 3 could not find out;
130 interrupted.
"""

import contextlib
import itertools
import signal
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple, NoReturn

import tidewaiter
from tidewaiter.core.errors import InputError, TidewaiterError, UndeterminedError

if TYPE_CHECKING:
    import cyclopts


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
    "sbom": Command("tidewaiter.cli.look:sbom", "Write the software bill of materials of an image."),
    "scan": Command("tidewaiter.cli.look:scan", "Match the packages of an image with the advisories of this home."),
    "check": Command(
        "tidewaiter.cli.check:check",
        "Decide whether an image may go to an environment, and say what to change when it may not.",
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
            "list": Command("tidewaiter.cli.base:list_bases", "List the recipes that a project can name."),
            "update": Command(
                "tidewaiter.cli.base:update",
                "Lock the newest Debian packages for a project's base and show what changes.",
            ),
        },
    ),
    "advisories": (
        "Known vulnerabilities: where the data comes from and how old it is.",
        {
            "import": Command("tidewaiter.cli.advisories:import_feed", "Import advisories in OSV format."),
            "update": Command("tidewaiter.cli.advisories:update", "Fetch the current advisories from the OSV mirror."),
            "status": Command(
                "tidewaiter.cli.advisories:status", "Show which ecosystems have advisory data, and how old it is."
            ),
        },
    ),
    "policy": (
        "Rules.",
        {"test": Command("tidewaiter.cli.check:policy_test", "Run the tests that lie beside the rules.")},
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


def _lists_commands(words: Sequence[str]) -> bool:
    """Whether the answer will be a list of commands, for which nothing should be imported."""
    rest = words[1:] if words and words[0] in GROUPS else words
    return not rest or rest[0] in _HELP


def build_app(words: Sequence[str] = ()) -> "cyclopts.App":
    """The whole command tree for the command line `words`; nothing of the house is imported yet."""
    import cyclopts

    settings: dict[str, object] = {"help_format": "plaintext", "result_action": "return_value"}
    app = cyclopts.App(
        name="tidewaiter",
        version=tidewaiter.__version__,
        help="Governs AI container images from the commit to the running container.",
        suppress_keyboard_interrupt=False,
        exit_on_error=False,
        print_error=False,
        **settings,  # type: ignore[arg-type]  # shared by every level
    )
    brief = _lists_commands(words)

    def add(parent: cyclopts.App, name: str, command: Command) -> None:
        # A command's own help page shows its whole docstring; only lists show the summary.
        if brief:
            parent.command(command.target, name=name, help=command.summary)
        else:
            parent.command(command.target, name=name)

    for name, command in COMMANDS.items():
        add(app, name, command)
    for name, (description, commands) in GROUPS.items():
        group = cyclopts.App(name=name, help=description, **settings)  # type: ignore[arg-type]  # as above
        for subcommand, command in commands.items():
            add(group, subcommand, command)
        app.command(group)
    return app


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
    if type(error).__module__.partition(".")[0] == "cyclopts":
        return InputError(
            str(error).strip(), next_step="Run `tidewaiter --help` to see how it is called.", code="usage"
        )
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


def run(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if words == ["--version"]:
        sys.stdout.write(tidewaiter.__version__ + "\n")
        return 0
    signal.signal(signal.SIGTERM, _terminated)
    try:
        result = build_app(words)(words or ["--help"])
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
