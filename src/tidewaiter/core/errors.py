"""Every error that a user can meet, as one small tree.

"The answer is no", "your input is wrong" and "I could not find out" are three types, and the command line
turns them into three exit codes. Nothing in the house may turn the last into the first or into a yes.
"""

from typing import ClassVar


class TidewaiterError(Exception):
    """An error that says what happened, why, and what to do next.

    Args:
        message: the thing and the cause, one sentence or two.
        next_step: what the user can do now, one sentence.
        code: stable machine-readable name; the class has a default.
    """

    exit_code: ClassVar[int] = 3
    default_code: ClassVar[str] = "unexpected"

    def __init__(self, message: str, *, next_step: str, code: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.next_step = next_step
        self.code = code or self.default_code


class RefusedError(TidewaiterError):
    """The question was answered, and the answer is no (exit code 1)."""

    exit_code = 1
    default_code = "refused"


class DeniedError(RefusedError):
    """Policy was evaluated and does not allow it."""

    default_code = "denied"


class NotVerifiedError(RefusedError):
    """A signature or attestation was checked and does not hold, or there is none."""

    default_code = "not_verified"


class UnauthenticatedError(RefusedError):
    """Nobody said who asks, or what says so is wrong."""

    default_code = "unauthenticated"


class InputError(TidewaiterError):
    """What the user or another system handed over cannot be accepted (exit code 2)."""

    exit_code = 2
    default_code = "bad_input"


class ProjectError(InputError):
    """`tidewaiter.toml` or the tree around it is wrong; the message starts with file and line."""

    default_code = "bad_project"


class StaleLockError(InputError):
    """A lock does not belong to the inputs beside it."""

    default_code = "stale_lock"


class IntegrityError(InputError):
    """Bytes do not have the digest, size or signature that they were promised to have."""

    default_code = "integrity"


class LimitError(InputError):
    """Input from outside is larger, deeper or longer than `core.limits` accepts."""

    default_code = "over_limit"


class NotFoundError(InputError):
    """The named thing does not exist."""

    default_code = "not_found"


class UndeterminedError(TidewaiterError):
    """The question could not be answered (exit code 3). Never a reason to let something in."""

    default_code = "undetermined"


class NetworkError(UndeterminedError):
    """A remote host could not be reached, or answered something unusable."""

    default_code = "network"


class MissingToolError(UndeterminedError):
    """A program that this step needs is not installed or cannot run here."""

    default_code = "missing_tool"


class DeadlineError(UndeterminedError):
    """Something took longer than its limit."""

    default_code = "deadline"


class StorageError(UndeterminedError):
    """The disk or the database refused: full, read-only, locked or damaged."""

    default_code = "storage"
