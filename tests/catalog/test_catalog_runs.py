"""Runs in the catalog: asked for once, claimed by one, told by whoever has them, forgotten in the end."""

import datetime as dt
import threading
from collections.abc import Iterator
from pathlib import Path

import catalog_sample
import pytest

from tidewaiter.catalog import events
from tidewaiter.catalog.audit import sequencer as audit_sequencer
from tidewaiter.catalog.catalog import Catalog
from tidewaiter.catalog.runs import asking, claims, pruning, reading, steps
from tidewaiter.catalog.runs.claims import Claim, Limits, LostClaimError
from tidewaiter.catalog.runs.records import Asked, Progress, Run, Source, Trigger, TriggerKind
from tidewaiter.catalog.runs.steps import Said
from tidewaiter.core import limits
from tidewaiter.core.errors import InputError, NotFoundError, RefusedError
from tidewaiter.core.settings import Settings

AT = dt.datetime(2026, 3, 4, 5, 6, 7, tzinfo=dt.UTC)
ALL = Limits(0, 0, {})


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Of an empty home."""
    return catalog_sample.home(tmp_path / "home")


@pytest.fixture
def catalog(settings: Settings) -> Iterator[Catalog]:
    """Its catalog."""
    with Catalog.open(settings) as opened:
        yield opened


def asked(commit: str = "c", *, team: str = "default", kind: str = "clear") -> Asked:
    """A commit of a repository, or a sweep."""
    source = Source(repository="https://git.example/team/app", commit=commit * 40, ref="refs/heads/main")
    trigger = Trigger(kind="webhook", by="gitlab", delivery="7", author="Ada")
    if kind == "sweep":
        return Asked(kind="sweep", trigger=trigger)
    return Asked(kind="clear", source=source, team=team, trigger=trigger)


def ask(catalog: Catalog, what: Asked | None = None, *, key: str = "", at: dt.datetime = AT) -> Run:
    """Ask for it."""
    with catalog.database.writing() as connection:
        return asking.ask(connection, what or asked(), at=at, by="ada", key=key)


def claim(catalog: Catalog, worker: str = "w1", bounds: Limits = ALL, *, at: dt.datetime = AT) -> Claim | None:
    """Let a worker take the next one up, which enters when nobody knows it."""
    with catalog.database.writing() as connection:
        if worker not in claims.beats(connection):
            claims.enter(connection, worker, concurrency=2, version="1", at=AT)
        return claims.claim(connection, worker, bounds, at=at)


def claimed(catalog: Catalog, worker: str = "w1") -> Claim:
    """As `claim`, where there is one."""
    found = claim(catalog, worker)
    assert found is not None
    return found


def enter(catalog: Catalog, *workers: str) -> None:
    """Let workers live."""
    with catalog.database.writing() as connection:
        for worker in workers:
            claims.enter(connection, worker, concurrency=2, version="1", at=AT)


def run(catalog: Catalog, name: str) -> Run:
    """The run as it stands."""
    with catalog.database.reading() as connection:
        return reading.run(connection, name)


def end(catalog: Catalog, held: Claim, state: str = "done", *, at: dt.datetime = AT) -> None:
    """Let it end."""
    with catalog.database.writing() as connection:
        claims.end(connection, held, state, at=at, result={"digest": "sha256:1"})


def test_what_is_asked_for_is_kept_as_it_was_asked_for(catalog: Catalog) -> None:
    """A run has an id that sorts by time, says what it was asked to do, and waits."""
    first, second = ask(catalog), ask(catalog, at=AT + dt.timedelta(seconds=1))
    assert first.id.startswith("run-")
    assert len(first.id) == 30
    assert first.id < second.id
    assert (first.state, first.asked, first.attempts, first.worker) == ("queued", asked(), 0, "")
    assert run(catalog, first.id) == first


@pytest.mark.parametrize(
    ("kind", "by", "told"),
    [("webhook", "webhook example", "webhook example"), ("api", "anna", "api anna"), ("command", "", "command")],
)
def test_who_asked_is_told_once(kind: TriggerKind, by: str, told: str) -> None:
    """Kind and name of who asked, in words."""
    assert Trigger(kind=kind, by=by).told == told


def test_a_key_gives_the_same_run(catalog: Catalog) -> None:
    """Whoever asks again with a key gets the run of then; without one, another."""
    first = ask(catalog, key="k")
    assert ask(catalog, asked("d"), key="k").id == first.id
    assert ask(catalog).id != first.id


def test_too_much_is_refused(catalog: Catalog) -> None:
    """A key, or an address, beyond its bound is an error; one character less is not."""
    ask(catalog, key="k" * limits.RUN_KEY_CHARACTERS)
    with pytest.raises(InputError):
        ask(catalog, key="k" * (limits.RUN_KEY_CHARACTERS + 1))
    long = Source(repository="https://h/" + "x" * limits.RUN_SUBJECT_CHARACTERS, commit="c" * 40)
    with pytest.raises(InputError):
        ask(catalog, Asked(kind="clear", source=long, trigger=Trigger(kind="api")))


def test_an_unknown_run_is_not_found(catalog: Catalog) -> None:
    """What is not there is said to be missing, by whatever is asked about it."""
    with catalog.database.writing() as connection:
        for look in (reading.run, reading.log, reading.number):
            with pytest.raises(NotFoundError):
                look(connection, "run-none")
        with pytest.raises(NotFoundError):
            asking.cancel(connection, "run-none", at=AT)


def test_the_list_has_pages_and_filters(catalog: Catalog) -> None:
    """Runs come last first, in pages that have each once; state, kind, team and repository narrow them."""
    names = [ask(catalog, asked(team="a" if count % 2 else "b")).id for count in range(5)]
    ask(catalog, asked(kind="sweep"))
    claimed(catalog)
    with catalog.database.reading() as connection:
        first = reading.listed(connection, kind="clear", rows=3)
        second = reading.listed(connection, kind="clear", rows=3, after=first.after)
        assert [one.id for one in (*first.runs, *second.runs)] == names[::-1]
        assert second.after is None
        assert [one.id for one in reading.listed(connection, team="a").runs] == [names[3], names[1]]
        assert [one.id for one in reading.listed(connection, states=["running"]).runs] == [names[0]]
        assert len(reading.listed(connection, repository="https://git.example/team/app").runs) == 5
        assert reading.listed(connection, repository="https://git.example/team").runs == ()
        assert reading.counts(connection) == {"queued": 5, "running": 1}


def test_runs_are_claimed_in_their_order_and_once(catalog: Catalog) -> None:
    """The first that was asked for is the first that is claimed, and nobody else gets it."""
    names = [ask(catalog).id for _ in range(3)]
    assert [claimed(catalog, worker).run for worker in ("w1", "w2", "w1")] == names
    assert claim(catalog) is None


def test_many_workers_claim_each_run_once(settings: Settings, catalog: Catalog) -> None:
    """Workers that look at the same time get different runs, and the limit holds at every moment."""
    for _ in range(12):
        ask(catalog)
    found: list[str] = []
    guard = threading.Lock()

    def look(worker: str) -> None:
        with Catalog.open(settings) as own:
            while (held := claim(own, worker, Limits(10, 0, {}))) is not None:
                with guard:
                    found.append(held.run)

    threads = [threading.Thread(target=look, args=(f"w{count}",)) for count in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == len(set(found)) == 10


def test_limits_hold_and_let_others_through(catalog: Catalog) -> None:
    """A team at its limit waits while others go on; the limit of all keeps everybody out; one that ends makes room."""
    for team in ("a", "a", "a", "b", "c"):
        ask(catalog, asked(team=team))
    bounds = Limits(4, 1, {"a": 2})
    teams = []
    while (held := claim(catalog, bounds=bounds)) is not None:
        teams.append(held.asked.team)
        last = held
    assert teams == ["a", "a", "b", "c"]
    end(catalog, last)
    assert claim(catalog, bounds=bounds) is None  # team a is at its own
    assert claim(catalog, bounds=Limits(4, 1, {"a": 3})) is not None


def test_one_sweep_at_a_time(catalog: Catalog) -> None:
    """A sweep waits for the one before it; other runs do not wait for it."""
    ask(catalog, asked(kind="sweep")), ask(catalog, asked(kind="sweep")), ask(catalog)
    first = claimed(catalog)
    assert claimed(catalog).asked.kind == "clear"
    assert claim(catalog) is None
    end(catalog, first)
    assert claimed(catalog).asked.kind == "sweep"


def test_steps_are_told_as_they_are(catalog: Catalog) -> None:
    """A step that failed waits and is begun again; what is done is not begun again, and its answer stands."""
    ask(catalog)
    held = claimed(catalog)
    why = {"code": "network", "message": "away", "next": "wait"}
    with catalog.database.writing() as connection:
        assert steps.begin(connection, held, 1, "fetch", at=AT) == (1, 0, None)
        assert steps.end(connection, held, 1, "waiting", at=AT, error=why) == 0
        assert steps.begin(connection, held, 1, "fetch", at=AT) == (2, 0, None)
        assert steps.end(connection, held, 1, "waiting", at=AT, error=why, died=True) == 1
        assert steps.begin(connection, held, 1, "fetch", at=AT) == (3, 1, None)
        steps.end(connection, held, 1, "done", at=AT, answer={"commit": "c"})
        assert steps.begin(connection, held, 1, "fetch", at=AT) == (3, 1, {"commit": "c"})
    (step,) = run(catalog, held.run).steps
    assert (step.state, step.attempts, step.answer, step.error) == ("done", 3, {"commit": "c"}, why)


def test_a_step_of_another_release_is_begun_anew(catalog: Catalog) -> None:
    """What another release's pipeline did under that number counts as nothing."""
    ask(catalog)
    held = claimed(catalog)
    with catalog.database.writing() as connection:
        steps.begin(connection, held, 1, "clone", at=AT)
        steps.end(connection, held, 1, "done", at=AT, answer={"old": True})
        assert steps.begin(connection, held, 1, "fetch", at=AT) == (1, 0, None)
    (step,) = run(catalog, held.run).steps
    assert (step.name, step.state, step.answer) == ("fetch", "running", {})


