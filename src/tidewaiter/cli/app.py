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
from types import ModuleType
from typing import NoReturn

import tidewaiter
from tidewaiter.core.errors import TidewaiterError, UndeterminedError

SUMMARY = "Governs AI container images from the commit to the running container."


class Command:
    """Where a command's function is, as `module:function` (imported when it runs), and its one-line description.

    A plain class: making a named tuple takes longer than all that is done with it here.
    """

    __slots__ = ("summary", "target")

    def __init__(self, target: str, summary: str) -> None:
        self.target = target
        self.summary = summary


COMMANDS: dict[str, Command] = {
    "init": Command(
        "tidewaiter.cli.init:init", "Make a project of a folder: write its tidewaiter.toml, locks, ignore and CI files."
    ),
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
        "Show what an advisory touches, or a package is in: versions, images, what runs of them; and what to bump.",
    ),
    "trace": Command(
        "tidewaiter.cli.trace:trace",
        "Show where a thing comes from, and what it reaches.",
    ),
    "verdicts": Command(
        "tidewaiter.cli.trace:verdicts",
        "Show the verdicts of an image that stand, or stood on a day, and the waivers that were in force then.",
    ),
    "sign": Command("tidewaiter.cli.trust:sign", "Sign an image of the store or of a registry in cosign's formats."),
    "attest": Command(
        "tidewaiter.cli.trust:attest",
        "Attest something of an image of the store or of a registry: a JSON document, signed and attached.",
    ),
    "verify": Command(
        "tidewaiter.cli.trust:verify",
        "Check the signature of an image, what is attested of it, or all that a trust policy demands.",
    ),
    "push": Command(
        "tidewaiter.cli.ship:push",
        "Push a cleared image of the store, with its signatures and attestations, to a registry.",
    ),
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
    "lint": Command(
        "tidewaiter.cli.lint:lint",
        "Find mistakes in Dockerfiles, Kubernetes and Compose YAML, requirements, shell and Python scripts.",
    ),
    "analyse": Command(
        "tidewaiter.cli.analyse:analyse",
        "Look at the sources of a project before a build: mistakes, secrets, packages that strangers could answer for.",
    ),
    "rebuild": Command(
        "tidewaiter.cli.rebuild:rebuild",
        "Build an image again from what its provenance says, and compare the digests.",
    ),
    "advise": Command(
        "tidewaiter.cli.advise:advise",
        "Say which image of TensorFlow fits a task, why, and what to write; or what a tag is good for.",
    ),
    "whoami": Command(
        "tidewaiter.cli.whoami:whoami",
        "Show as whom the server knows you: name, roles by project, and what a token is limited to.",
    ),
    "doctor": Command(
        "tidewaiter.cli.doctor:doctor",
        "Look for what is wrong: settings, tools, disk, clock, databases, advisories, keys, images.",
    ),
    "serve": Command("tidewaiter.cli.serve:serve", "Serve the catalog's pages and the API until interrupted."),
    "worker": Command(
        "tidewaiter.cli.worker:worker",
        "Carry out runs of pipelines until interrupted; their steps end where they are, and others go on with them.",
    ),
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
    "report": (
        "Figures about all images.",
        {
            "lead-times": Command(
                "tidewaiter.cli.report:lead_times",
                "Show how long images take from their commit to being cleared, and to being first seen running.",
            ),
        },
    ),
    "environment": (
        "Environments: which repositories and namespaces belong to which, as settings say.",
        {
            "list": Command(
                "tidewaiter.cli.environment:list_environments",
                "List the patterns that say which environment repositories and namespaces belong to.",
            ),
            "of": Command(
                "tidewaiter.cli.environment:of", "Show which environment a repository or a namespace belongs to."
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
    "pipeline": (
        "Runs that workers carry out, and that survive any crash.",
        {
            "run": Command(
                "tidewaiter.cli.pipeline:run",
                "Ask for a run of a pipeline, which a worker carries out: `clear` of a project or commit, or `sweep`.",
            ),
            "list": Command("tidewaiter.cli.pipeline:list_runs", "List runs, the last that was asked for first."),
            "show": Command(
                "tidewaiter.cli.pipeline:show", "Show a run: how far it is, what its steps took, what came of it."
            ),
            "log": Command("tidewaiter.cli.pipeline:log", "Print what a run said: moment, step, text, a line each."),
            "cancel": Command(
                "tidewaiter.cli.pipeline:cancel",
                "Cancel a run: one that waits has ended at once, one that runs ends as soon as its step can.",
            ),
            "retry": Command(
                "tidewaiter.cli.pipeline:retry",
                "Ask anew for what a run that has ended was to do; what that one made is not made twice.",
            ),
        },
    ),
    "webhook": (
        "Who is told what happened, by signed messages.",
        {
            "add": Command(
                "tidewaiter.cli.webhook:add",
                "Have an address told what happens from now on, by signed messages; a running `serve` sends them.",
            ),
            "list": Command("tidewaiter.cli.webhook:list_webhooks", "List who is told what, the oldest first."),
            "test": Command(
                "tidewaiter.cli.webhook:send_test", "Send a message now that says nothing but that it is a test."
            ),
            "rotate": Command(
                "tidewaiter.cli.webhook:rotate", "Make a new secret; messages are signed with both for a day."
            ),
            "enable": Command(
                "tidewaiter.cli.webhook:enable",
                "Tell an address again what happens, from now on, after it was disabled.",
            ),
            "remove": Command(
                "tidewaiter.cli.webhook:remove", "Tell an address nothing any more, and forget what was sent to it."
            ),
            "deliveries": Command(
                "tidewaiter.cli.webhook:deliveries",
                "List what was sent, or is to be sent, the latest first, and what came of it.",
            ),
            "redeliver": Command(
                "tidewaiter.cli.webhook:redeliver",
                "Send a message again, under the same id, for a day from now; a running `serve` does.",
            ),
        },
    ),
    "notice": (
        "Who is told in words what happened: rooms of chat services, mail.",
        {
            "list": Command(
                "tidewaiter.cli.notice:list_notices",
                "List who is told of what, as the settings say, and how many notices wait.",
            ),
            "test": Command(
                "tidewaiter.cli.notice:send_test", "Send a message now that says nothing but that it is a test."
            ),
        },
    ),
    "audit": (
        "The log of every change that nobody can rewrite: who did what, when.",
        {
            "verify": Command(
                "tidewaiter.cli.audit:verify",
                "Find out whether an entry was edited, removed, moved or inserted, or a row that the log speaks of.",
            ),
            "prove": Command(
                "tidewaiter.cli.audit:prove",
                "Prove to somebody who has nothing but the log's public key that an entry is in it.",
            ),
            "export": Command(
                "tidewaiter.cli.audit:export",
                "Write the log into a folder that any web server can serve (C2SP tlog-tiles); a later export goes on.",
            ),
            "checkpoint": Command(
                "tidewaiter.cli.audit_witness:show_checkpoint",
                "Print the signed checkpoint of the log with the signatures of witnesses, or the request for one.",
            ),
            "cosign": Command(
                "tidewaiter.cli.audit_witness:cosign",
                "Be the witness of another log: sign its checkpoint when it goes on from the last one that was signed.",
            ),
            "accept": Command(
                "tidewaiter.cli.audit_witness:accept",
                "Keep what a witness signed of this log, once it is verified.",
            ),
            "list": Command(
                "tidewaiter.cli.audit:list_entries", "List the last entries: what was done, to what, by whom."
            ),
        },
    ),
    "backup": (
        "A home in one file.",
        {
            "create": Command(
                "tidewaiter.cli.backup:create",
                "Write a backup of the home into one file, while others may go on working in it.",
            ),
            "restore": Command(
                "tidewaiter.cli.backup:restore",
                "Make the home of a backup: everything in it is verified before anything can be seen.",
            ),
        },
    ),
    "catalog": (
        "What this home knows of images, wherever they lie.",
        {
            "sync": Command(
                "tidewaiter.cli.catalog:sync",
                "Take in what lies in registries, layouts and archives: images, what is in them, tags.",
            ),
            "list": Command(
                "tidewaiter.cli.catalog:list_images",
                "List images by repository, tag, finding or environment; or what is odd about them.",
            ),
            "show": Command("tidewaiter.cli.catalog:show", "Show what is known of an image, and where it lies."),
        },
    ),
    "workload": (
        "What runs where, as it was recorded.",
        {
            "record": Command(
                "tidewaiter.cli.workload:record",
                "Record which image a workload runs; what it ran before is gone then, and stays in its history.",
            ),
            "list": Command(
                "tidewaiter.cli.workload:list_workloads",
                "List what runs, by cluster, namespace and name; and whether its image is allowed in its environment.",
            ),
        },
    ),
    "model": (
        "Which image serves which model version, as it was recorded.",
        {
            "record": Command(
                "tidewaiter.cli.model:record",
                "Record which image serves a model version; what did before no longer does, and stays in its history.",
            ),
            "list": Command("tidewaiter.cli.model:list_models", "List model versions and the images that serve them."),
        },
    ),
    "owner": (
        "Who answers for what.",
        {
            "record": Command(
                "tidewaiter.cli.owner:record",
                "Record who answers for something from now on; without OWNER nobody does. The nearest owner counts.",
            ),
            "list": Command("tidewaiter.cli.owner:list_owners", "List who answers for what."),
        },
    ),
    "user": (
        "Who may log in to the server of this home.",
        {
            "add": Command("tidewaiter.cli.user:add", "Add a user, and print a one-time password for it, once."),
            "list": Command("tidewaiter.cli.user:list_users", "List the users and their roles."),
            "disable": Command(
                "tidewaiter.cli.user:disable", "Let a user in no more: sessions end, tokens do nothing."
            ),
            "enable": Command("tidewaiter.cli.user:enable", "Let a disabled user in again."),
            "password": Command(
                "tidewaiter.cli.user:password", "Give a user another password; it is logged out everywhere."
            ),
            "grant": Command("tidewaiter.cli.user:grant", "Give a user a role."),
            "revoke": Command("tidewaiter.cli.user:revoke", "Take a role from a user that `grant` gave it."),
        },
    ),
    "token": (
        "API tokens for the server of this home.",
        {
            "create": Command("tidewaiter.cli.token:create", "Make an API token and print it, once."),
            "list": Command(
                "tidewaiter.cli.token:list_tokens",
                "List tokens: what they may, when they end, when they were used last.",
            ),
            "revoke": Command("tidewaiter.cli.token:revoke", "Revoke a token, for good."),
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
            "generate": Command("tidewaiter.cli.key:generate", "Make a key pair in cosign's format."),
            "import": Command(
                "tidewaiter.cli.key:import_key", "Trust a public key whose private half is elsewhere, on stated terms."
            ),
            "list": Command("tidewaiter.cli.key:list_keys", "List the keys of this home, with state, term and scope."),
            "rotate": Command(
                "tidewaiter.cli.key:rotate", "Put a new key pair in the place of a key; what the old one signed stands."
            ),
            "revoke": Command(
                "tidewaiter.cli.key:revoke", "Revoke a key: nothing that it ever signed counts any more."
            ),
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
    _say("\n".join(lines) + "\n")


def _say(text: str) -> None:
    """Print `text` before any module that prints is loaded; nothing is wrong when its reader has gone."""
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        nothing = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing, sys.stdout.fileno())
        os.close(nothing)


def _summaries(commands: Mapping[str, Command]) -> dict[str, str]:
    return {name: command.summary for name, command in commands.items()}


def _import_msgspec() -> None:
    """Import msgspec without what it does not need at once, half the time of its import.

    typing_extensions has three names that Python has too; it is imported as where that is not installed. uuid imports
    platform, with its many patterns, for nothing but the name of the system. msgspec's own `inspect`, and `schema` of
    its `json`, are imported when somebody asks for them.
    """
    hidden: dict[str, ModuleType | None] = {"typing_extensions": None}  # what Python documents for "not importable"
    named = ModuleType("platform")
    named.system = lambda: os.uname().sysname  # type: ignore[attr-defined]  # all that uuid asks it for
    hidden["platform"] = named
    hidden["msgspec.inspect"] = ModuleType("msgspec.inspect")
    schemas = ModuleType("msgspec._json_schema")
    schemas.schema = schemas.schema_components = None  # type: ignore[attr-defined]  # taken away again below
    hidden["msgspec._json_schema"] = schemas
    if "msgspec" in sys.modules:
        return
    put = {name: module for name, module in hidden.items() if name not in sys.modules}
    sys.modules.update(put)  # type: ignore[arg-type]  # None, as above
    try:
        import msgspec
    finally:
        for name in put:
            del sys.modules[name]
    _later(msgspec, "msgspec.inspect", ("inspect",), whole=True)
    _later(msgspec.json, "msgspec._json_schema", ("schema", "schema_components"))


def _later(module: ModuleType, source: str, names: Sequence[str], *, whole: bool = False) -> None:
    """Have `names` of `module` imported from the module `source`, or be it when `whole`, when they are asked for."""

    def found(name: str) -> object:
        if name not in names:
            raise AttributeError(f"module {module.__name__!r} has no attribute {name!r}")
        from importlib import import_module

        loaded = import_module(source)
        value = loaded if whole else getattr(loaded, name)
        setattr(module, name, value)
        return value

    for name in names:
        vars(module).pop(name, None)
    module.__getattr__ = found  # type: ignore[method-assign]  # PEP 562


def _call(command: Command, call: str, words: Sequence[str]) -> object:
    """Import the command's module, and only that, and run its function with what the words say."""
    from importlib import import_module

    from tidewaiter.cli.parameters import CommandLine

    if not any(word in _HELP for word in words):
        _require_home(call)
    _import_msgspec()
    module, _, name = command.target.partition(":")
    function = getattr(import_module(module), name)
    line = CommandLine(function, call)
    parsed = line.parse(words)
    if parsed is None:
        _say(line.help())
        return 0
    arguments, options = parsed
    return function(*arguments, **options)


_MENDS = "backup restore"
"""What brings back a home whose settings nobody can read."""


def _require_home(call: str) -> None:
    """Raise `InputError` when settings name a server and the command would work on the home in its place."""
    from tidewaiter.cli.remote_commands import NOT_THROUGH

    if call.removeprefix("tidewaiter ") in NOT_THROUGH:
        from tidewaiter.core import settings
        from tidewaiter.core.errors import InputError

        try:
            server = settings.load().server
        except InputError:
            if not call.endswith(_MENDS):
                raise
            server = settings.load(with_file=False).server
        if server:
            from tidewaiter.cli import remote

            raise remote.not_through(f"`{call}`")


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
    signal.signal(signal.SIGTERM, _terminated)
    try:
        if words[:1] == ["--version"]:
            _say(tidewaiter.__version__ + "\n")
            return 0
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
