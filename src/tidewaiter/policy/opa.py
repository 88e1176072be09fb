"""A real OPA as the engine: the same interface, and the same verdicts, as the embedded one.

1. The embedded engine's child checks the pack first; what that refuses, no OPA gets to see.
2. Each child of the pool (`policy.opa_child`) starts an `opa run --server` of its own on a Unix socket that nobody else
   can reach: without environment, without network where the host allows that, under a bound on memory.
3. A child that is late is killed, and its OPA ends with it.
"""

import shutil
import tempfile
from pathlib import Path

import msgspec

from tidewaiter.core import limits
from tidewaiter.core.errors import MissingToolError
from tidewaiter.policy.engine import EmbeddedEngine, PooledEngine
from tidewaiter.policy.pack import Pack
from tidewaiter.policy.process import Child

COMMAND = ("-m", "tidewaiter.policy.opa_child")


def find(program: str) -> Path:
    """The OPA program that a setting names: a path, or a name to be found on PATH.

    Raises:
        MissingToolError: there is no such program.
    """
    found = shutil.which(program)
    if found is None:
        raise MissingToolError(
            f"there is no program {program!r}",
            next_step="Install Open Policy Agent and name it in TIDEWAITER_OPA, or use the embedded engine.",
        )
    return Path(found).absolute()


def name(program: Path) -> str:
    """Tells one OPA from another without running it: place, size and time of its last change.

    Raises:
        MissingToolError: it is gone.
    """
    try:
        found = program.stat()
    except OSError as error:
        raise MissingToolError(f"{program} cannot be read: {error.strerror}", next_step="Install it again.") from error
    return f"opa {program}, {found.st_size} bytes, {found.st_mtime_ns}"


class OpaEngine(PooledEngine):
    """Evaluates `pack` in up to `children` OPA servers; safe from many threads. Use as a context manager.

    Args:
        pack: read by `pack.load` or `layers.effective`.
        program: OPA, 1.0 or later.
        children: how many evaluations may run at the same time.
        seconds: deadline of one evaluation.

    Raises:
        InputError: the pack is refused; the message starts with file and line.
        ChildError: OPA did not start, or did not load the pack in time.
    """

    def __init__(self, pack: Pack, program: Path, *, children: int = 1, seconds: float = limits.POLICY_SECONDS) -> None:
        # 1.
        with EmbeddedEngine(pack) as checked:
            packages = checked.packages
        # Socket paths are short: a long TMPDIR would not do.
        self._folder = tempfile.TemporaryDirectory(prefix="tidewaiter-opa-")
        request = msgspec.json.encode(
            {
                "program": str(program),
                "folder": self._folder.name,
                "modules": [(module.path, module.text) for module in pack.modules],
                "data": msgspec.Raw(pack.data),
                "packages": packages,
            }
        )
        try:
            super().__init__(pack, request, children=children, seconds=seconds)
        except BaseException:
            self._folder.cleanup()
            raise

    def _child(self) -> Child:
        # 2.
        return Child(COMMAND, seconds=self._seconds)

    def close(self) -> None:
        """End all idle children and their OPAs; one that is at work ends after it."""
        super().close()
        self._folder.cleanup()
