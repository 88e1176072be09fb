"""Two homes, a log and its witness: what they exchange as files, what is refused, and what Go says of the proofs."""

import datetime as dt
import json
import shutil
import sqlite3
import subprocess
from pathlib import Path
from typing import Any

import pytest

from servers import Tool
from tidewaiter.catalog.audit import entries as audit
from tidewaiter.catalog.audit import log as audit_log
from tidewaiter.catalog.audit import sequencer as audit_sequencer
from tidewaiter.catalog.audit import witnesses as audit_witnesses
from tidewaiter.catalog.catalog import Catalog
from tidewaiter.cli import app
from tidewaiter.core import clock, settings
from tidewaiter.core.errors import InputError, NotVerifiedError
from tidewaiter.core.progress import SILENT
from tidewaiter.core.settings import Settings
from tidewaiter.pipelines.audit import auditing, witnessing
from tidewaiter.pipelines.audit.witnessing import Given
from tidewaiter.pipelines.workshop import opened
from tidewaiter.signing.tlog.witness import BehindError


class Pair:
    """The home of a log, and the home of somebody who witnesses it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.theirs = settings.load({"TIDEWAITER_HOME": str(folder / "theirs"), "TIDEWAITER_ORIGIN": "witness.example"})
        self._variables = {"TIDEWAITER_HOME": str(folder / "ours")}
        self.ours = settings.load(self._variables)

    @property
    def log(self) -> str:
        return audit_log.places(self.ours).vkey.read_text().strip()

    @property
    def witness(self) -> str:
        return (self.theirs.home.path / "witness/witness.vkey").read_text().strip()

    def trust(self, *witnesses: str) -> None:
        self.ours = settings.load({**self._variables, "TIDEWAITER_AUDIT_WITNESSES": ", ".join(witnesses)})

    def grow(self, count: int, word: str = "thing") -> None:
        at = clock.parse_rfc3339("2026-01-02T03:04:05Z")
        with Catalog.open(self.ours) as catalog, catalog.database.plainly(writing=True) as connection:
            for number in range(count):
                audit.append(connection, "test.entry", f"{word} {number}", {}, at=at)
        assert audit_sequencer.settle(self.ours) == ""

    def ask(self, old: int) -> Path:
        path = self._folder / "request"
        with opened(self.ours, SILENT) as shop:
            path.write_bytes(witnessing.request(shop, old))
        return path

    def cosign(self, source: Path, witness: Settings | None = None) -> Given:
        with opened(witness or self.theirs, SILENT) as shop:
            return witnessing.cosign(shop, source, log=self.log, key=None)

    def take(self, given: Given, asked: Path | None = None) -> tuple[audit_witnesses.Cosigned, ...]:
        path = self._folder / "answer"
        path.write_text(given.signature.line)
        with opened(self.ours, SILENT) as shop:
            return witnessing.take(shop, path, asked)

    def problems(self) -> list[str]:
        with opened(self.ours, SILENT) as shop:
            return [problem.kind for problem in auditing.verify(shop, key="", given=()).problems]

    def current(self) -> bytes:
        with opened(self.ours, SILENT) as shop:
            return witnessing.current(shop)


@pytest.fixture
def pair(tmp_path: Path) -> Pair:
    """A log of some 300 entries, whose witness was not asked yet."""
    made = Pair(tmp_path)
    made.grow(300)
    return made


@pytest.mark.interop
def test_go_accepts_what_a_witness_signed(pair: Pair, tool: Tool, tmp_path: Path) -> None:
    """A cosigned checkpoint, an export with it, and proofs for entries before it; those after it are not witnessed."""
    program = tool("tlogcheck")

    def go(*words: str | Path) -> dict[str, Any]:
        done = subprocess.run([program, *words], capture_output=True, text=True, check=False)
        found: dict[str, Any] = json.loads(done.stdout) if done.returncode == 0 else {}
        return found

    given = pair.cosign(pair.ask(0))
    pair.trust(pair.witness)
    pair.take(given)
    (tmp_path / "checkpoint").write_bytes(pair.current())
    said = go("note", tmp_path / "checkpoint", pair.log, pair.witness)
    assert sorted(said["signers"]) == sorted([given.checkpoint.origin, given.key.name])
    pair.grow(700, "later")
    file = tmp_path / "it.tlog-proof"
    for position, witnessed in ((0, True), (299, True), (300, True), (301, False), (1000, False)):
        with opened(pair.ours, SILENT) as shop:
            file.write_bytes(auditing.prove(shop, position, key="").encode())
        assert go("proof", file, "-", pair.log)["index"] == position
        assert len(go("proof", file, "-", pair.log, pair.witness).get("witnessed", [])) == witnessed
    with opened(pair.ours, SILENT) as shop:
        auditing.export(shop, tmp_path / "export")
    pair.take(pair.cosign(tmp_path / "export"))
    with opened(pair.ours, SILENT) as shop:
        auditing.export(shop, tmp_path / "export")
    assert len(go("directory", tmp_path / "export", pair.log, pair.witness)["witnessed"]) == 1


def test_a_log_that_grows_is_signed_again(pair: Pair, tmp_path: Path) -> None:
    """From a request or from an export, and the answer is kept although the log has grown meanwhile."""
    first = pair.cosign(pair.ask(0))
    pair.trust(pair.witness)
    pair.take(first)
    pair.grow(400, "more")
    asked = pair.ask(301)
    second = pair.cosign(asked)
    pair.grow(1, "meanwhile")
    with pytest.raises(NotVerifiedError):
        pair.take(second)
    (kept,) = pair.take(second, asked)
    assert (kept.witness, kept.size) == (pair.witness.partition("+")[0], 701)
    with opened(pair.ours, SILENT) as shop:
        auditing.export(shop, tmp_path / "export")
    assert pair.cosign(tmp_path / "export").checkpoint.size == 702
    assert pair.cosign(tmp_path / "export").checkpoint.size == 702
    pair.take(pair.cosign(tmp_path / "export"), tmp_path / "export/checkpoint")
    with pytest.raises(InputError, match="more or later"):
        pair.take(second, asked)


def test_the_witness_says_where_to_start(pair: Pair) -> None:
    """A request from elsewhere is refused with the number of entries that were signed last."""
    pair.cosign(pair.ask(0))
    pair.grow(5)
    for old in (0, 300):
        with pytest.raises(BehindError) as behind:
            pair.cosign(pair.ask(old))
        assert behind.value.size == 301
    with pytest.raises(InputError, match="cannot go on from 999"):
        pair.ask(999)


def test_a_rewritten_log_is_not_signed(pair: Pair, tmp_path: Path) -> None:
    """With the log's own key: another history, whatever its length, and an older copy, by both ways of asking."""
    home = pair.ours.home.path
    shutil.copytree(home, tmp_path / "before")
    pair.grow(10)
    pair.cosign(pair.ask(0))
    pair.trust(pair.witness)
    shutil.rmtree(home)
    shutil.copytree(tmp_path / "before", home)
    with opened(pair.ours, SILENT) as shop:
        auditing.export(shop, tmp_path / "older")
    with pytest.raises(InputError, match="fewer than the 311"):
        pair.cosign(tmp_path / "older")
    pair.grow(40, "forged")
    with pytest.raises(NotVerifiedError, match="does not go on"):
        pair.cosign(pair.ask(311))
    with opened(pair.ours, SILENT) as shop:
        auditing.export(shop, tmp_path / "forged")
    with pytest.raises(NotVerifiedError, match="does not go on"):
        pair.cosign(tmp_path / "forged")


