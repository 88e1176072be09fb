"""Verdicts and cleared tags."""

import datetime as dt
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from catalog_sample import build, digest, home, verdict
from sqlalchemy import select

from tidewaiter.catalog import clearing, listing, schema
from tidewaiter.catalog.audit import states as audit_states
from tidewaiter.catalog.catalog import Catalog
from tidewaiter.core import clock
from tidewaiter.core.errors import DeniedError, InputError, NotFoundError, UndeterminedError
from tidewaiter.policy.verdict import Verdict

HOUR = dt.timedelta(hours=1)


@pytest.fixture
def catalog(tmp_path: Path) -> Iterator[Catalog]:
    """A catalog with two built images."""
    with Catalog.open(home(tmp_path)) as opened:
        opened.record_build(build("one"))
        opened.record_build(build("two"))
        yield opened


def _visibility(catalog: Catalog, tag: str = "v1") -> str:
    tags = [tag for image in catalog.list_images().items for tag in image.tags]
    return next(one.visibility for one in tags if one.name == tag)


def test_only_an_allow_clears(catalog: Catalog) -> None:
    """No verdict: undetermined; a denial: denied; an allow for another environment does not help."""
    now = clock.now()
    catalog.set_tag("team/model", "v1", digest("one"))
    with pytest.raises(UndeterminedError):
        catalog.set_tag("team/model", "v1", digest("one"), cleared_for="staging")
    catalog.record_verdict(verdict("one", "allow", now, "research"))
    with pytest.raises(UndeterminedError):
        catalog.set_tag("team/model", "v1", digest("one"), cleared_for="staging")
    catalog.record_verdict(verdict("one", "deny", now, "staging"))
    with pytest.raises(DeniedError):
        catalog.set_tag("team/model", "v1", digest("one"), cleared_for="staging")
    assert _visibility(catalog) == "built"
    catalog.set_tag("team/model", "v1", digest("one"), cleared_for="research")
    assert _visibility(catalog) == "cleared"


def test_an_expired_allow_does_not_clear(catalog: Catalog) -> None:
    """A verdict counts until `valid_until`."""
    catalog.record_verdict(verdict("one", "allow", clock.now() - 2 * HOUR))
    with pytest.raises(UndeterminedError, match="valid until"):
        catalog.set_tag("team/model", "v1", digest("one"), cleared_for="staging")


def test_a_later_denial_takes_the_tag_back(catalog: Catalog) -> None:
    """The newest verdict counts: a denial for that environment makes the tag `built` again and names it."""
    now = clock.now()
    catalog.record_verdict(verdict("one", "allow", now - HOUR / 2))
    catalog.set_tag("team/model", "v1", digest("one"), cleared_for="staging")
    assert catalog.record_verdict(verdict("one", "deny", now, "production")) == ()
    assert _visibility(catalog) == "cleared"
    assert catalog.record_verdict(verdict("one", "deny", now)) == ("team/model:v1",)
    assert _visibility(catalog) == "built"
    with catalog.database.reading() as connection:
        history = listing.tag_history(connection, "team/model", "v1")
    assert [visibility for _, visibility, _ in history] == ["built", "cleared"]


def test_a_late_allow_does_not_outweigh_a_newer_denial(catalog: Catalog) -> None:
    """Verdicts are ordered by when they were decided, not by when they arrive; of one second, the denial counts."""
    now = clock.now()
    catalog.record_verdict(verdict("one", "deny", now))
    catalog.record_verdict(verdict("one", "allow", now - HOUR / 4))
    catalog.record_verdict(verdict("one", "allow", now))
    with pytest.raises(DeniedError):
        catalog.set_tag("team/model", "v1", digest("one"), cleared_for="staging")


def test_a_denial_by_a_clock_that_is_behind_takes_the_tag_back(catalog: Catalog) -> None:
    """A no that is recorded now counts at once, though the yes before it claims a later time."""
    now = clock.now()
    catalog.record_verdict(verdict("one", "allow", now))
    catalog.set_tag("team/model", "v1", digest("one"), cleared_for="staging")
    assert catalog.record_verdict(verdict("one", "deny", now - HOUR)) == ("team/model:v1",)
    assert _visibility(catalog) == "built"


