"""`pipeline`: asking for runs, and what became of them."""

import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from tidewaiter.catalog.runs import claims, reading
from tidewaiter.catalog.runs.reading import Log
from tidewaiter.catalog.runs.records import ENDED, Asked, Run, RunState, Source, Trigger
from tidewaiter.cli import console, remote
from tidewaiter.cli.console import Format, emit, emit_json
from tidewaiter.cli.parameters import Parameter
from tidewaiter.cli.remote import Server
from tidewaiter.cli.workshop import workshop
from tidewaiter.core import clock, limits
from tidewaiter.core.errors import InputError
from tidewaiter.core.settings import Settings, SourceTable
from tidewaiter.pipelines.durable import asking_runs
from tidewaiter.pipelines.triggers import asking_sources
from tidewaiter.pipelines.workshop import Workshop

_ROWS = 50
_LOOK_SECONDS = 0.5
_COMMIT = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")
_CODES: dict[RunState, int] = {"done": 0, "denied": 1}
"""Exit codes of ended runs; all others: could not find out."""

Kind = Literal["clear", "sweep"]
State = Literal["queued", "running", "done", "denied", "failed", "cancelled", "poisoned"]


class _Words(msgspec.Struct, frozen=True):
    """What the command line says of a run."""

    what: str
    kind: Kind
    ref: str
    folder: str
    push: str
    team: str
    key: str


def run(
    what: str = "",
    /,
    *,
    kind: Kind = "clear",
    ref: str = "",
    folder: str = "",
    push: str = "",
    team: str = "",
    key: str = "",
    wait: bool = False,
    follow: bool = False,
    output: Annotated[Format, Parameter(name="--format")] = "text",
) -> int:
    """Ask for a run of a pipeline, which a worker carries out: `clear` of a project or commit, or `sweep`.

    With --wait it exits with 0 when the run is done, with 1 when it is denied, else with 3.

    Args:
        what: folder of a project on this machine; ADDRESS@COMMIT; or SOURCE@COMMIT, or SOURCE with --ref, of a source
            that the settings name. With a server only sources of its settings. Nothing for a sweep.
        kind: clear takes a commit the whole way to a cleared image; sweep judges anew what time and new advisories
            changed.
        ref: branch or tag, as refs/heads/main; of a SOURCE without a commit, what it is at now.
        folder: where the project lies in the repository; default its top, or the source's first folder.
        push: HOST/REPO[:TAG] to push the cleared image to; default: where the source says, else it stays in the store.
        team: whose limits it counts towards; default: that of the source, else default.
        key: asking again with the same key gives the same run.
        wait: wait for its end.
        follow: wait, and print what it says meanwhile.
        output: text or json.
    """
    words = _Words(what, kind, ref, folder, push, team, key)
    with remote.opened() as server:
        if server is not None:
            return _finished(server, _asked_of(server, words), output, wait=wait, follow=follow)
    with workshop() as shop:
        trigger = Trigger(kind="command", by=shop.settings.identity or "local")
        asked = _asked(shop.settings, words, trigger)
        found = asking_runs.submit(shop.settings, shop.catalog, asked, key=key)
        if not _workers(shop):
            console.tell("No worker works here now: run `tidewaiter worker`, or `tidewaiter serve`.")
        return _finished(shop, found, output, wait=wait, follow=follow)


def _workers(shop: Workshop) -> bool:
    with shop.catalog.database.reading() as connection:
        return bool(claims.beats(connection))


def _asked(settings: Settings, words: _Words, trigger: Trigger) -> Asked:
    team = words.team or "default"
    if words.kind == "sweep":
        if words.what:
            raise InputError("a sweep is about everything", next_step="Leave out what it is about.", code="usage")
        return Asked(kind="sweep", team=team, trigger=trigger)
    name, commit = _named(words.what)
    table = next((one for one in settings.sources if one.name == name), None)
    if table is not None:
        return _asked_source(settings, words, table, commit, trigger)
    if not commit:
        if not words.what:
            raise InputError("nothing is named", next_step="Name a folder, or ADDRESS@COMMIT.", code="usage")
        return Asked(kind="clear", path=str(Path(words.what).absolute()), team=team, push=words.push, trigger=trigger)
    source = Source(repository=name, commit=commit, ref=words.ref, folder=words.folder or ".")
    return Asked(kind="clear", source=source, team=team, push=words.push, trigger=trigger)


