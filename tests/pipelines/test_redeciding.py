"""Verdicts that follow changed advisories are those that deciding every image anew would give."""

import datetime as dt
import time
from collections.abc import Collection, Iterator
from contextlib import ExitStack
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import select

from inventories import advisory, digest, facts, home, python
from tidewaiter.advisories import snapshot
from tidewaiter.advisories.database import Database
from tidewaiter.advisories.finding import ScanResult
from tidewaiter.advisories.matcher import Matcher
from tidewaiter.advisories.rows import rows_of
from tidewaiter.catalog import schema
from tidewaiter.catalog.catalog import Catalog
from tidewaiter.catalog.questions import Gathered
from tidewaiter.catalog.records import ScanRecord
from tidewaiter.core import clock
from tidewaiter.core.errors import DeniedError
from tidewaiter.core.progress import SILENT
from tidewaiter.core.project import Environment
from tidewaiter.inspection.facts import ImageFacts
from tidewaiter.oci import reference as references
from tidewaiter.pipelines import asking, deciding, redeciding, workshop
from tidewaiter.pipelines.redeciding import Redecided, redecide
from tidewaiter.pipelines.rematching import rematch
from tidewaiter.pipelines.workshop import Workshop
from tidewaiter.policy.classes import ClassEngine
from tidewaiter.policy.verdict import Verdict

IMAGES = {
    "one": (python("aa", "1.0"), python("bb", "1.0")),
    "two": (python("aa", "1.0"), python("bb", "1.0")),
    "three": (python("aa", "1.5"),),
    "four": (python("bb", "1.5"), python("cc", "1.0")),
}


class _KilledError(Exception):
    """The process ends here."""


def _killed(*_: object, **__: object) -> None:
    raise _KilledError


class Company:
    """Images that were decided, and advisories."""

    def __init__(self, shop: Workshop, database: Database, rules: ClassEngine) -> None:
        self.shop = shop
        self.database = database
        self.rules = rules
        self.environments: dict[str, Environment] = {}

    def image(self, name: str) -> ImageFacts:
        return msgspec.structs.replace(facts(name, *IMAGES[name]), reference=f"team/{name}:1.0")

    def decide(self, name: str, environment: Environment, *, keep: bool = False) -> Verdict:
        """What `check` decides; with `keep` it is recorded, as `check` does."""
        image = self.image(name)
        scan = Matcher(self.database).match(image.components)
        if keep:
            self.shop.catalog.record_facts(image, repository=f"team/{name}")
            self.shop.catalog.record_scan(ScanRecord(digest=image.digest, result=scan, scanned_at=clock.now()))
            self.environments[name] = environment
        asked = deciding.question(
            image,
            scan,
            base=None,
            environment=environment,
            attached=deciding.attached(self.shop, image, signing=False),
            named=references.parse(image.reference),
        )
        found = deciding.verdict(self.rules, image, scan, asked, waivers=self.shop.catalog.waivers())
        if keep:
            self.shop.catalog.record_verdict(found, asking.asked(asked, image, scan, None))
        return found

    def advise(self, number: int, name: str, *, fixed: str = "2.0") -> None:
        self.database.put_single(rows_of(advisory(f"PYSEC-2024-{number}", name, fixed=fixed)))

    def follow(self) -> Redecided:
        rematch(self.shop.catalog, self.database)
        return redecide(self.shop, self.database)

    def newest(self, name: str) -> tuple[str, str]:
        """Id and answer of the newest verdict for the environment that it was decided for last."""
        of = schema.verdict.c
        query = (
            select(of.name, of.verdict)
            .join(schema.artifact, schema.artifact.c.id == of.artifact_id)
            .where(schema.artifact.c.digest == digest(name), of.environment == self.environments[name])
            .order_by(of.decided_at.desc(), of.verdict.desc(), of.id.desc())
            .limit(1)
        )
        with self.shop.catalog.database.reading() as connection:
            row = connection.execute(query).one()
        return row[0], row[1]


