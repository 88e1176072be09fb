"""The sender of webhooks: one for each database, in a thread of a server.

1. Of all servers one owns the work; when it is silent for `limits.OWNED_SECONDS`, another one takes over. Two that
   overlap send a message twice, under the same id.
2. What happened becomes deliveries in the transaction that moves the subscription on: none is lost, none made twice.
3. Each endpoint gets its messages in order, one at a time. One that is unable (no connection, late, 429, 5xx) gets
   nothing for a while, longer each time; then it goes on with the same message. One that refuses a message gets the
   next, and that one again later.
4. What was refused for a day is dead, which the audit log says. A kill loses nothing: what was not seen to be taken is
   sent again.
5. People who are told in words (`pipelines.notices`) are subscriptions, too. They get so many messages a minute at
   most; what waits meanwhile is joined into one.
"""

import datetime as dt
import logging
import secrets as randomness
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import msgspec

from tidewaiter.access.roles import project_of
from tidewaiter.catalog import events, expiring, notices, outbox, owned, webhooks
from tidewaiter.catalog.catalog import Catalog
from tidewaiter.catalog.database import Database
from tidewaiter.catalog.events import Event
from tidewaiter.catalog.notices import Said
from tidewaiter.catalog.outbox import Behind, Due, Sending
from tidewaiter.core import clock, limits
from tidewaiter.core.errors import StorageError, TidewaiterError
from tidewaiter.core.settings import Settings
from tidewaiter.core.settings.notices import NoticeTable
from tidewaiter.pipelines.notices import telling
from tidewaiter.pipelines.notices.channels import Channels
from tidewaiter.pipelines.notices.notice import Notice
from tidewaiter.pipelines.notifying import secrets
from tidewaiter.pipelines.notifying.endpoints import Endpoints, Tried

_LOG = logging.getLogger("tidewaiter.webhooks")
_WORK = "webhooks"
_KEEP_SECONDS = limits.OWNED_SECONDS / 3
_TIDY_SECONDS = 60.0
_RETRY_SECONDS = 5.0
_AT_ONCE = 50
"""Messages of one endpoint before others are looked at again."""