def _asked_source(settings: Settings, words: _Words, table: SourceTable, commit: str, trigger: Trigger) -> Asked:
    if not commit:
        from tidewaiter.pipelines.sources import checking_out  # few runs are asked for by a branch

        commit = checking_out.resolve(settings, table.url, words.ref)
    folders = (words.folder,) if words.folder else table.folders[:1]
    (asked,) = asking_sources.of_commit(table, commit, words.ref, trigger, folders=folders)
    return msgspec.structs.replace(asked, team=words.team or asked.team, push=words.push or asked.push)


def _named(what: str) -> tuple[str, str]:
    """Name and commit in NAME@COMMIT; all of it, and no commit, where it is something else."""
    name, _, commit = what.rpartition("@")
    return (name, commit) if _COMMIT.fullmatch(commit) else (what, "")


def _asked_of(server: Server, words: _Words) -> Run:
    if words.push or words.team or words.key:
        raise InputError(
            "with a server its settings say where images go, and whose they are",
            next_step="Leave out --push, --team and --key.",
            code="usage",
        )
    name, commit = _named(words.what)
    body = {"kind": words.kind, "source": name, "commit": commit, "ref": words.ref, "folder": words.folder}
    return server.change("POST", "/pipelines", body, Run)


# Where runs are looked at: here, or by a server

Place = Workshop | Server


def _path(run_id: str, *then: str) -> str:
    return "/".join(("/pipelines", remote.part(run_id), *then))


def _run(place: Place, run_id: str) -> Run:
    if isinstance(place, Server):
        return place.get(_path(run_id), Run)
    with place.catalog.database.reading() as connection:
        return reading.run(connection, run_id)


def _log(place: Place, run_id: str, after: int) -> tuple[tuple[str, ...], int, bool]:
    """Lines behind `after`, the number of the last one, and whether nothing more comes."""
    if isinstance(place, Server):
        response = place.text(_path(run_id, "log"), {"after": after})
        last = response.headers.get("tidewaiter-log-after", "")
        ended = response.headers.get("tidewaiter-log-ended", "")
        if not last.isdigit() or ended not in {"true", "false"}:
            raise place.unusable("a log that does not say where it ends")
        return tuple(response.body.decode(errors="replace").splitlines()), int(last), ended == "true"
    with place.catalog.database.reading() as connection:
        found: Log = reading.log(connection, run_id, after=after)
    lines = tuple(
        f"{clock.rfc3339(line.at)} {line.step or '-'}: {' '.join(line.text.splitlines())}" for line in found.lines
    )
    return lines, found.after, found.ended


def _finished(place: Place, found: Run, output: Format, *, wait: bool, follow: bool) -> int:
    if follow:
        _print_log(place, found.id, 0, follow=True, say=console.tell if output == "json" else emit)
    while (wait or follow) and found.state not in ENDED:
        time.sleep(_LOOK_SECONDS)
        found = _run(place, found.id)
    if follow:
        found = _run(place, found.id)
    _print_run(found, output)
    return _CODES.get(found.state, 3) if wait or follow else 0


def _print_log(place: Place, run_id: str, after: int, *, follow: bool, say: Callable[[str], None]) -> None:
    while True:
        lines, last, ended = _log(place, run_id, after)
        for line in lines:
            say(line)
        if ended or (not follow and last == after):
            return
        after = last
        if follow and not lines:
            time.sleep(_LOOK_SECONDS)


def _print_run(found: Run, output: Format) -> None:
    if output == "json":
        emit_json(found)
        return
    for line in _lines(found):
        emit(line)


def _lines(found: Run) -> Iterator[str]:
    yield f"{found.id}  {found.kind}  {found.state}{' (to be cancelled)' if found.cancelling else ''}"
    if found.asked.subject:
        yield f"  of       {found.asked.subject}"
    yield f"  asked    {clock.rfc3339(found.created_at)} by {found.asked.trigger.told}"
    if found.worker:
        yield f"  worker   {found.worker} (taken up {found.attempts} times)"
    for step in found.steps:
        seconds = ""
        if step.started_at is not None and step.ended_at is not None:
            seconds = f"{(step.ended_at - step.started_at).total_seconds():.0f} s"
        tries = f"begun {step.attempts} times" if step.attempts > 1 else ""
        yield f"  {step.number:>2} {step.name:<10} {step.state:<9} {seconds:<6} {tries}".rstrip()
    for name, value in found.result.items():
        yield f"  {name:<8} {value}"
    if found.error is not None:
        yield f"  {found.error.get('code', '')}: {found.error.get('message', '')}"
        yield f"  next: {found.error.get('next', '')}"


