"""Verdicts and cleared tags."""

import datetime as dt
from collections.abc import Iterator
from pathlib import Path

import pytest
from catalog_sample import build, digest, home, verdict

from tidewaiter.catalog import clearing, listing
from tidewaiter.catalog.catalog import Catalog
from tidewaiter.core import clock
from tidewaiter.core.errors import DeniedError, InputError, NotFoundError, UndeterminedError

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
