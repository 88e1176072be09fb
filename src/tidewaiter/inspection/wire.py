"""What a process that reads layers is asked and what it answers, as bytes. Little is imported here: it starts often.

A question is the JSON of a `Question`. When the blob's bytes are not at hand as an open file they follow, a frame each,
the last of them empty; those of a blob that has no name yet always do. An answer is any number of `PROGRESS` (8 bytes,
big-endian: compressed bytes more), then either `PROBLEM` (JSON), or `LISTING` and `FACTS` (msgpack).
"""

from typing import Literal

import msgspec

from tidewaiter.core.errors import InputError, IntegrityError, LimitError, TidewaiterError, UndeterminedError
from tidewaiter.oci.digest import Digest

READY, PROGRESS, LISTING, FACTS, PROBLEM = b"R", b"P", b"L", b"F", b"E"
PROGRESS_BYTES = 8


class Question(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One layer to read; `file` is the descriptor under which the child has the blob, -1 when its bytes follow."""

    blob: Digest | None = None
    """None: it is not known yet how the blob will be called. Then nothing else is said of it either."""
    size: int = 0
    diff_id: Digest | None = None
    file: int = -1


class Ready(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a child that has started could not give up, for the host to know."""

    network: bool
    files: bool


class Problem(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Why there are no facts. What the layer's own bytes are to blame for is told apart from all else."""

    kind: Literal["integrity", "limit", "input", "undetermined"]
    message: str
    next_step: str
    code: str

    @property
    def error(self) -> TidewaiterError:
        """The error to raise."""
        kinds: dict[str, type[TidewaiterError]] = {
            "integrity": IntegrityError,
            "limit": LimitError,
            "input": InputError,
        }
        made = kinds.get(self.kind, UndeterminedError)
        return made(self.message, next_step=self.next_step, code=self.code)


def problem(error: Exception) -> Problem:
    """What is told of `error`; one that nobody foresaw means that it could not be found out."""
    if not isinstance(error, TidewaiterError):
        said = f"{type(error).__name__}: {error}"[:500]
        return Problem(
            kind="undetermined",
            message=f"the layer could not be read: {said}",
            next_step="Do not use this image, and report it with the message.",
            code="layer_child",
        )
    kind: Literal["integrity", "limit", "input", "undetermined"] = "undetermined"
    if isinstance(error, IntegrityError):
        kind = "integrity"
    elif isinstance(error, LimitError):
        kind = "limit"
    elif isinstance(error, InputError):
        kind = "input"
    return Problem(kind, error.message, error.next_step, error.code)
