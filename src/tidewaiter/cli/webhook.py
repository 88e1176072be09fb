"""`webhook`: who is told what happened."""

from typing import Annotated

import msgspec

from tidewaiter.catalog import outbox, webhooks
from tidewaiter.catalog.outbox import Attempt, Delivery
from tidewaiter.catalog.webhooks import Webhook
from tidewaiter.cli import console, remote
from tidewaiter.cli.console import Format, emit, emit_json
from tidewaiter.cli.parameters import Parameter
from tidewaiter.cli.workshop import workshop
from tidewaiter.core import clock, limits
from tidewaiter.core.errors import InputError
from tidewaiter.pipelines.notifying import subscribing
from tidewaiter.pipelines.notifying.subscribing import Subscribed

_ROWS = 50
_LOCAL = "local"


class _Tried(msgspec.Struct, frozen=True):
    taken: bool
    attempt: Attempt


def _path(webhook: str, *then: str) -> str:
    return "/".join(("/webhooks", remote.part(webhook), *then))


def add(
    url: str,
    /,
    *,
    types: Annotated[tuple[str, ...], Parameter(name="--type")] = (),
    projects: Annotated[tuple[str, ...], Parameter(name="--project")] = (),
    output: Annotated[Format, Parameter(name="--format")] = "text",
) -> int:
    """Have an address told what happens from now on, by signed messages; a running `serve` sends them.

    The secret that messages are signed with is printed once.

    Args:
        url: by https, to a public address, unless the setting webhook_hosts names its host.
        types: type of events (verdict.decided); may be given several times; default: all.
        projects: only what happens to images of this project; may be given several times.
        output: text or json.
    """
    with remote.opened() as server:
        if server is not None:
            body = {"url": url, "types": types, "projects": projects}
            return _print_secret(server.change("POST", "/webhooks", body, Subscribed), output)
    with workshop() as shop:
        who = shop.settings.identity or _LOCAL
        made = subscribing.add(shop.catalog, shop.settings, url, types=types, projects=projects, who=who)
    return _print_secret(made, output)


def _print_secret(made: Subscribed, output: Format) -> int:
    if output == "json":
        emit_json(made)
        return 0
    emit(f"{made.webhook.id}  {made.webhook.url}")
    emit(f"secret: {made.secret}")
    console.tell("The secret is not shown again; give it to the receiver.")
    return 0


def list_webhooks(*, output: Annotated[Format, Parameter(name="--format")] = "text") -> int:
    """List who is told what, the oldest first.

    Args:
        output: text or json.
    """
    with remote.opened() as server:
        if server is not None:
            return _print_list(server.listing("/webhooks", Webhook).items, output)
    with workshop(looking=True) as shop, shop.catalog.database.reading() as connection:
        return _print_list(webhooks.listed(connection), output)


def _print_list(found: tuple[Webhook, ...], output: Format) -> int:
    if output == "json":
        emit_json({"webhooks": msgspec.to_builtins(found)})
        return 0
    console.table(
        ("webhook", "state", "address", "types", "projects", "waiting", "failures"),
        [
            (
                one.id,
                f"{one.state}: {one.reason}" if one.reason else one.state,
                one.url,
                ", ".join(one.types) or "all",
                ", ".join(one.projects) or "all",
                str(one.waiting),
                str(one.failures),
            )
            for one in found
        ],
    )
    return 0


def send_test(webhook: str, /, *, output: Annotated[Format, Parameter(name="--format")] = "text") -> int:
    """Send a message now that says nothing but that it is a test.

    Exits with 1 when it is not taken.

    Args:
        webhook: its id.
        output: text or json.
    """
    with remote.opened() as server:
        if server is not None:
            return _print_tried(server.change("POST", _path(webhook, "test"), None, _Tried), output)
    with workshop() as shop:
        tried = subscribing.test(shop.catalog, shop.settings, webhook)
    return _print_tried(_Tried(taken=tried.taken, attempt=tried.attempt), output)


def _print_tried(tried: _Tried, output: Format) -> int:
    if output == "json":
        emit_json({"taken": tried.taken, "attempt": msgspec.to_builtins(tried.attempt)})
    elif tried.taken:
        emit(f"taken: it answered {tried.attempt.status} after {tried.attempt.seconds:.3f} s")
    else:
        emit(f"not taken: {tried.attempt.error}")
    return 0 if tried.taken else 1


