"""Who is told what happened, and what was sent to them."""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from tidewaiter.access.roles import Permission
from tidewaiter.catalog import outbox, webhooks
from tidewaiter.catalog.outbox import Attempt, Delivery
from tidewaiter.catalog.webhooks import Webhook
from tidewaiter.core import clock
from tidewaiter.pipelines.notifying import subscribing
from tidewaiter.pipelines.notifying.subscribing import Subscribed
from tidewaiter.web.api import matching, once, paging
from tidewaiter.web.api.paging import Paging
from tidewaiter.web.api.route import Ask, Page, Routes

ROUTES = Routes("webhooks")
_MANAGE = Permission.WEBHOOK_MANAGE

_Type = Annotated[str, Meta(min_length=1, max_length=64)]
_Project = Annotated[str, Meta(min_length=1, max_length=255)]


class WebhookPath(msgspec.Struct, frozen=True):
    """Which webhook."""

    id: Annotated[str, Meta(min_length=1, max_length=64)]


class DeliveryPath(msgspec.Struct, frozen=True):
    """Which delivery."""

    id: Annotated[str, Meta(min_length=1, max_length=64)]


class NewWebhook(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Whom to tell what."""

    url: Annotated[str, Meta(min_length=1, max_length=2000, description="By https, to a public address.")]
    types: Annotated[tuple[_Type, ...], Meta(max_length=30, description="Of events; none: all.")] = ()
    projects: Annotated[tuple[_Project, ...], Meta(max_length=100, description="Of images; none: all.")] = ()


class DeliveriesQuery(Paging, frozen=True, kw_only=True):
    """Which deliveries."""

    state: Literal["", "waiting", "delivered", "dead"] = ""


class Tried(msgspec.Struct, frozen=True, kw_only=True):
    """What came of a test."""

    taken: bool
    attempt: Attempt


def _require(ask: Ask, projects: tuple[str, ...]) -> None:
    """Whoever manages it may do so in each of its projects; without any, everywhere."""
    for project in projects or (None,):
        ask.permit(_MANAGE, project)


def _may(ask: Ask, webhook: Webhook) -> bool:
    return all(ask.identity.may(_MANAGE, project) for project in webhook.projects or (None,))


@ROUTES.get("/webhooks", permission=_MANAGE, in_project=True)
def list_webhooks(ask: Ask, query: Paging) -> Page[Webhook]:
    """Webhooks that you may manage, by id."""
    with ask.source.catalog.database.reading() as connection:
        found = webhooks.listed(connection)
    return paging.part((one for one in found if _may(ask, one)), lambda one: (one.id,), query)


@ROUTES.change("POST", "/webhooks", permission=_MANAGE, in_project=True, status=201)
def create_webhook(ask: Ask, body: NewWebhook) -> Subscribed:
    """Have an address told what happens from now on.

    The answer holds the secret that messages are signed with; it is not shown again, also not for the same
    Idempotency-Key. Messages follow Standard Webhooks.
    """
    _require(ask, body.projects)
    made = subscribing.add(
        ask.catalog,
        ask.source.settings,
        body.url,
        types=body.types,
        projects=body.projects,
        who=ask.identity.name,
    )
    return once.answer(made, 201)  # type: ignore[return-value]  # the same in JSON, with a header


@ROUTES.get("/webhooks/{id}", permission=_MANAGE, in_project=True)
def show_webhook(ask: Ask, path: WebhookPath) -> Webhook:
    """One webhook."""
    with ask.source.catalog.database.reading() as connection:
        found = webhooks.one_of(connection, path.id)
    _require(ask, found.projects)
    return found


@ROUTES.change("DELETE", "/webhooks/{id}", permission=_MANAGE, in_project=True, status=204, errors=(412,))
def remove_webhook(ask: Ask, path: WebhookPath) -> None:
    """Forget a webhook, and what was sent to it."""
    with ask.catalog.database.writing() as connection:
        found = webhooks.one_of(connection, path.id)
        _require(ask, found.projects)
        matching.require(ask, found)
        webhooks.remove(connection, path.id, who=ask.identity.name, at=clock.now())


@ROUTES.change("POST", "/webhooks/{id}/test", permission=_MANAGE, in_project=True)
def test_webhook(ask: Ask, path: WebhookPath) -> Tried:
    """Send a message of the type `webhook.test` now, and say what came of it."""
    show_webhook(ask, path)
    tried = subscribing.test(ask.source.catalog, ask.source.settings, path.id)
    return Tried(taken=tried.taken, attempt=tried.attempt)


@ROUTES.change("POST", "/webhooks/{id}/rotate", permission=_MANAGE, in_project=True)
def rotate_webhook(ask: Ask, path: WebhookPath) -> Subscribed:
    """A new secret.

    Messages are signed with both for a day, so that receivers can be changed without losing any.
    """
    show_webhook(ask, path)
    changed = subscribing.rotate(ask.catalog, ask.source.settings, path.id, who=ask.identity.name)
    return once.answer(changed, 200)  # type: ignore[return-value]  # the same in JSON, with a header


@ROUTES.change("POST", "/webhooks/{id}/enable", permission=_MANAGE, in_project=True, errors=(412,))
def enable_webhook(ask: Ask, path: WebhookPath) -> Webhook:
    """Tell a webhook that was disabled again what happens, from now on."""
    with ask.catalog.database.writing() as connection:
        found = webhooks.one_of(connection, path.id)
        _require(ask, found.projects)
        matching.require(ask, found)
        return webhooks.enable(connection, path.id, who=ask.identity.name, at=clock.now())


@ROUTES.get("/webhooks/{id}/deliveries", permission=_MANAGE, in_project=True)
def list_deliveries(ask: Ask, path: WebhookPath, query: DeliveriesQuery) -> Page[Delivery]:
    """What was sent to a webhook, or is to be, the latest first, with every attempt."""
    show_webhook(ask, path)
    before = paging.row_number(query.after)
    with ask.source.catalog.database.reading() as connection:
        found, last = outbox.listed(connection, webhook=path.id, state=query.state, before=before, rows=query.limit)
    return Page(found, paging.cursor(None if last is None else (last,)))


@ROUTES.change("POST", "/deliveries/{id}/redeliver", permission=_MANAGE, in_project=True)
def redeliver(ask: Ask, path: DeliveryPath) -> Delivery:
    """Send a message again, under the same id, for a day from now."""
    with ask.catalog.database.writing() as connection:
        webhook = webhooks.one_of(connection, outbox.one_of(connection, path.id).webhook)
        _require(ask, webhook.projects)
        return outbox.redeliver(connection, path.id, who=ask.identity.name, at=clock.now())