def test_whoever_lost_the_run_writes_nothing(catalog: Catalog) -> None:
    """A worker that was taken for dead can tell nothing more of the run, however it tries."""
    enter(catalog, "w1", "w2")
    ask(catalog)
    lost = claimed(catalog)
    with catalog.database.writing() as connection:
        assert claims.dismiss(connection, "w1", at=AT, beats=0) == (lost.run,)
    held = claimed(catalog, "w2")
    assert (held.run, held.attempt) == (lost.run, 2)
    with catalog.database.writing() as connection:
        for tell in (
            lambda: steps.begin(connection, lost, 1, "fetch", at=AT),
            lambda: steps.end(connection, lost, 1, "done", at=AT),
            lambda: steps.say(connection, lost, [Said(AT, "fetch", "late")]),
            lambda: steps.show(connection, lost, None),
            lambda: claims.end(connection, lost, "done", at=AT),
            lambda: claims.give_back(connection, lost, at=AT),
            lambda: claims.begin(connection, lost, round_=1, shape="1"),
        ):
            with pytest.raises(LostClaimError):
                tell()
    assert (run(catalog, held.run).state, run(catalog, held.run).steps) == ("running", ())


def test_one_that_beats_is_not_dismissed(catalog: Catalog) -> None:
    """Who dismisses a worker says how often it beat; one that beat once more keeps its runs."""
    enter(catalog, "w1")
    ask(catalog)
    held = claimed(catalog)
    with catalog.database.writing() as connection:
        assert claims.beat(connection, "w1", AT)
        assert claims.dismiss(connection, "w1", at=AT, beats=0) is None
        assert claims.beats(connection) == {"w1": 1}
        claims.require(connection, held)
        assert claims.dismiss(connection, "w1", at=AT, beats=1) == (held.run,)
        assert not claims.beat(connection, "w1", AT)
    assert run(catalog, held.run).state == "queued"


