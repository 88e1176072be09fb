"""`waiver`: exceptions, from the request to their end."""

from typing import Annotated

import msgspec

from tidewaiter.cli import console, remote
from tidewaiter.cli.console import Format, emit, emit_json
from tidewaiter.cli.parameters import Parameter
from tidewaiter.cli.workshop import workshop
from tidewaiter.core import clock, moments
from tidewaiter.core.errors import InputError
from tidewaiter.core.project import Environment
from tidewaiter.pipelines import waiving
from tidewaiter.policy.scope import Scope
from tidewaiter.policy.waivers import Waiver


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
    with remote.opened() as server:
        if server is not None:
            _refuse_name(as_)
            wanted = {
                "environments": tuple(dict.fromkeys(environment)),
                "advisory": advisory,
                "rule": rule,
                "package": package,
                "versions": versions,
                "image": image or "",
                "owner": owner,
                "reason": reason,
                "expires_at": expires,
            }
            return _print(server.change("POST", "/waivers", wanted, Waiver), output)
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
            shop, scope, owner=owner or asking, reason=reason, requested_by=asking, expires_at=moments.end(expires)
        )
    return _print(asked, output)


def approve(waiver: str, /, *, as_: str = "", output: Annotated[Format, Parameter(name="--format")] = "text") -> int:
    """Approve a waiver; for production by somebody who neither asked for it nor answers for it.

    Args:
        waiver: its id.
        as_: who reviewed it; default the setting identity.
        output: text or json.
    """
    with remote.opened() as server:
        if server is not None:
            _refuse_name(as_)
            return _print(server.change("POST", f"/waivers/{remote.part(waiver)}/approve", None, Waiver), output)
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
    revoked, tags = _revoked(waiver, as_, reason)
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
    with remote.opened() as server:
        if server is not None:
            return _print(server.get(f"/waivers/{remote.part(waiver)}", Waiver), output)
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
    found = _listed(everything=everything, expiring=expiring)
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


class _Revoked(Waiver, frozen=True, kw_only=True):
    no_longer_cleared: tuple[str, ...]


def _revoked(waiver: str, as_: str, reason: str) -> tuple[Waiver, tuple[str, ...]]:
    with remote.opened() as server:
        if server is not None:
            _refuse_name(as_)
            path = f"/waivers/{remote.part(waiver)}/revoke"
            answer = server.change("POST", path, {"reason": reason}, _Revoked)
            fields = {name: getattr(answer, name) for name in Waiver.__struct_fields__}
            return Waiver(**fields), answer.no_longer_cleared
    with workshop() as shop:
        return waiving.revoke(shop, waiver, waiving.who(shop, as_), reason)


def _refuse_name(as_: str) -> None:
    if as_:
        raise InputError(
            "--as says who you are to a home; the server knows who you are by your token",
            next_step="Leave it out; `tidewaiter whoami` shows your name.",
            code="usage",
        )


def _listed(*, everything: bool, expiring: int | None) -> tuple[Waiver, ...]:
    with remote.opened() as server:
        if server is not None:
            query: remote.Query = {"all": True} if everything and expiring is None else {}
            found = server.listing("/waivers", Waiver, query).items
            return waiving.chosen(found, everything=everything, expiring=expiring)
    with workshop(looking=True) as shop:
        return waiving.listed(shop, everything=everything, expiring=expiring)