def remove(webhook: str, /, *, output: Annotated[Format, Parameter(name="--format")] = "text") -> int:
    """Tell an address nothing any more, and forget what was sent to it.

    Args:
        webhook: its id.
        output: text or json.
    """
    with remote.opened() as server:
        if server is not None:
            server.remove(_path(webhook))
            return _print_removed(webhook, output)
    with workshop() as shop, shop.catalog.database.writing() as connection:
        webhooks.remove(connection, webhook, who=shop.settings.identity or _LOCAL, at=clock.now())
    return _print_removed(webhook, output)


def _print_removed(webhook: str, output: Format) -> int:
    if output == "json":
        emit_json({"removed": webhook})
    else:
        emit(f"removed {webhook}")
    return 0


def rotate(webhook: str, /, *, output: Annotated[Format, Parameter(name="--format")] = "text") -> int:
    """Make a new secret; messages are signed with both for a day.

    Args:
        webhook: its id.
        output: text or json.
    """
    with remote.opened() as server:
        if server is not None:
            return _print_secret(server.change("POST", _path(webhook, "rotate"), None, Subscribed), output)
    with workshop() as shop:
        who = shop.settings.identity or _LOCAL
        changed = subscribing.rotate(shop.catalog, shop.settings, webhook, who=who)
    return _print_secret(changed, output)


def enable(webhook: str, /, *, output: Annotated[Format, Parameter(name="--format")] = "text") -> int:
    """Tell an address again what happens, from now on, after it was disabled.

    Args:
        webhook: its id.
        output: text or json.
    """
    with remote.opened() as server:
        if server is not None:
            return _print_enabled(server.change("POST", _path(webhook, "enable"), None, Webhook), output)
    with workshop() as shop, shop.catalog.database.writing() as connection:
        changed = webhooks.enable(connection, webhook, who=shop.settings.identity or _LOCAL, at=clock.now())
    return _print_enabled(changed, output)


def _print_enabled(changed: Webhook, output: Format) -> int:
    if output == "json":
        emit_json(changed)
    else:
        emit(f"{changed.id}  {changed.state}")
    return 0


def deliveries(
    webhook: str = "",
    /,
    *,
    state: str = "",
    rows: int = _ROWS,
    output: Annotated[Format, Parameter(name="--format")] = "text",
) -> int:
    """List what was sent, or is to be sent, the latest first, and what came of it.

    Args:
        webhook: its id; all when not given.
        state: only those that are waiting, delivered or dead.
        rows: at most so many.
        output: text or json.
    """
    if state not in {"", "waiting", "delivered", "dead"}:
        raise InputError(f"{state[:40]!r} is no state", next_step="Write waiting, delivered or dead.")
    if not 1 <= rows <= limits.LISTED_ROWS:
        raise InputError(f"{rows} rows", next_step=f"Give a number from 1 to {limits.LISTED_ROWS}.")
    with remote.opened() as server:
        if server is not None:
            if not webhook:
                raise InputError(
                    "a server tells the deliveries of one webhook at a time",
                    next_step="Name one that `tidewaiter webhook list` shows.",
                )
            return _print_deliveries(
                server.listing(_path(webhook, "deliveries"), Delivery, {"state": state}, rows=rows).items, output
            )
    with workshop(looking=True) as shop, shop.catalog.database.reading() as connection:
        found, _ = outbox.listed(connection, webhook=webhook, state=state, rows=rows)
    return _print_deliveries(found, output)


def _print_deliveries(found: tuple[Delivery, ...], output: Format) -> int:
    if output == "json":
        emit_json({"deliveries": msgspec.to_builtins(found)})
        return 0
    console.table(("delivery", "webhook", "event", "type", "state", "attempts", "last"), [_row(one) for one in found])
    return 0


def _row(one: Delivery) -> tuple[str, ...]:
    last = one.attempts[-1] if one.attempts else None
    said = "" if last is None else f"{clock.rfc3339(last.at)} {last.error or last.status}"
    return one.id, one.webhook, one.event, one.type, one.state, str(len(one.attempts)), said


def redeliver(delivery: str, /, *, output: Annotated[Format, Parameter(name="--format")] = "text") -> int:
    """Send a message again, under the same id, for a day from now; a running `serve` does.

    Args:
        delivery: its id.
        output: text or json.
    """
    with remote.opened() as server:
        if server is not None:
            path = f"/deliveries/{remote.part(delivery)}/redeliver"
            return _print_again(server.change("POST", path, None, Delivery), output)
    with workshop() as shop, shop.catalog.database.writing() as connection:
        again = outbox.redeliver(connection, delivery, who=shop.settings.identity or _LOCAL, at=clock.now())
    return _print_again(again, output)


def _print_again(again: Delivery, output: Format) -> int:
    if output == "json":
        emit_json(again)
    else:
        emit(f"{again.id} waits for {again.webhook}")
    return 0
