"""The command tree: descriptions are true, nothing heavy is imported for what needs nothing."""

import importlib
import inspect
import subprocess
import sys

import pytest

from tidewaiter.cli import app

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


def _imported(*arguments: str) -> set[str]:
    code = (
        "import sys; from tidewaiter.cli import app; app.run(sys.argv[1:]);"
        "print(*sorted({name.partition('.')[0] for name in sys.modules}), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True)
    return set(done.stderr.split())


def test_version_imports_nothing_but_the_standard_library() -> None:
    """`--version` answers before any third-party library is loaded."""
    assert not _imported("--version") & {"cyclopts", "msgspec", "sqlalchemy", "httpx2", "rich", "cryptography"}


def test_help_imports_no_room() -> None:
    """The list of commands is printed without database, network or cryptography."""
    assert not _imported("--help") & {"sqlalchemy", "httpx2", "cryptography", "fastapi", "regorus"}
