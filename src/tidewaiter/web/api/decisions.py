"""What may run: verdicts, waivers, and the policy that decides."""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from tidewaiter.access.roles import Permission
from tidewaiter.catalog import inventory, waivers
from tidewaiter.catalog.inventory import ListedVerdict
from tidewaiter.core import clock
from tidewaiter.core.environments import Environment
from tidewaiter.core.errors import NotFoundError
from tidewaiter.pipelines import deciding, explaining, tracing
from tidewaiter.pipelines.tracing import Stood
from tidewaiter.policy.pack import Parameter, Rule
from tidewaiter.policy.reasons import Reason
from tidewaiter.policy.waivers import State, Waiver
from tidewaiter.web.api import fields, stored
from tidewaiter.web.api.fields import ImagePath
from tidewaiter.web.api.paging import Paging, Text, cursor, listed, position, row_number
from tidewaiter.web.api.route import Ask, Page, Routes

ROUTES = Routes("decisions")
_READ = Permission.CATALOG_READ


class VerdictsQuery(Paging, frozen=True, kw_only=True):
    """Which verdicts."""

    image: fields.OptionalDigest = ""
    environment: fields.Environment = ""
    verdict: Annotated[Literal["", "allow", "deny"], Meta(description="What it says.")] = ""


@ROUTES.get("/verdicts", permission=_READ)
def list_verdicts(ask: Ask, query: VerdictsQuery) -> Page[ListedVerdict]:
    """Verdicts, those that were recorded last first."""
    return listed(ask, inventory.verdicts, query, row_number(query.after))


class StandingQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Of which image, when."""

    image: Annotated[fields.Name, Meta(description="`NAME:TAG`, `NAME@DIGEST` or a digest.")]
    as_of: fields.AsOf = ""


@ROUTES.get("/verdicts/standing", permission=_READ, errors=(404,))
def show_standing_verdicts(ask: Ask, query: StandingQuery) -> Stood:
    """The verdicts of an image that stand, or stood on a day, and the waivers that were in force then.

    With `as_of` the tag is what it meant then.
    """
    return tracing.verdicts(ask.source.catalog, query.image, as_of_day=query.as_of)


class WaiverAnswer(Waiver, frozen=True, kw_only=True):
    """A waiver, and what has become of it."""

    stands: State = msgspec.field(name="state")


def told(waiver: Waiver) -> WaiverAnswer:
    """The waiver as an answer."""
    return WaiverAnswer(**msgspec.structs.asdict(waiver), stands=waiver.state(clock.now()))


_Epoch = Annotated[float, Meta(ge=0, le=253_402_300_799)]
"""Seconds, up to the year 9999."""


class WaiversQuery(Paging, frozen=True, kw_only=True):
    """Which waivers."""

    all: Annotated[bool, Meta(description="Also those that are over or revoked.")] = False
    state: Annotated[
        Literal["", "requested", "in_force", "expired", "revoked"], Meta(description="Only those of this state.")
    ] = ""
    owner: fields.Owner = ""
    subject: Annotated[str, Meta(max_length=200, description="Only those about this advisory or rule.")] = ""


@ROUTES.get("/waivers", permission=_READ)
def list_waivers(ask: Ask, query: WaiversQuery) -> Page[WaiverAnswer]:
    """Waivers that are asked for or in force, the one that ends first first."""
    seen = position(query.after, tuple[_Epoch, Text])
    states: tuple[State, ...] = () if query.all else ("requested", "in_force")
    with ask.source.catalog.database.reading() as connection:
        found = waivers.part(
            connection,
            clock.now(),
            states=(query.state,) if query.state else states,
            owner=query.owner,
            subject=query.subject,
            after=None if seen is None else (clock.from_epoch(seen[0]), seen[1]),
            rows=query.limit,
        )
    return Page(tuple(map(told, found.items)), cursor(found.next))


class WaiverPath(msgspec.Struct, frozen=True):
    """Which waiver."""

    id: Annotated[str, Meta(min_length=1, max_length=100, description="Its id.")]


@ROUTES.get("/waivers/{id}", permission=_READ)
def show_waiver(ask: Ask, path: WaiverPath) -> WaiverAnswer:
    """One waiver: what it is about, and who asked for, approved and revoked it."""
    return told(ask.source.catalog.waiver(path.id))


class PolicyAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """The policy that decides here."""

    name: str
    revision: str
    """Names what decides: manifest, data and rules of all layers."""
    layers: tuple[str, ...]
    """Names of the packs that it is made of, the lowest first; empty when it is the one that ships."""
    rules: tuple[Rule, ...]
    parameters: tuple[Parameter, ...]


@ROUTES.get("/policy", permission=_READ)
def show_policy(ask: Ask) -> PolicyAnswer:
    """The policy that decides here: the pack that ships, and those of the settings on top."""
    pack = deciding.policy_of(ask.source.settings)
    return PolicyAnswer(
        name=pack.name, revision=pack.revision, layers=pack.layers, rules=pack.rules, parameters=pack.parameters
    )


class ExplainQuery(msgspec.Struct, frozen=True, kw_only=True):
    """For which environment."""

    environment: Environment
    rule: Annotated[str, Meta(max_length=100, description="Only this rule.")] = ""


class Explanation(msgspec.Struct, frozen=True, kw_only=True):
    """How each rule answers about an image."""

    environment: Environment
    policy_revision: str
    rules: tuple[Reason, ...]


@ROUTES.get("/images/{digest}/explain", permission=Permission.IMAGE_PULL, in_project=True)
def explain_image(ask: Ask, path: ImagePath, query: ExplainQuery) -> Explanation:
    """How each rule answers about an image: where it stands, and on which values. Nothing is recorded.

    The image must be in this server's store.
    """
    known = deciding.policy_of(ask.source.settings)
    if query.rule and known.rule(query.rule) is None:
        raise NotFoundError(
            f"the policy has no rule {query.rule!r}",
            next_step=f"Its rules: {', '.join(one.id for one in known.rules)}.",
            code="rule_unknown",
        )
    with ask.source.workshop() as shop:
        pack, found = explaining.explain(shop, stored.image(ask, shop, path.digest), query.environment)
    if query.rule:
        found = tuple(one for one in found if one.rule == query.rule)
    return Explanation(environment=query.environment, policy_revision=pack.revision, rules=found)
