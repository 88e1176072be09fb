"""The audit log of a home: exported, proven, old entries dropped, and what Go's own packages say of all that."""

import json
import shutil
import sqlite3
import subprocess
from pathlib import Path
from typing import Any

import pytest

from servers import Tool
from tidewaiter.catalog import bases, glance
from tidewaiter.catalog.audit import entries as audit
from tidewaiter.catalog.audit import log as audit_log
from tidewaiter.catalog.audit import sequencer as audit_sequencer
from tidewaiter.catalog.audit.verify import Verification
from tidewaiter.catalog.catalog import Catalog
from tidewaiter.cli import app
from tidewaiter.core import clock, settings
from tidewaiter.core.errors import InputError, NotFoundError, RefusedError
from tidewaiter.core.progress import SILENT, Silent
from tidewaiter.core.settings import Settings
from tidewaiter.oci.digest import Digest
from tidewaiter.pipelines.audit import auditing
from tidewaiter.pipelines.workshop import opened
from tidewaiter.signing.tlog import merkle, proof

BASE = Digest("sha256:" + "b" * 64)


@pytest.fixture
def home(tmp_path: Path) -> Settings:
    """An empty home whose entries are old as soon as they are a day old."""
    return settings.load({"TIDEWAITER_HOME": str(tmp_path / "home"), "TIDEWAITER_AUDIT_DAYS": "30"})


def grow(home: Settings, size: int, *, day: str = "2026-01-02") -> None:
    """Bring the log to that many entries."""
    at = clock.parse_rfc3339(f"{day}T03:04:05Z")
    with Catalog.open(home) as catalog, catalog.database.plainly(writing=True) as connection:
        with audit_log.reading(home.home.catalog) as log:
            state = audit_log.state(log)
        missing = size - 1 if state is None else size - state.size
        for number in range(missing):
            detail = {"text": ["x" * 8000] * 9} if number == 7 else {"number": number}
            audit.append(connection, "test.entry", f"thing {number}", detail, at=at)
    assert audit_sequencer.settle(home) == ""


def key(home: Settings) -> str:
    return audit_log.places(home).vkey.read_text().strip()


def holds(home: Settings) -> Verification:
    with opened(home, SILENT) as shop:
        found = auditing.verify(shop, key="", given=())
    assert found.problems == ()
    return found


def export(home: Settings, folder: Path) -> auditing.Exported:
    with opened(home, SILENT) as shop:
        return auditing.export(shop, folder)


def files(folder: Path) -> dict[str, bytes]:
    return {str(one.relative_to(folder)): one.read_bytes() for one in folder.rglob("*") if one.is_file()}


