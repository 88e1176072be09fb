"""Waivers in the catalog: kept as they were asked for, audited, and what a revocation takes back."""

import datetime as dt
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from catalog_sample import build, digest, home, verdict
from sqlalchemy import select

from tidewaiter.catalog import schema
from tidewaiter.catalog.audit import entries as audit
from tidewaiter.catalog.audit.entries import Entry
from tidewaiter.catalog.catalog import Catalog
from tidewaiter.core import clock
from tidewaiter.core.errors import DeniedError, InputError, NotFoundError, RefusedError
from tidewaiter.policy import waivers
from tidewaiter.policy.pack import default_pack
from tidewaiter.policy.scope import Scope
from tidewaiter.policy.waivers import Waiver


@pytest.fixture
def catalog(tmp_path: Path) -> Iterator[Catalog]:
    with Catalog.open(home(tmp_path)) as opened:
        yield opened


def asked(advisory: str = "CVE-2024-34069", days: int = 30) -> Waiver:
    """A waiver that Anna asks for now."""
    now = clock.now()
    return waivers.request(
        Scope(advisory=advisory, package="pkg:pypi/pillow", versions=">=10", environments=("staging", "production")),
        default_pack(),
        owner="Anna",
        reason="Vorläufig: keine fremden Bilder.",
        requested_by="Anna",
        at=now,
        expires_at=now + dt.timedelta(days=days),
        longest=dt.timedelta(days=180),
    )


def events(catalog: Catalog) -> list[Entry]:
    """Every entry of the audit log about waivers."""
    of = schema.audit_pending.c
    with catalog.database.reading() as connection:
        found = map(audit.parse, connection.scalars(select(of.entry).order_by(of.id)))
        return [entry for entry in found if entry.action.startswith("waiver.")]


def test_a_waiver_comes_back_as_it_was_asked_for(catalog: Catalog) -> None:
    """Every field survives, through approval and revocation; the one that ends first is listed first."""
    first, second = asked(), asked("CVE-2024-34070", days=10)
    catalog.request_waiver(first)
    catalog.request_waiver(second)
    assert catalog.waivers() == (second, first)
    approved = catalog.approve_waiver(first.id, "Bert")
    assert catalog.waiver(first.id) == approved
    assert (approved.reviewer, approved.scope, approved.reason) == ("Bert", first.scope, first.reason)
    revoked, tags = catalog.revoke_waiver(first.id, "Cleo", "Mended.")
    assert catalog.waiver(first.id) == revoked
    assert (revoked.reviewer, revoked.revoked_by, revoked.revocation, tags) == ("Bert", "Cleo", "Mended.", ())


def test_every_step_is_audited(catalog: Catalog) -> None:
    """Request, approval and revocation each leave one entry that names who; the request's holds the whole waiver."""
    one = asked()
    catalog.request_waiver(one)
    catalog.approve_waiver(one.id, "Bert")
    catalog.revoke_waiver(one.id, "Cleo", "Mended.")
    found = events(catalog)
    assert [(entry.action, entry.subject, entry.actor) for entry in found] == [
        ("waiver.request", one.id, "Anna"),
        ("waiver.approve", one.id, "Bert"),
        ("waiver.revoke", one.id, "Cleo"),
    ]
    assert found[0].detail["waiver"]["scope"]["advisory"] == "CVE-2024-34069"
    assert found[2].detail["reason"] == "Mended."


def test_what_is_refused_leaves_no_trace(catalog: Catalog) -> None:
    """A second request, the owner's own review, an empty reason and an unknown id change and audit nothing."""
    one = asked()
    catalog.request_waiver(one)
    before = (catalog.waivers(), events(catalog))
    with pytest.raises(RefusedError, match="already"):
        catalog.request_waiver(one)
    with pytest.raises(RefusedError, match="for production"):
        catalog.approve_waiver(one.id, "anna")
    with pytest.raises(InputError):
        catalog.revoke_waiver(one.id, "Anna", "")
    for name in ("W-0", "", "'; DROP TABLE waiver; --"):
        with pytest.raises(NotFoundError):
            catalog.approve_waiver(name, "Bert")
    assert (catalog.waivers(), events(catalog)) == before


def test_of_two_reviewers_at_once_one_approves(catalog: Catalog) -> None:
    """Approvals in the same moment: one is kept, the others are told that it is done."""
    one = asked()
    catalog.request_waiver(one)

    def approve(name: str) -> str:
        try:
            return catalog.approve_waiver(one.id, name).reviewer
        except RefusedError:
            return ""

    with ThreadPoolExecutor(8) as pool:
        done = [name for name in pool.map(approve, [f"Reviewer {number}" for number in range(8)]) if name]
    assert done == [catalog.waiver(one.id).reviewer]
    assert len([entry for entry in events(catalog) if entry.action == "waiver.approve"]) == 1


def test_a_revocation_takes_back_what_was_cleared_by_it(catalog: Catalog) -> None:
    """A tag whose verdict relied on the waiver is no longer cleared; one that did not rely on it stays."""
    one = asked()
    catalog.request_waiver(one)
    catalog.approve_waiver(one.id, "Bert")
    now = clock.now()
    for image, waived in (("relies", [{"waiver": one.id}]), ("stands", [])):
        catalog.record_build(build(image))
        catalog.record_verdict({**verdict(image, "allow", now), "violations": [], "waived": waived})
        catalog.set_tag("team/model", image, digest(image), cleared_for="staging")
    _, tags = catalog.revoke_waiver(one.id, "Cleo", "Mended.")
    assert tags == ("team/model:relies",)
    with pytest.raises(DeniedError):
        catalog.require_cleared("team/model", digest("relies"))
    catalog.require_cleared("team/model", digest("stands"))