def test_a_verdict_by_a_clock_that_was_ahead_allows_nothing(catalog: Catalog) -> None:
    """A yes of the future does not outweigh a no of now, a no of the future holds until somebody decides after it."""
    now = clock.now()
    catalog.record_verdict(verdict("one", "allow", now + 400 * HOUR))
    with pytest.raises(UndeterminedError):
        catalog.set_tag("team/model", "v1", digest("one"), cleared_for="staging")
    catalog.record_verdict(verdict("one", "deny", now))
    with pytest.raises(DeniedError):
        catalog.set_tag("team/model", "v1", digest("one"), cleared_for="staging")
    catalog.record_verdict(verdict("one", "allow", now + dt.timedelta(seconds=1)))
    catalog.set_tag("team/model", "v1", digest("one"), cleared_for="staging")
    catalog.record_verdict(verdict("two", "allow", now))
    catalog.record_verdict(verdict("two", "deny", now + 400 * HOUR))
    with pytest.raises(DeniedError):
        catalog.set_tag("team/model", "v2", digest("two"), cleared_for="staging")
    later = {**verdict("two", "allow", now), "id": digest("decided anew")}
    catalog.record_verdict(later)
    catalog.set_tag("team/model", "v2", digest("two"), cleared_for="staging")


def test_the_same_verdict_decided_again_is_renewed(catalog: Catalog) -> None:
    """The id leaves out the times: deciding the same again moves the validity, and adds no second verdict."""
    now = clock.now()
    catalog.record_verdict(verdict("one", "allow", now - 2 * HOUR))
    catalog.record_verdict(verdict("one", "allow", now))
    catalog.set_tag("team/model", "v1", digest("one"), cleared_for="staging")
    (seen,) = catalog.image(digest("one")).verdicts
    assert seen.decided_at == now


def test_a_tag_moves_and_loses_its_clearance(catalog: Catalog) -> None:
    """A new image under the tag is `built` until it is cleared itself; the same image keeps its clearance."""
    catalog.record_verdict(verdict("one", "allow", clock.now()))
    catalog.set_tag("team/model", "v1", digest("one"), cleared_for="staging")
    catalog.set_tag("team/model", "v1", digest("one"))
    assert _visibility(catalog) == "cleared"
    catalog.set_tag("team/model", "v1", digest("two"))
    assert _visibility(catalog) == "built"
    assert catalog.resolve_tag("team/model", "v1") == digest("two")


def test_withdrawing_a_tag(catalog: Catalog) -> None:
    """A cleared tag can be taken back by hand, once."""
    catalog.record_verdict(verdict("one", "allow", clock.now()))
    catalog.set_tag("team/model", "v1", digest("one"), cleared_for="staging")
    assert catalog.withdraw_tag("team/model", "v1") is True
    assert catalog.withdraw_tag("team/model", "v1") is False
    assert _visibility(catalog) == "built"


def test_a_malformed_verdict_is_refused(catalog: Catalog) -> None:
    """A verdict that is neither allow nor deny, lacks a field, or is about an unknown image is not recorded."""
    good = verdict("one", "allow", clock.now())
    with pytest.raises(InputError):
        catalog.record_verdict({**good, "verdict": "maybe"})
    with pytest.raises(InputError):
        catalog.record_verdict({key: value for key, value in good.items() if key != "valid_until"})
    with pytest.raises(NotFoundError):
        catalog.record_verdict({**good, "artifact": digest("three")})
    assert catalog.image(digest("one")).verdicts == ()


def test_malformed_tags_are_refused(catalog: Catalog) -> None:
    """A tag or repository outside the distribution grammar is bad input."""
    with pytest.raises(InputError):
        catalog.set_tag("team/model", "-bad", digest("one"))
    with pytest.raises(InputError):
        catalog.set_tag("Team", "v1", digest("one"))


def test_only_a_valid_allow_lets_an_image_leave(catalog: Catalog) -> None:
    """Not cleared: denied; cleared: passes by tag and by digest; under another tag: denied; run out: undetermined."""
    now = clock.now()
    catalog.set_tag("team/model", "v1", digest("one"))
    catalog.set_tag("team/model", "v2", digest("one"))
    with pytest.raises(DeniedError, match="not cleared"):
        catalog.require_cleared("team/model", digest("one"), "v1")
    catalog.record_verdict(verdict("one", "allow", now))
    catalog.set_tag("team/model", "v1", digest("one"), cleared_for="staging")
    catalog.require_cleared("team/model", digest("one"), "v1")
    catalog.require_cleared("team/model", digest("one"))
    for repository, tag in (("team/model", "v2"), ("other/model", "v1")):
        with pytest.raises(DeniedError, match="not cleared"):
            catalog.require_cleared(repository, digest("one"), tag)
    with catalog.database.reading() as connection, pytest.raises(UndeterminedError, match="valid until"):
        clearing.require_cleared(
            connection, repository="team/model", digest=digest("one"), name="v1", at=now + 48 * HOUR
        )
    catalog.record_verdict(verdict("one", "deny", now + HOUR / 60))
    with pytest.raises(DeniedError, match="not cleared"):
        catalog.require_cleared("team/model", digest("one"), "v1")