def list_runs(
    *,
    state: tuple[State, ...] = (),
    kind: Literal["clear", "sweep", ""] = "",
    team: str = "",
    repository: str = "",
    rows: int = _ROWS,
    output: Annotated[Format, Parameter(name="--format")] = "text",
) -> int:
    """List runs, the last that was asked for first.

    Args:
        state: only those that are queued, running, done, denied, failed, cancelled or poisoned. Repeatable.
        kind: only runs of clear, or of sweep.
        team: only those of a team.
        repository: only those of a repository, by its address, or of a folder.
        rows: at most so many.
        output: text or json.
    """
    if rows < 1:
        raise InputError(f"--rows is {rows}", next_step="Give at least 1.", code="usage")
    with remote.opened() as server:
        if server is not None:
            query: dict[str, remote.Value] = {"kind": kind, "team": team, "repository": repository}
            wanted = state or ("",)
            found = tuple(
                one
                for each in wanted
                for one in server.listing("/pipelines", Run, {**query, "state": each}, rows=rows).items
            )
            newest = sorted(found, key=lambda one: one.id, reverse=True)
            return _print_list(tuple(newest[:rows]), output)
    with workshop(looking=True) as shop, shop.catalog.database.reading() as connection:
        page = reading.listed(connection, states=state, kind=kind or None, team=team, repository=repository, rows=rows)
    return _print_list(page.runs, output)


def _print_list(found: tuple[Run, ...], output: Format) -> int:
    if output == "json":
        emit_json({"runs": msgspec.to_builtins(found)})
        return 0
    console.table(
        ("run", "kind", "state", "team", "asked", "by", "of"),
        [
            (
                one.id,
                one.kind,
                one.state,
                one.asked.team,
                clock.rfc3339(one.created_at),
                one.asked.trigger.told,
                one.asked.subject,
            )
            for one in found
        ],
    )
    return 0


def show(run_id: str, /, *, output: Annotated[Format, Parameter(name="--format")] = "text") -> int:
    """Show a run: how far it is, what its steps took, what came of it.

    Args:
        run_id: the run.
        output: text or json.
    """
    with remote.opened() as server:
        if server is not None:
            _print_run(_run(server, run_id), output)
            return 0
    with workshop(looking=True) as shop:
        _print_run(_run(shop, run_id), output)
    return 0


def cancel(run_id: str, /, *, output: Annotated[Format, Parameter(name="--format")] = "text") -> int:
    """Cancel a run: one that waits has ended at once, one that runs ends as soon as its step can.

    Args:
        run_id: the run.
        output: text or json.
    """
    with remote.opened() as server:
        if server is not None:
            _print_run(server.change("POST", _path(run_id, "cancel"), None, Run), output)
            return 0
    with workshop() as shop:
        found = asking_runs.cancel(shop.settings, shop.catalog, run_id, by=shop.settings.identity or "local")
    _print_run(found, output)
    return 0


def retry(
    run_id: str,
    /,
    *,
    wait: bool = False,
    follow: bool = False,
    output: Annotated[Format, Parameter(name="--format")] = "text",
) -> int:
    """Ask anew for what a run that has ended was to do; what that one made is not made twice.

    Exits as `pipeline run`.

    Args:
        run_id: the run.
        wait: wait for the end of the new run.
        follow: wait, and print what it says meanwhile.
        output: text or json.
    """
    with remote.opened() as server:
        if server is not None:
            found = server.change("POST", _path(run_id, "retry"), None, Run)
            return _finished(server, found, output, wait=wait, follow=follow)
    with workshop() as shop:
        found = asking_runs.retry(shop.settings, shop.catalog, run_id, by=shop.settings.identity or "local")
        return _finished(shop, found, output, wait=wait, follow=follow)


def log(run_id: str, /, *, after: int = 0, follow: bool = False) -> int:
    """Print what a run said: moment, step, text, a line each.

    Args:
        run_id: the run.
        after: only what comes behind so many lines.
        follow: go on until the run has ended.
    """
    if not 0 <= after <= limits.RUN_LINES:
        raise InputError(f"--after is {after}", next_step=f"Give 0 to {limits.RUN_LINES}.", code="usage")
    with remote.opened() as server:
        if server is not None:
            _print_log(server, run_id, after, follow=follow, say=emit)
            return 0
    with workshop(looking=True) as shop:
        _print_log(shop, run_id, after, follow=follow, say=emit)
    return 0