class Sender:
    """Sends what happens to whoever subscribed, until it is stopped.

    Args:
        settings: of the home.
        catalog: its catalog.
        first_wait: seconds after the first refusal.
        look: seconds between looks whether something happened.
    """

    def __init__(
        self,
        settings: Settings,
        catalog: Catalog,
        *,
        first_wait: float = limits.WEBHOOK_FIRST_WAIT_SECONDS,
        look: float = limits.EVENT_LOOK_SECONDS,
    ) -> None:
        self._settings = settings
        self._catalog = catalog
        self._database: Database = catalog.database
        self._tables = {webhooks.CHANNEL + one.name: one for one in settings.notices}
        self._next = dict.fromkeys(self._tables, 0.0)
        self._settled = False
        self._first_wait = first_wait
        self._look = look
        self._holder = randomness.token_hex(8)
        self._owned_until = 0.0
        self._tidied = 0.0
        self._busy: set[int] = set()
        self._guard = threading.Lock()
        self._stop = threading.Event()

    def run(self, stop: threading.Event) -> None:
        """Work until `stop` is set; what goes wrong is logged, and tried again."""
        self._stop = stop
        said = ""
        with ThreadPoolExecutor(limits.WEBHOOK_ENDPOINTS_AT_ONCE, thread_name_prefix="webhook") as pool:
            while not stop.is_set():
                wait, why = self._look, ""
                try:
                    with (
                        Endpoints(self._settings, secrets.root(self._settings)) as endpoints,
                        Channels(self._settings) as channels,
                    ):
                        self._work(endpoints, channels, pool)
                except Exception as error:  # noqa: BLE001  # a thread that ends would send nothing, and nobody would know
                    wait, why = _RETRY_SECONDS, str(error)
                if why and why != said:
                    _LOG.warning("webhooks: %s; they wait", why)
                said = why
                stop.wait(wait)
        if self._owned_until:
            try:
                with self._database.writing() as connection:
                    owned.disown(connection, _WORK, self._holder)
            except TidewaiterError as error:
                _LOG.warning("webhooks: %s", error)

    def _work(self, endpoints: Endpoints, channels: Channels, pool: ThreadPoolExecutor) -> None:
        """Until something goes wrong, or the end."""
        try:
            while not self._stop.is_set():
                if self._is_due() and self._owns():
                    if not self._settled:
                        self._settle()
                    self._tidy()
                    while self._told() and not self._stop.is_set():
                        pass
                    self._send(endpoints, channels, pool)
                self._stop.wait(self._look)
        finally:
            while self._busy:
                endpoints.interrupt()
                channels.interrupt()
                time.sleep(0.02)

    def _is_due(self) -> bool:
        if not self._settled:
            return True
        with self._database.reading() as connection:
            waits = bool(outbox.behind(connection) or outbox.sendings(connection, clock.now()))
        return waits or time.monotonic() - self._tidied > _TIDY_SECONDS

    def _owns(self) -> bool:
        # 1.
        if time.monotonic() < self._owned_until - limits.OWNED_SECONDS + _KEEP_SECONDS:
            return True
        with self._database.writing() as connection:
            owns = owned.own(connection, _WORK, self._holder, clock.now())
        self._owned_until = time.monotonic() + limits.OWNED_SECONDS if owns else 0.0
        if not owns:
            self._stop.wait(_RETRY_SECONDS)
        return owns

    def _settle(self) -> None:
        """Let those be told in words whom the settings name, and those again to whom something could not be said."""
        wanted = [telling.channel(one) for one in self._settings.notices]
        with self._database.reading() as connection:
            done = notices.is_settled(connection, wanted)
        if not done:
            with self._database.writing() as connection:
                notices.settle(connection, wanted, clock.now())
        self._settled = True

    def _tidy(self) -> None:
        if self._tidied and time.monotonic() - self._tidied <= _TIDY_SECONDS:
            return
        self._tidied = time.monotonic()
        with self._database.writing() as connection:
            at = clock.now()
            expiring.announce_waivers(connection, at)
            # 4.
            outbox.bury(connection, at)
            outbox.forget(connection, at)

    def _is_anothers(self, name: str) -> bool:
        """Whether that is a channel which only another server's settings name: it waits for that server."""
        return name.startswith(webhooks.CHANNEL) and name not in self._tables

    def _told(self) -> bool:
        """Make deliveries of what happened; whether there may be more."""
        # 2.
        more = False
        with self._database.reading() as connection:
            late = outbox.behind(connection)
        for one in late:
            if self._is_anothers(one.id):
                continue
            with self._database.reading() as connection:
                place = one.place
                try:
                    events.require_kept(connection, place)
                except TidewaiterError as error:
                    _LOG.warning("webhook %s: %s", one.id, error)
                    place = events.START
                found = events.read(connection, place, types=one.types, rows=limits.EVENT_ROWS)
            table = self._tables.get(one.id)
            if table is not None:
                said = self._said(table, found.events)
                with self._database.writing() as connection:
                    notices.advance(connection, one, said, found.place, clock.now())
            else:
                wanted = [event for event in found.events if _concerns(self._database, event, one)]
                with self._database.writing() as connection:
                    outbox.advance(connection, one, wanted, found.place, clock.now())
            more |= found.more
        return more

    def _said(self, table: NoticeTable, happened: Sequence[Event]) -> tuple[Said, ...]:
        """What a channel is told of these events. One that nobody can make sense of keeps no other from being told."""
        public = self._settings.access.public_url
        try:
            return telling.said(self._catalog, table, happened, public)
        except StorageError:
            raise
        except Exception:  # noqa: BLE001  # it would be met again and again, and nothing would be told any more
            if len(happened) > 1:
                return tuple(one for event in happened for one in self._said(table, [event]))
            _LOG.exception("notice %s: %s is not told", table.name, happened[0].id if happened else "nothing")
            return ()

    def _send(self, endpoints: Endpoints, channels: Channels, pool: ThreadPoolExecutor) -> None:
        # 3.
        with self._database.reading() as connection:
            able = outbox.sendings(connection, clock.now())
        for one in able:
            if self._is_anothers(one.id):
                continue
            with self._guard:
                if one.number in self._busy:
                    continue
                self._busy.add(one.number)
            pool.submit(self._endpoint, endpoints, channels, one)

    def _endpoint(self, endpoints: Endpoints, channels: Channels, webhook: Sending) -> None:
        try:
            if webhook.id in self._tables:
                self._joined(channels, webhook)
            else:
                self._messages(endpoints, webhook)
        except Exception as error:  # noqa: BLE001  # as above; the messages wait
            _LOG.warning("webhook %s: %s", webhook.id, error)
        finally:
            with self._guard:
                self._busy.discard(webhook.number)

    def _messages(self, endpoints: Endpoints, webhook: Sending) -> None:
        if webhook.key != endpoints.root.digest:
            with self._database.writing() as connection:
                why = "its secret was derived from another key than this home has; rotate it, and enable it"
                webhooks.disable(connection, webhook.id, why, clock.now())
            return
        with self._database.reading() as connection:
            waiting = outbox.due(connection, webhook.number, clock.now(), rows=_AT_ONCE)
        for one in waiting:
            if self._stop.is_set() or time.monotonic() > self._owned_until:
                return
            tried = endpoints.send(webhook, one.id, one.body)
            if self._stop.is_set() and not tried.taken:
                return  # cut off by ourselves
            self._tried(webhook, [one], tried)
            if tried.taken:
                webhook = msgspec.structs.replace(webhook, failures=0)
            if tried.gone or tried.unable:
                return

    def _joined(self, channels: Channels, webhook: Sending) -> None:
        # 5.
        table = self._tables[webhook.id]
        if time.monotonic() < self._next[webhook.id]:
            return
        with self._database.reading() as connection:
            waiting = outbox.due(connection, webhook.number, clock.now(), rows=limits.NOTICE_JOINED)
        if not waiting or self._stop.is_set() or time.monotonic() > self._owned_until:
            return
        told = [msgspec.json.decode(one.body, type=Notice) for one in waiting]
        tried = channels.send(table, waiting[0].id, told)
        self._next[webhook.id] = time.monotonic() + 60 / table.per_minute
        if tried.taken or not self._stop.is_set():
            self._tried(webhook, waiting, tried)

    def _tried(self, webhook: Sending, sent: Sequence[Due], tried: Tried) -> None:
        """Keep what came of sending these, in one message."""
        with self._database.writing() as connection:
            for one in sent:
                if tried.taken:
                    outbox.delivered(connection, one, tried.attempt, webhook.number)
                elif tried.gone:
                    outbox.gone(connection, one, tried.attempt, webhook)
                else:
                    count = webhook.failures if tried.unable else len(one.attempts)
                    wait = self._wait(count, tried)
                    outbox.refused(connection, one, tried.attempt, webhook, wait=wait, unable=tried.unable)

    def _wait(self, count: int, tried: Tried) -> dt.timedelta:
        """How long to wait after so many refusals before this one."""
        wait = min(self._first_wait * 2 ** min(count, 20), limits.WEBHOOK_LONGEST_WAIT_SECONDS)
        wait *= 0.5 + randomness.randbelow(1000) / 2000
        asked = min(tried.asked or 0.0, limits.WEBHOOK_RETRY_AFTER_SECONDS)
        return dt.timedelta(seconds=max(wait, asked))


def _concerns(database: Database, event: Event, webhook: Behind) -> bool:
    """Whether the event is of a project that the subscription is about, or of none."""
    if not webhook.projects:
        return True
    if event.type.startswith("finding."):
        with database.reading() as connection:
            return any(
                project_of(one) in webhook.projects for one in events.repositories_with(connection, event.subject)
            )
    return not event.repositories or concerns(event.repositories, webhook.projects)


def concerns(repositories: Sequence[str], projects: Sequence[str]) -> bool:
    """Whether one of the repositories is of one of the projects."""
    return any(project_of(one) in projects for one in repositories)


@contextmanager
def running(settings: Settings) -> Iterator[None]:
    """Send in a thread of its own for as long as the block runs."""
    stop = threading.Event()
    with Catalog.open(settings) as catalog:
        thread = threading.Thread(target=Sender(settings, catalog).run, args=(stop,), name="webhooks")
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()
