"""Builds keep the cache within its bound, without looking every time."""

import json
from pathlib import Path

import pytest

from workplace import commit, run


@pytest.mark.thorough
def test_a_build_prunes_what_outgrew_the_bound(home: Path, project: Path) -> None:
    """What no image needs goes, the least recently used first; the image that was just built stays whole."""
    assert (home / "cache/wheels").exists()
    kept = run(home, "build", project, extra={"TIDEWAITER_CACHE_BYTES": "1", "TIDEWAITER_PRUNE": "no"})
    assert (kept.code, "were freed" in kept.err) == (0, False)
    assert not (home / "cache/measured.json").exists()

    (project / "main.py").write_text("print(1)\n")
    commit(project)
    done = run(home, "build", project, "--format", "json", extra={"TIDEWAITER_CACHE_BYTES": "1"})
    assert done.code == 0, done.err
    assert "the cache was over its bound: " in done.err
    assert list((home / "cache/wheels").rglob("*.whl")) == []
    inspected = run(home, "inspect", done.json["reference"], "--format", "json")
    assert inspected.code == 0, inspected.err
    assert run(home, "build", project, "--format", "json").json["digest"] == done.json["digest"]


@pytest.mark.thorough
def test_a_build_looks_only_when_it_has_to(home: Path, project: Path) -> None:
    """Once measured, builds count what they add; a build that adds nothing does not even count."""
    place = home / "cache/measured.json"

    def build(text: str, bound: str) -> str:
        (project / "main.py").write_text(text)
        commit(project)
        done = run(home, "build", project, extra={"TIDEWAITER_CACHE_BYTES": bound})
        assert done.code == 0, done.err
        return done.err

    build("print(1)\n", "20GB")
    first = json.loads(place.read_text())
    assert (first["bytes"] > 1_000_000, first["added"]) == (True, 0)
    build("print(1)\n", "20GB")
    assert json.loads(place.read_text()) == first
    build("print(2)\n", "20GB")
    second = json.loads(place.read_text())
    assert second == {**first, "added": second["added"]}
    assert second["added"] > 0

    # Over the bound, but hardly more than when it was measured: whatever stayed then is not looked at again.
    place.write_text(json.dumps({**first, "bytes": 30 * 10**9}))
    assert "freed" not in build("print(3)\n", "20GB")
    assert json.loads(place.read_text())["bytes"] == 30 * 10**9
    # A day later it is measured anew, and found small.
    place.write_text(json.dumps({**first, "at": first["at"] - 90_000, "bytes": 30 * 10**9}))
    assert "freed" not in build("print(4)\n", "20GB")
    assert json.loads(place.read_text())["bytes"] < 20 * 10**9
    # A damaged note is none.
    place.write_text("{")
    assert "freed" in build("print(5)\n", "1")