def test_a_no_is_known_by_its_moment_until_a_later_yes(catalog: Catalog) -> None:
    """Of the newest verdict for that environment only; nothing for an image that nobody recorded."""
    now = clock.now().replace(microsecond=0)
    assert catalog.denied(digest("one"), "staging") is None
    assert catalog.denied(digest("nowhere"), "staging") is None
    catalog.record_verdict(verdict("one", "deny", now - HOUR / 2))
    assert catalog.denied(digest("one"), "staging") == now - HOUR / 2
    assert catalog.denied(digest("one"), "production") is None
    catalog.record_verdict(verdict("one", "allow", now))
    assert catalog.denied(digest("one"), "staging") is None


def test_a_clearing_for_a_milder_environment_lets_no_image_leave(catalog: Catalog) -> None:
    """Of several clearings the one that is strict enough counts, if there is one."""
    now = clock.now()
    for environment, tag in (("research", "v1"), ("production", "v2")):
        catalog.record_verdict(verdict("one", "allow", now, environment))
        catalog.set_tag("team/model", tag, digest("one"), cleared_for=environment)
    with pytest.raises(DeniedError, match="cleared for research only") as caught:
        catalog.require_cleared("team/model", digest("one"), "v1", least="staging")
    assert caught.value.code == "milder_environment"
    catalog.require_cleared("team/model", digest("one"), "v2", least="staging")
    catalog.require_cleared("team/model", digest("one"), least="staging")
    catalog.require_cleared("team/model", digest("one"), "v1", least="research")


def test_many_at_once_leave_what_one_by_one_leave(tmp_path: Path) -> None:
    """Verdicts that are new, known, decided again, or come twice: the same rows and earlier times."""
    now = clock.parse_rfc3339("2026-01-31T12:00:00Z")
    known = [verdict(image, "allow", now) for image in ("one", "two")]
    again = [
        {**one, "decided_at": clock.rfc3339(now + HOUR), "valid_until": clock.rfc3339(now + 2 * HOUR)} for one in known
    ]
    given = [*again, known[0], verdict("one", "deny", now, "research"), again[1], verdict("two", "deny", now + HOUR)]
    left = []
    for at_once in (True, False):
        with Catalog.open(home(tmp_path / str(at_once))) as catalog:
            for image in ("one", "two"):
                catalog.record_build(build(image))
            for one in known:
                catalog.record_verdict(one)
            if at_once:
                catalog.record_verdicts(given, "why")
            for one in () if at_once else given:
                catalog.record_verdict(one)
            with catalog.database.reading() as connection:
                of, earlier = schema.verdict.c, schema.verdict_earlier.c
                rows = connection.execute(select(*(one for one in schema.verdict.columns if one.name != "id"))).all()
                before = select(of.name, earlier.decided_at, earlier.valid_until).join_from(
                    schema.verdict_earlier, schema.verdict
                )
                left.append((sorted(map(repr, rows)), sorted(map(repr, connection.execute(before)))))
    assert left[0] == left[1]
    assert [len(some) for some in left[0]] == [4, 2]


@pytest.mark.parametrize("message", ["plain", 'é\\ "\t', "a\0b", "\ud800", "x" * 200_000])
def test_a_verdict_and_its_json_are_recorded_alike(tmp_path: Path, message: str) -> None:
    """Row, document and what the audit log says of them are the same, also where the text has to be changed."""
    document = verdict("one", "deny", clock.now()) | {"refused_waivers": []}
    document["violations"][0]["message"] = message
    left = []
    both: tuple[Verdict | dict[str, Any], ...] = (document, msgspec.convert(document, Verdict))
    for number, given in enumerate(both):
        with Catalog.open(home(tmp_path / str(number))) as catalog:
            catalog.record_build(build("one"))
            catalog.record_verdicts([given], "why")
            with catalog.database.reading() as connection:
                row = connection.execute(select(*schema.verdict.columns)).one()
                (logged,) = connection.scalars(select(schema.audit_document.c.document))
                (written,) = audit_states.now(connection, "verdict", (digest("one"), "staging", document["id"]))
        assert msgspec.json.decode(logged)["states"] == [list(msgspec.structs.astuple(written))]
        left.append((row, msgspec.json.decode(logged)))
    assert left[0] == left[1]