@pytest.fixture
def opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Company]:
    """A company without images, and advisories with nothing shipped."""
    header = snapshot.shipped_header()
    monkeypatch.setattr(snapshot, "shipped", lambda: (header, ()))
    with ExitStack() as stack:
        shop = stack.enter_context(workshop.opened(home(tmp_path), SILENT))
        database = stack.enter_context(Database(shop.settings.home.advisories))
        yield Company(shop, database, stack.enter_context(deciding.engine(shop.settings)))


def test_a_new_advisory_denies_what_it_reaches_and_nothing_else(opened: Company) -> None:
    """The images with the package are denied, the others keep their verdict; one entry of the log says so."""
    for number, name in enumerate(("aa", "bb", "cc")):
        opened.advise(number, name, fixed="0.1")
    before = {name: opened.decide(name, "production", keep=True).id for name in IMAGES}
    assert opened.follow().verdicts == 0
    opened.advise(7, "aa")
    found = opened.follow()
    assert (found.component_sets, found.verdicts, found.without) == (2, 3, 0)
    for name in ("one", "two", "three"):
        assert opened.newest(name)[0] == opened.decide(name, "production").id
    assert opened.newest("four")[0] == before["four"]
    with opened.shop.catalog.database.reading() as connection:
        entries = connection.execute(select(schema.audit_pending.c.entry)).scalars().all()
    assert sum(b'"verdict.batch"' in entry for entry in entries) == 1
    assert opened.follow().component_sets == 0


