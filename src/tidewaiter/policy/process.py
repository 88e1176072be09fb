"""One child process that runs Rego, and what is asked of it."""

import time
from collections.abc import Mapping

import msgspec

from tidewaiter.core import child as children
from tidewaiter.core import limits
from tidewaiter.core.errors import UndeterminedError

COMMAND = ("-m", "tidewaiter.policy.child")
ENVIRONMENT = {
    # The engine's allocator reserves 1 GiB of addresses at start, which would be all that RLIMIT_AS leaves.
    "MIMALLOC_ARENA_RESERVE": "64MiB",
}


class ChildError(UndeterminedError):
    """The child died, was late, or answered something that is no answer. The child is gone."""

    default_code = "policy_child"


class _Ready(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    ready: bool
    network: bool


def _failed(what: str) -> ChildError:
    return ChildError(
        f"the policy engine's process gave no answer: {what}",
        next_step="Look at the rule that was being evaluated; `tidewaiter policy test` runs each one alone.",
    )


class Child:
    """A running child. After a `ChildError` it has ended and must be replaced.

    Args:
        command: what this interpreter runs, without the bounds that every child is told.
        seconds: deadline of one evaluation.
        environment: everything that it finds in its environment.
    """

    def __init__(
        self, command: tuple[str, ...], *, seconds: float, environment: Mapping[str, str] | None = None
    ) -> None:
        arguments = (limits.POLICY_CHILD_BYTES, limits.POLICY_INPUT_BYTES, max(seconds, limits.POLICY_LOAD_SECONDS))
        self._child = children.Child((*command, *map(str, arguments)), failure=_failed, environment=environment)
        answer = self._child.receive(limits.POLICY_ANSWER_BYTES, deadline=time.monotonic() + limits.POLICY_LOAD_SECONDS)
        try:
            ready = msgspec.json.decode(answer, type=_Ready)
        except (ValueError, RecursionError) as error:
            raise self._child.fail("it answered something odd when it started") from error
        self.networkless: bool = not ready.network
        """Whether the child has left the network; not every host lets it."""

    @property
    def pid(self) -> int:
        """Process id of the child."""
        return self._child.pid

    def ask(self, kind: bytes, body: bytes, *, seconds: float) -> bytes:
        """The child's answer to one request.

        Raises:
            ChildError: there was no whole answer within `seconds`.
        """
        deadline = time.monotonic() + seconds
        if not self._child.send(kind, body, deadline=deadline):
            raise self._child.fail("it answered before it had the whole question")
        return bytes(self._child.receive(limits.POLICY_ANSWER_BYTES, deadline=deadline))

    def close(self) -> None:
        """End the child; safe to call twice."""
        self._child.close()
