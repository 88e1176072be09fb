"""Who is told of what, how far they were told, and a message that only tries whether it arrives."""

import secrets as randomness

import msgspec

from tidewaiter.catalog import notices
from tidewaiter.catalog.catalog import Catalog
from tidewaiter.catalog.notices import Told
from tidewaiter.core import clock
from tidewaiter.core.errors import NotFoundError
from tidewaiter.core.settings import Settings
from tidewaiter.core.settings.notices import About, Kind
from tidewaiter.pipelines.notices import telling
from tidewaiter.pipelines.notices.channels import Channels
from tidewaiter.pipelines.notices.notice import Notice
from tidewaiter.pipelines.notices.words import say
from tidewaiter.pipelines.notifying.endpoints import Tried


class Known(msgspec.Struct, frozen=True, kw_only=True):
    """A channel of the settings. Its address is a secret, so it is not here."""

    to: Kind
    about: tuple[About, ...]
    told: Told


def listed(catalog: Catalog, settings: Settings) -> tuple[Known, ...]:
    """Every channel, in the order of the settings."""
    with catalog.database.reading() as connection:
        told = notices.told(connection, [telling.channel(one) for one in settings.notices])
    return tuple(
        Known(to=table.to, about=table.about, told=how) for table, how in zip(settings.notices, told, strict=True)
    )


def test(settings: Settings, name: str) -> Tried:
    """What comes of telling a channel now that this is a test. Raises `NotFoundError`."""
    table = next((one for one in settings.notices if one.name == name), None)
    if table is None:
        raise NotFoundError(
            f"there is no [[notice]] {name[:40]!r}", next_step="`tidewaiter notice list` shows those of the settings."
        )
    notice = Notice(
        about="test",
        level="info",
        title=say(table.language, "test"),
        lines=(say(table.language, "test-line", name=table.name),),
        url=settings.access.public_url,
        time=clock.rfc3339(clock.now()),
        subject=table.name,
    )
    with Channels(settings) as channels:
        return channels.send(table, f"test-{randomness.token_hex(12)}", [notice])