@pytest.mark.interop
def test_go_accepts_every_export_and_proof(home: Settings, tool: Tool, tmp_path: Path) -> None:
    """At sizes around whole tiles, into one folder that grows, with proofs of the first, the last and some entries."""
    go, folder = tool("tlogcheck"), tmp_path / "export"
    for size in (2, 255, 256, 257, 520):
        grow(home, size, day="2099-01-01")
        done = export(home, folder)
        assert (done.size, done.dropped, done.only_hashes) == (size, 0, 0)
        said = subprocess.run([go, "directory", folder, key(home)], capture_output=True, text=True, check=True)
        assert json.loads(said.stdout)["entries"] == size
        with opened(home, SILENT) as shop:
            for position in {0, 1, size // 2, size - 1}:
                made = auditing.prove(shop, position, key="")
                file = tmp_path / "it.tlog-proof"
                file.write_bytes(made.encode())
                said = subprocess.run([go, "proof", file, "-", key(home)], capture_output=True, text=True, check=True)
                assert json.loads(said.stdout)["index"] == position
                file.write_bytes(made.encode().replace(b"index ", b"index 1"))
                assert subprocess.run([go, "proof", file, "-", key(home)], capture_output=True, check=False).returncode


def test_an_export_that_grows_is_the_export_at_once(home: Settings, tmp_path: Path) -> None:
    """Nothing is written twice, partial tiles go when they are full, and documents come along."""
    grow(home, 100, day="2099-01-01")
    first = export(home, tmp_path / "grown")
    assert (first.before, first.written) == (0, 4)  # two tiles, a document, the checkpoint
    assert export(home, tmp_path / "grown").written == 0
    grow(home, 700, day="2099-01-01")
    second = export(home, tmp_path / "grown")
    assert (second.before, second.size) == (100, 700)
    export(home, tmp_path / "new")
    assert files(tmp_path / "grown") == files(tmp_path / "new")
    assert sorted(name for name in files(tmp_path / "new") if name.startswith("tile/entries")) == [
        "tile/entries/000",
        "tile/entries/001",
        "tile/entries/002.p/188",
    ]


def test_an_interrupted_export_goes_on(home: Settings, tmp_path: Path) -> None:
    """Without its checkpoint a folder is no export yet; half of its files are kept and the rest written."""
    grow(home, 600, day="2099-01-01")
    export(home, tmp_path / "export")
    whole = files(tmp_path / "export")
    for name in ("checkpoint", "tile/entries/001", "tile/1/000.p/2"):
        (tmp_path / "export" / name).unlink()
    (tmp_path / "export/tile/0/000").write_bytes(b"half")
    assert export(home, tmp_path / "export").written == 4
    assert files(tmp_path / "export") == whole


def test_a_folder_of_another_log_is_left_alone(home: Settings, tmp_path: Path) -> None:
    """Another key, and another history under the same key, are refused."""
    other = settings.load({"TIDEWAITER_HOME": str(tmp_path / "other")})
    grow(home, 10)
    grow(other, 5)
    export(other, tmp_path / "export")
    before = files(tmp_path / "export")
    with pytest.raises(RefusedError, match="another log"):
        export(home, tmp_path / "export")
    shutil.copytree(other.home.keys, home.home.keys, dirs_exist_ok=True)
    with pytest.raises(RefusedError, match="not the first"):
        export(home, tmp_path / "export")
    assert files(tmp_path / "export") == before


def test_old_entries_are_dropped_once_they_are_exported(home: Settings, tmp_path: Path) -> None:
    """Whole bundles of them; the log verifies, proves them by their hashes, and holds on to what they said of rows."""
    old = clock.parse_rfc3339("2026-01-02T03:04:05Z")
    with Catalog.open(home) as catalog, catalog.database.writing() as connection:
        bases.approve(connection, "debian12", BASE, owner="platform", expires=None, at=old)
    grow(home, 600)
    grow(home, 700, day="2099-01-01")
    done = export(home, tmp_path / "export")
    assert (done.dropped, done.size) == (512, 700)
    whole = holds(home)
    assert (whole.only_hashes, whole.size, whole.compared) == (512, 701, 1)
    with opened(home, SILENT) as shop:
        made = auditing.prove(shop, 5, key="")
        assert made.extra is None
        entry = (tmp_path / "export/tile/entries/000").read_bytes()
        start = 0
        for _ in range(5):
            start += 2 + int.from_bytes(entry[start : start + 2], "big")
        data = entry[start + 2 : start + 2 + int.from_bytes(entry[start : start + 2], "big")]
        proof.verify(made, merkle.leaf_hash(data), shop_key(shop))
        (dropped,) = auditing.listed(shop, subject="", action="audit.drop", since=None, rows=9)
    assert dropped.position == 700
    # Dropping again, further, carries on what was carried on before; and a new export says what it lacks.
    with Catalog.open(home) as catalog:
        catalog.approve_base("debian12", Digest("sha256:" + "c" * 64), owner="platform", expires=None)
    grow(home, 1100)
    later = export(
        settings.load({"TIDEWAITER_HOME": str(home.home.path), "TIDEWAITER_AUDIT_DAYS": "0"}), tmp_path / "b"
    )
    assert (later.only_hashes, later.dropped) == (512, 0)
    assert holds(home).compared == 2
    with Catalog.open(home) as catalog, catalog.database.plainly(writing=True) as rows:
        rows.execute("UPDATE base_approval SET owner = 'me' WHERE digest = ?", (BASE,))
    with opened(home, SILENT) as shop:
        assert [one.kind for one in auditing.verify(shop, key="", given=()).problems] == ["row_edited"]


def shop_key(shop: Any) -> Any:
    return auditing.log_key(shop, "")


def test_no_file_is_written_outside_of_the_folder(home: Settings, tmp_path: Path) -> None:
    """A document's digest names its file: somebody who edits the database does not choose where that lies."""
    grow(home, 3)
    rows = sqlite3.connect(home.home.catalog)
    with rows:
        rows.execute("INSERT INTO audit_document (digest, document) VALUES ('sha256:../../outside', x'00')")
    rows.close()
    with pytest.raises(RefusedError, match="document"):
        export(home, tmp_path / "a" / "export")
    assert not (tmp_path / "a" / "outside").exists()


def test_nothing_is_dropped_that_is_not_in_the_folder(home: Settings, tmp_path: Path) -> None:
    """A bundle that somebody removed or changed there keeps every entry in the catalog."""
    grow(home, 600)
    kept = settings.load({"TIDEWAITER_HOME": str(home.home.path)})
    export(kept, tmp_path / "export")
    for spoil in (Path.unlink, lambda path: path.write_bytes(b"x")):
        spoil(tmp_path / "export/tile/entries/000")
        with pytest.raises(RefusedError, match="cannot be dropped"):
            export(home, tmp_path / "export")
    assert holds(home).only_hashes == 0


def test_dropping_by_hand_is_found(home: Settings, tmp_path: Path) -> None:
    """More than was dropped and said is missing: that much is a removal."""
    grow(home, 600)
    export(home, tmp_path / "export")
    with Catalog.open(home) as catalog, catalog.database.plainly(writing=True) as rows:
        rows.execute("DELETE FROM audit_entry WHERE position = 512")
    with opened(home, SILENT) as shop:
        found = auditing.verify(shop, key="", given=())
    assert [(one.kind, one.position) for one in found.problems] == [("entry_removed", 512)]


def test_entries_are_found_by_what_they_are_about(home: Settings) -> None:
    """By subject, action, noun and day; the latest last, no more than asked for."""
    grow(home, 20)
    grow(home, 25, day="2099-01-01")
    with opened(home, SILENT) as shop:

        def positions(**given: Any) -> list[int]:
            asked: dict[str, Any] = {"subject": "", "action": "", "since": None, "rows": 5, **given}
            return [one.position for one in auditing.listed(shop, **asked)]

        assert positions() == [20, 21, 22, 23, 24]
        assert positions(subject="thing 3") == [4, 23]
        assert positions(action="test.", rows=2) == [23, 24]
        assert positions(action="test", rows=2) == []
        assert positions(action="audit.begin") == [0]
        assert positions(since=clock.parse_rfc3339("2098-01-01T00:00:00Z"), rows=100) == [20, 21, 22, 23, 24]
        with pytest.raises(InputError):
            positions(rows=0)
        with pytest.raises(NotFoundError):
            auditing.prove(shop, 25, key="")


class Notes(Silent):
    """Keeps what is said."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def note(self, text: str) -> None:
        self.said.append(text)


def test_a_command_leaves_nothing_waiting(home: Settings, tmp_path: Path) -> None:
    """Also one that failed; where the log cannot go on, that is said, and the command's own end stays what it was."""
    with opened(home, SILENT) as shop:
        shop.catalog.log("test", "a", {})
        assert glance.has_unlogged(home.home.catalog)
    assert not glance.has_unlogged(home.home.catalog)

    def fail() -> None:
        with opened(home, SILENT) as shop:
            shop.catalog.log("test", "b", {})
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert not glance.has_unlogged(home.home.catalog)
    audit_log.places(home).key.rename(tmp_path / "away")
    notes = Notes()
    with opened(home, notes) as shop:
        shop.catalog.log("test", "c", {})
    assert ["is missing" in text for text in notes.said] == [True]
    assert holds(home).waiting == 1


def test_the_key_is_given_as_text_or_as_a_file(home: Settings, tmp_path: Path) -> None:
    """And a wrong one makes nothing hold."""
    grow(home, 5)
    (tmp_path / "vkey").write_text(key(home) + "\n")
    other = settings.load({"TIDEWAITER_HOME": str(tmp_path / "other")})
    grow(other, 2)
    with opened(home, SILENT) as shop:
        for given in (key(home), str(tmp_path / "vkey")):
            assert auditing.verify(shop, key=given, given=()).holds
        found = auditing.verify(shop, key=key(other), given=())
        assert {one.kind for one in found.problems} == {"checkpoint"}
        with pytest.raises(InputError):
            auditing.log_key(shop, "no key")


def test_on_the_command_line(
    home: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit codes: 0 it holds, 1 it was changed, 2 there is no such entry, 3 it could not be found out."""
    monkeypatch.setenv("TIDEWAITER_HOME", str(home.home.path))

    def run(*words: str) -> tuple[int, str]:
        return app.run(["audit", *words]), capsys.readouterr().out

    assert run("verify")[0] == 3
    grow(home, 10)
    assert run("verify")[1].endswith("nothing was changed\n")
    assert json.loads(run("verify", "--format", "json")[1])["holds"] is True
    assert "thing 8" in run("list", "--subject", "thing 8")[1]
    assert json.loads(run("list", "--rows", "1", "--format", "json")[1])["entries"][0]["position"] == 9
    assert run("prove", "3")[1].startswith("c2sp.org/tlog-proof@v1\n")
    assert run("prove", "3", "--output", str(tmp_path / "p")) == (0, "")
    made = proof.parse((tmp_path / "p").read_bytes())
    shown = json.loads(run("prove", "3", "--format", "json")[1])
    assert (shown["position"], shown["checkpoint"]) == (made.index, made.checkpoint.decode())
    assert run("prove", "99")[0] == 2
    assert "10 of them new" in run("export", str(tmp_path / "e"))[1]
    kept = tmp_path / "e" / "checkpoint"
    with Catalog.open(home) as catalog, catalog.database.plainly(writing=True) as rows:
        rows.execute("UPDATE audit_entry SET entry = replace(entry, 'thing 2', 'thing 3') WHERE position = 3")
    code, text = run("verify", "--checkpoint", str(kept))
    assert (code, text.splitlines()[-1]) == (1, "CHANGED: the log does not hold")
    assert "entry 3 is not what was logged there" in text
    assert run("prove", "3")[0] == 1
    audit_log.places(home).vkey.unlink()
    assert run("verify")[0] == 3
