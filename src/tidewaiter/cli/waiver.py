"""`waiver`: exceptions, from the request to their end."""

import datetime as dt
from typing import Annotated

import msgspec

from tidewaiter.cli import console
from tidewaiter.cli.console import Format, emit, emit_json
from tidewaiter.cli.parameters import Parameter
from tidewaiter.cli.workshop import workshop
from tidewaiter.core import clock
from tidewaiter.core.errors import InputError
from tidewaiter.core.project import Environment
from tidewaiter.pipelines import waiving
from tidewaiter.policy.scope import Scope
from tidewaiter.policy.waivers import Waiver


def _end(text: str) -> dt.datetime:
    """The end of a day, or a moment with its zone."""
    try:
        if len(text) == len("2026-01-01"):
            return clock.parse_rfc3339(f"{text}T00:00:00Z") + dt.timedelta(days=1)
        return clock.parse_rfc3339(text).replace(microsecond=0)
    except (ValueError, OverflowError) as error:
        raise InputError(
            f"{text[:60]!r} is no day", next_step="Write it like 2027-06-30, or 2027-06-30T12:00:00Z."
        ) from error


def _document(waiver: Waiver) -> dict[str, object]:
    fields: dict[str, object] = msgspec.to_builtins(waiver)
    return {**fields, "state": waiver.state(clock.now())}


def _print(waiver: Waiver, output: Format) -> int:
    if output == "json":
        emit_json(_document(waiver))
        return 0
    scope = waiver.scope
    emit(f"{waiver.id}  {waiver.state(clock.now()).replace('_', ' ')}")
    rows = [
        ("advisory" if scope.advisory else "rule", waiver.subject),
        ("package", f"{scope.package} {scope.versions}".strip() or "any"),
        ("images", scope.image),
        ("for", ", ".join(scope.environments)),
        ("reason", waiver.reason),
        ("owner", waiver.owner),
        ("requested", f"{clock.rfc3339(waiver.requested_at)} by {waiver.requested_by}"),
        ("ends", clock.rfc3339(waiver.expires_at)),
    ]
    if waiver.approved_at is not None:
        rows.append(("approved", f"{clock.rfc3339(waiver.approved_at)} by {waiver.reviewer}"))
    if waiver.revoked_at is not None:
        rows.append(("revoked", f"{clock.rfc3339(waiver.revoked_at)} by {waiver.revoked_by}: {waiver.revocation}"))
    for name, value in rows:
        emit(f"  {name.ljust(9)} {value}")
    return 0


def request(
    *,
    reason: str,
    expires: str,
    environment: tuple[Environment, ...],
    advisory: str = "",
    rule: str = "",
    package: str = "",
    versions: str = "",
    image: str | None = None,
    owner: str = "",
    as_: str = "",
    output: Annotated[Format, Parameter(name="--format")] = "text",
) -> int:
    """Ask for an exception from one advisory or one rule; it counts once somebody has approved it.

    Args:
        reason: why it is needed, and why that is acceptable.
        expires: last day on which it counts (2027-06-30), or a moment.
        environment: which one it is for; may be given several times.
        advisory: id or alias of the advisory.
        rule: id of the rule, in the place of an advisory.
        package: package URL without a version (pkg:pypi/pillow); any package when not given.
        versions: versions of that package, for example >=10,<11; any version when not given.
        image: pattern of repository names, without host and tag; * stands for anything within a part, ** for anything.
        owner: who answers for it; whoever asks when not given.
        as_: who asks; default the setting identity.
        output: text or json.
    """
    with workshop() as shop:
        asking = waiving.who(shop, as_)
        scope = Scope(
            environments=tuple(dict.fromkeys(environment)),
            advisory=advisory,
            rule=rule,
            package=package,
            versions=versions,
            image=waiving.image_pattern(image, environment),
        )
        asked = waiving.request(
            shop, scope, owner=owner or asking, reason=reason, requested_by=asking, expires_at=_end(expires)
        )
    return _print(asked, output)


def approve(waiver: str, /, *, as_: str = "", output: Annotated[Format, Parameter(name="--format")] = "text") -> int:
    """Approve a waiver; for production by somebody who neither asked for it nor answers for it.

    Args:
        waiver: its id.
        as_: who reviewed it; default the setting identity.
        output: text or json.
    """
    with workshop() as shop:
        approved = shop.catalog.approve_waiver(waiver, waiving.who(shop, as_))
    return _print(approved, output)


def revoke(
    waiver: str, /, *, reason: str, as_: str = "", output: Annotated[Format, Parameter(name="--format")] = "text"
) -> int:
    """Revoke a waiver, for good; the next decision does without it.

    Tags that a verdict cleared which relies on it are no longer cleared.

    Args:
        waiver: its id.
        reason: why.
        as_: who revokes it; default the setting identity.
        output: text or json.
    """
    with workshop() as shop:
        revoked, tags = waiving.revoke(shop, waiver, waiving.who(shop, as_), reason)
    if output == "json":
        emit_json({**_document(revoked), "no_longer_cleared": tags})
        return 0
    _print(revoked, output)
    for tag in tags:
        emit(f"no longer cleared: {tag}")
    return 0


def show(waiver: str, /, *, output: Annotated[Format, Parameter(name="--format")] = "text") -> int:
    """Show one waiver: what it is about, and who asked for, approved and revoked it.

    Args:
        waiver: its id.
        output: text or json.
    """
    with workshop(looking=True) as shop:
        found = shop.catalog.waiver(waiver)
    return _print(found, output)


def list_waivers(
    *,
    expiring: int | None = None,
    everything: Annotated[bool, Parameter(name="--all", negative="")] = False,
    output: Annotated[Format, Parameter(name="--format")] = "text",
) -> int:
    """List waivers that are asked for or in force, the one that ends first first.

    Args:
        expiring: only those in force that end within so many days.
        everything: also those that are over or revoked.
        output: text or json.
    """
    with workshop(looking=True) as shop:
        found = waiving.listed(shop, everything=everything, expiring=expiring)
    if output == "json":
        emit_json({"waivers": [_document(one) for one in found]})
        return 0
    now = clock.now()
    console.table(
        ("waiver", "state", "about", "package", "images", "for", "owner", "reviewer", "until"),
        [
            (
                one.id,
                one.state(now).replace("_", " "),
                one.subject,
                f"{one.scope.package} {one.scope.versions}".strip() or "any",
                one.scope.image,
                ", ".join(one.scope.environments),
                one.owner,
                one.reviewer,
                clock.rfc3339(one.expires_at),
            )
            for one in found
        ],
    )
    return 0
