"""Steps: who is told what happened. Secrets are shown when they are made, and never again."""

import datetime as dt
import secrets as randomness
from collections.abc import Sequence

import msgspec

from tidewaiter.catalog import outbox, webhooks
from tidewaiter.catalog.catalog import Catalog
from tidewaiter.catalog.events import Event
from tidewaiter.catalog.webhooks import Webhook
from tidewaiter.core import clock, limits
from tidewaiter.core.settings import Settings
from tidewaiter.pipelines.notifying import endpoints, secrets
from tidewaiter.pipelines.notifying.endpoints import Endpoints, Tried


class Subscribed(msgspec.Struct, frozen=True, kw_only=True):
    """A subscription, and its new secret."""

    webhook: Webhook
    secret: str
    """What its messages are signed with; shown this once."""


def add(
    catalog: Catalog, settings: Settings, url: str, *, types: Sequence[str], projects: Sequence[str], who: str
) -> Subscribed:
    """Subscribe an address; raises what `endpoints.check` and `webhooks.add` raise."""
    endpoints.check(settings, url)
    root = secrets.root(settings)
    with catalog.database.writing() as connection:
        made = webhooks.add(connection, url, types=types, projects=projects, key=root.digest, who=who, at=clock.now())
    return Subscribed(webhook=made, secret=root.shown(made.id, 1))


def rotate(catalog: Catalog, settings: Settings, name: str, *, who: str) -> Subscribed:
    """A new secret; the one before it counts for a day longer. Raises `NotFoundError`."""
    root, overlap = secrets.root(settings), dt.timedelta(seconds=limits.WEBHOOK_OVERLAP_SECONDS)
    with catalog.database.writing() as connection:
        changed = webhooks.rotate(connection, name, key=root.digest, overlap=overlap, who=who, at=clock.now())
        generation = outbox.sending(connection, name).generation
    return Subscribed(webhook=changed, secret=root.shown(name, generation))


def test(catalog: Catalog, settings: Settings, name: str) -> Tried:
    """What comes of sending a message now that says nothing but that it is a test. Raises `NotFoundError`."""
    with catalog.database.reading() as connection:
        webhook = outbox.sending(connection, name)
    event = Event(id="0-0", type="webhook.test", time=clock.rfc3339(clock.now()), subject=name, data={"webhook": name})
    with Endpoints(settings, secrets.root(settings)) as opened:
        return opened.send(webhook, f"msg_test_{randomness.token_hex(12)}", outbox.body_of(event))
