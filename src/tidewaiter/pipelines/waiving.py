"""Step: waivers of the home, asked for, approved and revoked by whoever the user says they are."""

import datetime as dt
from collections.abc import Iterable

from tidewaiter.core import clock
from tidewaiter.core.errors import InputError
from tidewaiter.pipelines.workshop import Workshop
from tidewaiter.policy import waivers
from tidewaiter.policy.scope import EVERYTHING, Scope
from tidewaiter.policy.waivers import Waiver


def who(workshop: Workshop, given: str) -> str:
    """`given`, or who the settings say the user is; raises `InputError` when neither says."""
    name = given.strip() or workshop.settings.identity
    if not name:
        raise InputError(
            "a waiver records who asks, approves and revokes, and nothing says who you are",
            next_step="Give --as NAME, or set `identity` in settings.toml.",
        )
    return waivers.person(name)


def image_pattern(given: str | None, environments: tuple[str, ...]) -> str:
    """`given`, or the pattern of every image; for production that must be said."""
    if given is None and "production" in environments:
        raise InputError(
            "a waiver for production names the images that it is for",
            next_step=f"Give --image, for example vision/*; --image '{EVERYTHING}' when every image is meant.",
        )
    return EVERYTHING if given is None else given


def request(
    workshop: Workshop, scope: Scope, *, owner: str, reason: str, requested_by: str, expires_at: dt.datetime
) -> Waiver:
    """Ask for a waiver; raises what `waivers.request`, the policy's layers and the catalog raise."""
    from tidewaiter.pipelines import deciding  # lists of waivers need no policy

    asked = waivers.request(
        scope,
        deciding.policy_of(workshop.settings),
        owner=owner,
        reason=reason,
        requested_by=requested_by,
        at=clock.now(),
        expires_at=expires_at,
        longest=dt.timedelta(days=workshop.settings.waiver_days),
    )
    workshop.catalog.request_waiver(asked)
    return asked


def revoke(workshop: Workshop, name: str, who: str, why: str) -> tuple[Waiver, tuple[str, ...]]:
    """Revoke a waiver; it, and the tags that are no longer cleared, whose attested verdicts are withdrawn.

    Raises what the catalog raises.
    """
    from tidewaiter.pipelines import trusting  # as above
    from tidewaiter.pipelines.attachments import attesting

    revoked, tags = workshop.catalog.revoke_waiver(name, who, why)
    for tag in tags:
        workshop.store.untag(tag)
    for image in dict.fromkeys(tag.rpartition(":")[::2] for tag in tags):
        digest = workshop.resolve_tag(*image)
        if digest is not None:
            attesting.withdraw(
                workshop,
                image[0],
                digest,
                lambda said: name in said.waivers,
                lambda: trusting.signers_of_home(workshop),
            )
    return revoked, tags


def listed(workshop: Workshop, *, everything: bool, expiring: int | None) -> tuple[Waiver, ...]:
    """Of the catalog's waivers those that `chosen` leaves."""
    return chosen(workshop.catalog.waivers(), everything=everything, expiring=expiring)


def chosen(found: Iterable[Waiver], *, everything: bool, expiring: int | None) -> tuple[Waiver, ...]:
    """Waivers that are asked for or in force; or all; or those in force that end within `expiring` days."""
    now = clock.now()
    if expiring is not None:
        if expiring < 0:
            raise InputError(f"{expiring} days are none", next_step="Give a number of days, for example 14.")
        end = now + dt.timedelta(days=min(expiring, 10_000))
        return tuple(one for one in found if one.state(now) == "in_force" and one.expires_at <= end)
    return tuple(one for one in found if everything or one.state(now) in {"requested", "in_force"})