def test_a_log_rewritten_after_it_was_signed_is_found(pair: Pair, tmp_path: Path) -> None:
    """What the witness signed stays here too: `audit verify` compares with it, and says when it is gone."""
    home = pair.ours.home.path
    shutil.copytree(home, tmp_path / "before")
    pair.grow(10)
    given = pair.cosign(pair.ask(0))
    pair.trust(pair.witness)
    pair.take(given)
    assert pair.problems() == []
    kept = tmp_path / "kept"
    shutil.copytree(home / "audit/witnesses", kept)
    shutil.rmtree(home)
    shutil.copytree(tmp_path / "before", home)
    shutil.copytree(kept, home / "audit/witnesses")
    assert pair.problems() == ["rolled_back"]
    pair.grow(40, "forged")
    assert pair.problems() == ["rewritten"]
    shutil.rmtree(home / "audit/witnesses")
    assert pair.problems() == ["unwitnessed"]


def test_a_witness_that_is_silent_is_named(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that never signed, and one whose last signature is over a week old."""
    given = pair.cosign(pair.ask(0))
    pair.trust(pair.witness)
    assert pair.problems() == ["unwitnessed"]
    pair.take(given)
    assert pair.problems() == []
    now = clock.now()
    monkeypatch.setattr(clock, "now", lambda: now + dt.timedelta(days=8))
    assert pair.problems() == ["unwitnessed"]


def test_proofs_prefer_what_most_witnesses_signed(pair: Pair, tmp_path: Path) -> None:
    """Two witnesses on an earlier checkpoint count more than one on a later; an entry after both has what there is."""
    other = settings.load({"TIDEWAITER_HOME": str(tmp_path / "other"), "TIDEWAITER_ORIGIN": "other.example"})
    asked = pair.ask(0)
    ours, theirs = pair.cosign(asked), pair.cosign(asked, other)
    pair.trust(pair.witness, str(theirs.key))
    pair.take(ours)
    pair.take(theirs)
    assert pair.current().count(b"\n\xe2\x80\x94 ") == 3
    files, key = audit_log.places(pair.ours), audit_log.public_key(audit_log.places(pair.ours))
    witnesses = audit_witnesses.configured(pair.ours)
    pair.grow(9)
    best = audit_witnesses.best(files, key, witnesses, above=300)
    assert best is not None
    assert b"\n301\n" in best
    pair.take(pair.cosign(pair.ask(301)))
    best = audit_witnesses.best(files, key, witnesses, above=301)
    assert best is not None
    assert b"\n310\n" in best
    assert audit_witnesses.best(files, key, witnesses, above=310) is None


def test_only_known_witnesses_that_hold_are_kept(pair: Pair, tmp_path: Path) -> None:
    """No setting, another witness, a log's key in the setting, and an answer to another checkpoint are refused."""
    given = pair.cosign(pair.ask(0))
    with pytest.raises(InputError, match="no witness is known"):
        pair.take(given)
    pair.trust(pair.log)
    with pytest.raises(InputError, match="no witness's"):
        pair.take(given)
    other = settings.load({"TIDEWAITER_HOME": str(tmp_path / "other"), "TIDEWAITER_ORIGIN": "other.example"})
    pair.trust(str(pair.cosign(pair.ask(0), other).key))
    with pytest.raises(NotVerifiedError, match="none of the signatures"):
        pair.take(given)
    pair.trust(pair.witness)
    pair.grow(1)
    with pytest.raises(NotVerifiedError, match="does not hold"):
        pair.take(given)
    assert not list((pair.ours.home.path / "audit").glob("witnesses/*.checkpoint"))


def test_a_damaged_signature_is_found(pair: Pair) -> None:
    """Somebody who edits what is kept of a witness does not get a proof or a checkpoint with it."""
    given = pair.cosign(pair.ask(0))
    pair.trust(pair.witness)
    pair.take(given)
    ((_, path, data),) = audit_witnesses.kept(audit_log.places(pair.ours), audit_witnesses.configured(pair.ours))
    assert data is not None
    path.write_bytes(data.replace(b"\n301\n", b"\n300\n"))
    assert pair.problems() == ["checkpoint", "unwitnessed"]
    assert pair.current().count(b"\n\xe2\x80\x94 ") == 1
    with opened(pair.ours, SILENT) as shop:
        assert auditing.prove(shop, 5, key="").checkpoint == pair.current()


def test_the_commands_exchange_files(
    pair: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """From the request to the answer and back, on the command line; the tables then still read as before."""
    asked, answer, ours = tmp_path / "asked", tmp_path / "answered", str(pair.ours.home.path)
    monkeypatch.setenv("TIDEWAITER_HOME", ours)
    assert app.run(["audit", "checkpoint", "--request", "0", "--output", str(asked)]) == 0
    monkeypatch.setenv("TIDEWAITER_HOME", str(pair.theirs.home.path))
    assert app.run(["audit", "cosign", str(asked), "--log", pair.log, "--output", str(answer)]) == 0
    assert app.run(["audit", "cosign", str(asked), "--log", pair.log]) == 2
    monkeypatch.setenv("TIDEWAITER_HOME", ours)
    monkeypatch.setenv("TIDEWAITER_AUDIT_WITNESSES", pair.witness)
    assert app.run(["audit", "verify"]) == 1
    assert "UNWITNESSED" in capsys.readouterr().out
    assert app.run(["audit", "accept", str(answer), "--checkpoint", str(asked), "--format", "json"]) == 0
    (added,) = json.loads(capsys.readouterr().out)["added"]
    assert (added["witness"], added["size"]) == (pair.witness.partition("+")[0], 301)
    assert app.run(["audit", "verify", "--format", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["witnesses"] == [added]
    assert app.run(["audit", "checkpoint", "--format", "json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert (shown["size"], shown["request"]) == (301, None)
    assert "tidewaiter.local/witness/" in shown["checkpoint"]
    with sqlite3.connect(pair.ours.home.catalog) as connection:
        assert connection.execute("SELECT count(*) FROM audit_pending").fetchone() == (0,)