def test_a_worker_that_was_dismissed_claims_nothing(catalog: Catalog) -> None:
    """Taken for dead between two beats, it gets no run, which nobody would take from it any more."""
    enter(catalog, "w1", "w2")
    name = ask(catalog).id
    with catalog.database.writing() as connection:
        claims.dismiss(connection, "w1", at=AT, beats=0)
    with catalog.database.writing() as connection, pytest.raises(LostClaimError):
        claims.claim(connection, "w1", ALL, at=AT)
    assert claimed(catalog, "w2").run == name


def test_what_nobody_has_waits_again(catalog: Catalog) -> None:
    """A run with a worker that nobody knows, as after a backup was restored, waits; one with a living worker stays."""
    lost, kept = ask(catalog).id, ask(catalog).id
    held = claimed(catalog, "w1")
    assert claimed(catalog, "w2").run == kept
    with catalog.database.plainly(writing=True) as connection:
        connection.execute("DELETE FROM pipeline_worker WHERE name = 'w1'")
    with catalog.database.writing() as connection:
        assert claims.recover(connection, at=AT) == (lost,)
        assert claims.recover(connection, at=AT) == ()
        with pytest.raises(LostClaimError):
            claims.require(connection, held)
        assert [one.run for one in claims.held(connection, "w2")] == [kept]
    assert (run(catalog, lost).state, run(catalog, kept).state) == ("queued", "running")


