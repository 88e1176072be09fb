"""What every stream of events asks of who follows it."""

from collections.abc import Callable

from tidewaiter.access.identity import Identity
from tidewaiter.access.rates import subscriber
from tidewaiter.access.roles import Permission
from tidewaiter.core.errors import RefusedError, TidewaiterError
from tidewaiter.web.api.route import Ask


def follower(ask: Ask) -> str:
    """Whose stream it is: who asks, or for who gave no name the address."""
    client = ask.request.client
    return subscriber(client.host) if ask.identity.kind == "anonymous" and client else ask.identity.name


def goes_on(ask: Ask, permission: Permission, project: str | None = None) -> Callable[[], bool]:
    """Says, as often as it is asked, whether who asked may do that still: in `project`, or everywhere."""
    again: Callable[[], Identity] = ask.request.state.again

    def may() -> bool:
        try:
            return again().may(permission, project)
        except RefusedError:
            return False  # logged out, revoked, disabled
        except TidewaiterError:
            return True  # nobody could say; the next look will

    return may