@pytest.mark.thorough
def test_a_tag_that_is_denied_now_is_not_cleared_any_more(opened: Company, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its clearance is taken back with the verdict; killed before the store knows, the next run tells the store."""
    denial = opened.decide("three", "production", keep=True)
    allowed = {**msgspec.to_builtins(denial), "verdict": "allow", "id": digest("yes")}
    allowed["decided_at"] = clock.rfc3339(clock.parse_rfc3339(denial.decided_at) + dt.timedelta(seconds=1))
    opened.shop.catalog.record_verdict(allowed)
    opened.shop.catalog.set_tag("team/three", "1.0", digest("three"), cleared_for="production")
    time.sleep(2.1)
    opened.advise(2, "aa")
    told: list[str] = []
    monkeypatch.setattr(opened.shop.store, "untag", told.append)
    with monkeypatch.context() as patched:
        patched.setattr(Catalog, "taken_back", _killed)
        with pytest.raises(_KilledError):
            opened.follow()
    assert not told
    found = opened.follow()
    assert (found.verdicts, found.withdrawn, told) == (0, (), ["team/three:1.0"])
    with pytest.raises(DeniedError):
        opened.shop.catalog.require_cleared("team/three", digest("three"))


def test_a_list_of_exploited_vulnerabilities_counts_too(opened: Company) -> None:
    """After `outdate_findings` a verdict with a finding is looked at, and stays when what it rests on is the same."""
    opened.advise(1, "aa")
    for name in IMAGES:
        opened.decide(name, "production", keep=True)
    opened.follow()
    opened.shop.catalog.outdate_findings()
    found = redecide(opened.shop, opened.database)
    assert (found.component_sets, found.verdicts) == (2, 0)


@pytest.mark.parametrize("where", ["record_verdicts", "settle_sets"])
def test_whoever_is_killed_leaves_the_rest_to_the_next(
    opened: Company, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    """Killed before or after the verdicts are recorded, the next run finds the sets and completes what is missing."""
    opened.advise(1, "aa", fixed="0.1")
    for name in IMAGES:
        opened.decide(name, "production", keep=True)
    opened.advise(7, "aa")

    with monkeypatch.context() as patched:
        patched.setattr(Catalog, where, _killed)
        with pytest.raises(_KilledError):
            opened.follow()
    assert opened.follow().verdicts == {"record_verdicts": 3, "settle_sets": 0}[where]
    for name in ("one", "two", "three"):
        assert opened.newest(name)[0] == opened.decide(name, "production").id
    assert opened.follow().component_sets == 0


@pytest.mark.parametrize("killed", [False, True])
def test_sets_are_decided_in_lots(opened: Company, monkeypatch: pytest.MonkeyPatch, killed: bool) -> None:
    """Each lot is an entry of the log; where the next one cannot be read, those before it are complete."""
    opened.advise(1, "aa", fixed="0.1")
    for name in IMAGES:
        opened.decide(name, "production", keep=True)
    opened.follow()
    opened.advise(7, "aa")
    monkeypatch.setattr(redeciding, "_SETS", 1)
    if killed:
        read = Catalog.outdated_questions
        lots: list[int] = []

        def once(self: Catalog, sets: Collection[int]) -> Gathered:
            lots.append(len(sets))
            if len(lots) > 1:
                raise _KilledError
            return read(self, sets)

        with monkeypatch.context() as patched:
            patched.setattr(Catalog, "outdated_questions", once)
            with pytest.raises(_KilledError):
                opened.follow()
        assert lots == [1, 1]
    assert opened.follow().component_sets == (1 if killed else 2)
    for name in ("one", "two", "three"):
        assert opened.newest(name)[0] == opened.decide(name, "production").id
    with opened.shop.catalog.database.reading() as connection:
        entries = connection.execute(select(schema.audit_pending.c.entry)).scalars().all()
    assert sum(b'"verdict.batch"' in entry for entry in entries) == 2
    assert opened.follow().component_sets == 0


_STEP = st.one_of(
    st.tuples(
        st.just("advise"), st.integers(0, 3), st.sampled_from(["aa", "bb", "cc"]), st.sampled_from(["0.1", "2.0"])
    ),
    st.tuples(st.just("decide"), st.sampled_from(sorted(IMAGES)), st.sampled_from(["research", "production"])),
    st.tuples(st.just("follow")),
)


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(_STEP, max_size=10))
@pytest.mark.thorough
def test_current_verdicts_are_those_of_deciding_everything_anew(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, ...]]
) -> None:
    """Whatever happened before: after `redecide` each newest verdict has the id that a fresh decision has."""
    with ExitStack() as stack:
        shop = stack.enter_context(workshop.opened(home(tmp_path_factory.mktemp("home")), SILENT))
        database = stack.enter_context(Database(shop.settings.home.advisories))
        company = Company(shop, database, stack.enter_context(deciding.engine(shop.settings)))
        for step, *rest in (*steps, ("follow",)):
            if step == "advise":
                company.advise(int(rest[0]), rest[1], fixed=rest[2])
            elif step == "decide":
                company.decide(rest[0], "research" if rest[1] == "research" else "production", keep=True)
            else:
                company.follow()
        for name, environment in company.environments.items():
            fresh = company.decide(name, environment)
            assert company.newest(name)[1] == fresh.verdict


def test_what_other_scanners_and_vex_said_still_counts(opened: Company) -> None:
    """A finding that a VEX document silenced stays silent, and one that only another scanner had stays."""
    opened.advise(1, "aa")
    image = opened.image("three")
    own = Matcher(opened.database).match(image.components)
    (finding,) = own.findings
    other = msgspec.structs.replace(finding, advisory="CVE-2024-99", aliases=(), reported_by=("trivy",))
    scan: ScanResult = msgspec.structs.replace(own, findings=(other,), suppressed=(finding,))
    asked = deciding.question(
        image,
        msgspec.structs.replace(scan, suppressed=()),
        base=None,
        environment="research",
        attached=deciding.attached(opened.shop, image, signing=False),
        named=references.parse(image.reference),
    )
    kept = asking.shared(asking.asked(asked, image, scan, None).shared)
    again = asking.joined(kept, own)
    assert [one.advisory for one in again.findings] == ["CVE-2024-99"]
    assert [one.advisory for one in again.suppressed] == [finding.advisory]