def test_clocks_of_others_let_no_run_wait(catalog: Catalog) -> None:
    """A run is claimed at once though whoever asked, gave it back or dismissed a worker has a clock that is ahead."""
    ahead = AT + dt.timedelta(days=1)
    name = ask(catalog, at=ahead).id
    assert claimed(catalog).run == name
    with catalog.database.writing() as connection:
        claims.dismiss(connection, "w1", at=ahead)
    held = claimed(catalog)
    with catalog.database.writing() as connection:
        claims.give_back(connection, held, at=ahead, wait=dt.timedelta(seconds=10))
    assert claimed(catalog).attempt == 3


def test_a_run_that_loses_every_worker_is_poisoned(catalog: Catalog) -> None:
    """After so many silent workers in the same step the run ends with its reason; a step that was done starts anew."""
    ask(catalog)
    for count in range(limits.RUN_LOSSES + 2):
        worker = f"w{count}"
        enter(catalog, worker)
        held = claimed(catalog, worker)
        if count == 1:
            with catalog.database.writing() as connection:
                steps.begin(connection, held, 1, "fetch", at=AT)
                steps.end(connection, held, 1, "done", at=AT)
        with catalog.database.writing() as connection:
            claims.dismiss(connection, worker, at=AT, beats=0)
        if run(catalog, held.run).state != "queued":
            break
    found = run(catalog, held.run)
    assert (found.state, found.attempts) == ("poisoned", limits.RUN_LOSSES + 1)
    assert found.error is not None
    assert found.error["code"] == "poison_run"


def test_what_is_given_back_is_no_loss(catalog: Catalog) -> None:
    """A worker that stops gives its run back: it waits as long as is said, and nothing speaks against it."""
    ask(catalog)
    held = claimed(catalog)
    with catalog.database.writing() as connection:
        steps.begin(connection, held, 1, "fetch", at=AT)
        claims.give_back(connection, held, at=AT, wait=dt.timedelta(seconds=9))
    assert claim(catalog) is None
    assert run(catalog, held.run).steps[0].state == "waiting"
    again = claim(catalog, "w2", at=AT + dt.timedelta(seconds=9))
    assert again is not None
    assert again.attempt == 2


def test_what_is_given_back_as_lost_is_poisoned_in_the_end(catalog: Catalog) -> None:
    """A run that a worker cannot carry out, whatever the reason, is not taken up forever."""
    ask(catalog)
    for _ in range(limits.RUN_LOSSES):
        held = claimed(catalog)
        with catalog.database.writing() as connection:
            claims.give_back(connection, held, at=AT, lost=True)
    assert run(catalog, held.run).state == "poisoned"


