"""A fresh runner takes from the registry the layers that a trusted builder made, instead of fetching wheels."""

import json
import shutil
from pathlib import Path

import pytest

from workplace import Done, run

CLOSED = "http://127.0.0.1:9"


@pytest.fixture
def shared(docker_registry: str) -> dict[str, str]:
    """Variables of a home that shares layers through the real registry."""
    return {"TIDEWAITER_SHARED_LAYERS": f"{docker_registry}/shared/layers", "TIDEWAITER_PLAIN_HTTP": docker_registry}


def forget_wheels(home: Path) -> None:
    """Remove what a home knows of wheels: the files, and which blob is their layer."""
    for name in ("wheels", "wheel-files"):
        shutil.rmtree(home / "cache" / name, ignore_errors=True)
    for record in (home / "cache/layers").glob("*.json"):
        if (json.loads(record.read_text()).get("made_of") or {}).get("kind") == "python":
            record.unlink()


def offline(runner: Path, project: Path, more: dict[str, str]) -> Done:
    """Build where neither the index nor any wheel's address can be reached."""
    closed = {"HTTPS_PROXY": CLOSED, "HTTP_PROXY": CLOSED, "TIDEWAITER_PYTHON_INDEX": f"{CLOSED}/simple"}
    return run(runner, "build", project, "--format", "json", extra={**closed, **more})


def published(home: Path, project: Path, shared: dict[str, str], name: str) -> dict[str, object]:
    """Build, clear and push in `home`; what `push` says."""
    host = shared["TIDEWAITER_PLAIN_HTTP"]
    assert run(home, "key", "generate").code == 0
    done = run(home, "ci", project, "--format", "json", extra=shared)
    assert done.code == 0, done.err
    pushed = run(home, "push", done.json["reference"], f"{host}/{name}:1", "--format", "json", extra=shared)
    assert pushed.code == 0, pushed.err
    assert pushed.json["shared_layers"] is not None, pushed.err
    return {**done.json, "shared_layers": pushed.json["shared_layers"]}


@pytest.mark.thorough
def test_a_fresh_runner_fetches_layers_instead_of_wheels(
    tmp_path: Path, home: Path, project: Path, shared: dict[str, str]
) -> None:
    """With the builder's key trusted, no wheel is fetched, and the digest is the same; a second push shares nothing."""
    made = published(home, project, shared, "team/fetch")
    assert made["shared_layers"] == 3
    again = run(
        home,
        "push",
        made["reference"],
        f"{shared['TIDEWAITER_PLAIN_HTTP']}/team/fetch:2",
        "--format",
        "json",
        extra=shared,
    )
    assert again.json["shared_layers"] == 0

    runner = tmp_path / "runner"
    # The base's packages, so that the test needs no archive; no wheel and no layer.
    shutil.copytree(home / "cache/debs", runner / "cache/debs")
    trusted = {**shared, "TIDEWAITER_TRUSTED_BUILDERS": str(home / "keys/tidewaiter.pub")}
    done = offline(runner, project, trusted)
    assert done.code == 0, done.err
    assert done.json["digest"] == made["digest"]
    assert (done.json["reused_layers"], done.json["built_layers"]) == (3, 1)
    assert not (runner / "cache/wheels").exists()
    assert offline(runner, project, {}).json["built_layers"] == 0  # what was verified once is this home's now


@pytest.mark.thorough
def test_an_untrusted_builder_is_not_believed(
    tmp_path: Path, home: Path, project: Path, shared: dict[str, str]
) -> None:
    """Without the builder's key its layer is not used: the wheel is wanted, and cannot be had."""
    published(home, project, shared, "team/untrusted")
    shutil.move(home / "keys", tmp_path / "keys")
    forget_wheels(home)
    done = offline(home, project, shared)
    assert (done.code, done.json["error"]["code"]) == (3, "network")
    assert "no builder is trusted" in done.err
    believing = {**shared, "TIDEWAITER_TRUSTED_BUILDERS": str(tmp_path / "keys/tidewaiter.pub")}
    done = offline(home, project, believing)
    assert (done.code, done.json["built_layers"]) == (0, 0)


@pytest.mark.thorough
def test_a_registry_that_is_down_costs_nothing_but_time(home: Path, project: Path) -> None:
    """When the registry cannot be asked, that is said once and the layers are made here."""
    assert run(home, "key", "generate").code == 0
    assert run(home, "build", project).code == 0
    forget_wheels(home)
    down = {"TIDEWAITER_SHARED_LAYERS": "127.0.0.1:9/shared/layers", "TIDEWAITER_PLAIN_HTTP": "127.0.0.1:9"}
    done = run(home, "build", project, "--format", "json", extra=down)
    assert done.code == 0, done.err
    assert done.json["built_layers"] == 1
    assert done.err.count("no shared layers are used") == 1
