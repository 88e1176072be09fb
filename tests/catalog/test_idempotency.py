"""Keys of changes: made once, answered again."""

import datetime as dt
from pathlib import Path

import pytest
from catalog_sample import NOW, home
from sqlalchemy import select

from tidewaiter.catalog import idempotency, owners, schema
from tidewaiter.catalog.audit import entries as audit
from tidewaiter.catalog.audit import sequencer
from tidewaiter.catalog.catalog import Catalog
from tidewaiter.catalog.idempotency import Answer, Key, UnderWayError, UsedElsewhereError
from tidewaiter.core import clock, limits
from tidewaiter.core.errors import InputError

ANSWER = Answer(201, {"content-type": "application/json"}, b'{"a":1}')


def _key(text: str = "k", *, who: str = "user alice", route: str = "POST /x", asked: bytes = b"body") -> Key:
    return idempotency.key(text, who=who, route=route, asked=asked)


def _reserve(catalog: Catalog, key: Key, at: dt.datetime = NOW) -> Answer | None:
    with catalog.database.writing() as connection:
        return idempotency.reserve(connection, key, at)


def test_the_answer_is_given_again(tmp_path: Path) -> None:
    """A finished key gives its answer, for a day, to the same request of the same client only."""
    with Catalog.open(home(tmp_path)) as catalog:
        assert _reserve(catalog, _key()) is None
        with catalog.database.writing() as connection:
            idempotency.finish(connection, _key(), ANSWER, NOW)
        assert _reserve(catalog, _key()) == ANSWER
        assert _reserve(catalog, _key(who="user bob")) is None
        assert _reserve(catalog, _key(route="POST /y")) is None
        with pytest.raises(UsedElsewhereError):
            _reserve(catalog, _key(asked=b"other"))
        later = NOW + dt.timedelta(seconds=limits.KEY_KEPT_SECONDS)
        assert _reserve(catalog, _key(), later) is None


def test_one_under_way_is_not_begun_again(tmp_path: Path) -> None:
    """A key without an answer is held, until its time is over or it is freed."""
    with Catalog.open(home(tmp_path)) as catalog:
        assert _reserve(catalog, _key()) is None
        with pytest.raises(UnderWayError) as caught:
            _reserve(catalog, _key())
        assert caught.value.code == "idempotency_key_in_use"
        assert _reserve(catalog, _key(), NOW + dt.timedelta(seconds=limits.KEY_SECONDS)) is None
        with catalog.database.writing() as connection:
            idempotency.release(connection, _key())
        assert _reserve(catalog, _key()) is None


def test_a_change_marks_its_key_or_neither_is_kept(tmp_path: Path) -> None:
    """After the change was kept its key is never free; a change that failed leaves it as it was."""
    with Catalog.open(home(tmp_path)) as catalog:
        now = clock.now()
        assert _reserve(catalog, _key(), now) is None
        acting = catalog.acting("alice", _key())
        with pytest.raises(InputError), acting.database.writing() as connection:
            owners.put(connection, "model", "ranker\n", "te\nam", now)
        with pytest.raises(UnderWayError) as caught:
            _reserve(catalog, _key(), now)
        assert caught.value.code == "idempotency_key_in_use"
        with acting.database.writing() as connection:
            owners.put(connection, "model", "ranker", "team", now)
        with pytest.raises(UnderWayError) as caught:
            _reserve(catalog, _key(), now)
        assert caught.value.code == "idempotency_key_in_use"
        # As if the server were killed here: its answer is lost, and the change is not made again.
        with pytest.raises(UnderWayError) as caught:
            _reserve(catalog, _key(), now + dt.timedelta(seconds=limits.KEY_SECONDS + 60))
        assert caught.value.code == "idempotency_answer_lost"


def test_an_answer_that_is_not_kept_is_said(tmp_path: Path) -> None:
    """A change whose answer has a secret in it is not made again, and its answer is not given again."""
    with Catalog.open(home(tmp_path)) as catalog:
        assert _reserve(catalog, _key()) is None
        with catalog.database.writing() as connection:
            idempotency.finish_unkept(connection, _key(), NOW)
        with pytest.raises(UnderWayError) as caught:
            _reserve(catalog, _key())
        assert caught.value.code == "idempotency_answer_lost"


def test_the_log_says_who_acts(tmp_path: Path) -> None:
    """What is changed through an acting catalog is logged in that name, and the other catalog keeps its own."""
    settings = home(tmp_path)
    with Catalog.open(settings) as catalog:
        for one in (catalog.acting("alice"), catalog):
            with one.database.writing() as connection:
                owners.put(connection, "model", f"ranker {one.database.actor}", "team", NOW)
        assert sequencer.settle(settings) == ""
        with catalog.database.reading() as connection:
            found = connection.scalars(select(schema.audit_entry.c.entry).order_by(schema.audit_entry.c.position))
            actors = [audit.parse(bytes(one)).actor for one in found]
        assert actors[1:] == ["alice", "local"]