def test_cancelling(catalog: Catalog) -> None:
    """A run that waits ends at once; one that runs is asked to, once; one that ended refuses."""
    waits = ask(catalog)
    with catalog.database.writing() as connection:
        assert asking.cancel(connection, waits.id, at=AT, by="ada").state == "cancelled"
        assert asking.cancel(connection, waits.id, at=AT, by="ada").state == "cancelled"
    ask(catalog)
    held = claimed(catalog)
    with catalog.database.writing() as connection:
        found = asking.cancel(connection, held.run, at=AT, by="ada")
        assert (found.state, found.cancelling) == ("running", True)
        assert claims.cancelled(connection, "w1") == {held.row}
    end(catalog, held)
    with catalog.database.writing() as connection, pytest.raises(RefusedError):
        asking.cancel(connection, held.run, at=AT)


def test_what_is_to_be_cancelled_ends_with_its_worker(catalog: Catalog) -> None:
    """A run whose worker falls silent before it could cancel it is cancelled, not begun again."""
    enter(catalog, "w1")
    ask(catalog)
    held = claimed(catalog)
    with catalog.database.writing() as connection:
        asking.cancel(connection, held.run, at=AT)
        claims.dismiss(connection, "w1", at=AT, beats=0)
    assert run(catalog, held.run).state == "cancelled"


def test_the_log_is_bounded_and_goes_on_where_one_was(catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lines come in order, behind the one that is known; what is beyond the bound is dropped, and that is said."""
    monkeypatch.setattr(limits, "RUN_LINES", 10)
    ask(catalog)
    held = claimed(catalog)
    for start in (0, 6):
        with catalog.database.writing() as connection:
            steps.say(connection, held, [Said(AT, "build", f"line {start + count}\0") for count in range(6)])
            steps.show(connection, held, Progress(title="layers", done=1, total=2, unit="items"))
    with catalog.database.reading() as connection:
        first = reading.log(connection, held.run, rows=4)
        rest = reading.log(connection, held.run, after=first.after)
    assert [line.text for line in first.lines] == [f"line {count}�" for count in range(4)]
    assert [line.number for line in rest.lines] == [5, 6, 7, 8, 9, 10]
    assert "what follows is not kept" in rest.lines[-1].text
    assert not rest.ended
    found = run(catalog, held.run)
    assert found.progress is not None
    assert found.progress.title == "layers"
    end(catalog, held)
    with catalog.database.reading() as connection:
        assert reading.log(connection, held.run, after=10).ended
    assert run(catalog, held.run).progress is None


def test_every_transition_is_an_event(settings: Settings, catalog: Catalog) -> None:
    """Who subscribed is told that a run was asked for, began, did a step, and ended; by whom stands in the log."""
    ask(catalog)
    held = claimed(catalog)
    with catalog.database.writing() as connection:
        steps.begin(connection, held, 1, "fetch", at=AT)
        steps.end(connection, held, 1, "done", at=AT)
    end(catalog, held)
    audit_sequencer.settle(settings)
    with catalog.database.reading() as connection:
        found = [one for one in events.read(connection, events.START, rows=50).events if "pipeline" in one.type]
    kinds = ["pipeline.queued", "pipeline.started", "pipeline.step", "pipeline.ended"]
    assert [one.type for one in found] == kinds
    assert {one.subject for one in found} == {held.run}
    assert found[0].data["commit"] == "c" * 40
    assert found[3].data["state"] == "done"
    assert found[3].data["digest"] == "sha256:1"
    assert set(kinds) <= set(events.TYPES)


def test_old_runs_are_forgotten(catalog: Catalog) -> None:
    """What ended before the day goes, with its steps and log; what ended later, or runs, stays."""
    for _ in range(3):
        ask(catalog)
    old, new, running = claimed(catalog), claimed(catalog), claimed(catalog)
    with catalog.database.writing() as connection:
        steps.begin(connection, old, 1, "fetch", at=AT)
        steps.say(connection, old, [Said(AT, "fetch", "x")])
    end(catalog, old)
    end(catalog, new, at=AT + dt.timedelta(days=2))
    before = AT + dt.timedelta(days=1)
    with catalog.database.writing() as connection:
        assert pruning.prune(connection, before, at=before) == ((old.run, 0),)
        assert pruning.prune(connection, before, at=before) == ()
        assert reading.unknown(connection, [old.run, new.run, running.run]) == {old.run}
