"""Environments as settings say them, in every command that decides about one or shows it."""

import json
from pathlib import Path
from typing import Any

import pytest

from image_builder import Tar, put_image
from tidewaiter.cli import app
from tidewaiter.oci.layout import Layout
from tidewaiter.oci.manifest import RunConfig

TABLES = """\
[[environment]]
name = "production"
repositories = ["shop/*"]
namespaces = ["prod"]

[[environment]]
name = "research"
repositories = ["play/*"]
namespaces = ["west/play"]
"""


@pytest.fixture
def tidewaiter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """Runs a command in a home with tables; exit code, and what it printed: JSON, decoded, where that was asked for."""
    (tmp_path / "home").mkdir(mode=0o700)
    (tmp_path / "home/settings.toml").write_text(TABLES)
    monkeypatch.setenv("TIDEWAITER_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("COSIGN_PASSWORD", "")

    def run(*words: object) -> tuple[int, Any]:
        code = app.run([str(word) for word in words])
        printed = capsys.readouterr()
        if "json" in words and printed.out:
            return code, json.loads(printed.out)
        return code, printed.out + printed.err

    return run


@pytest.fixture
def pulled(tmp_path: Path, tidewaiter: Any) -> str:
    """An image of the store under `shop/till:1` and `play/toy:1`, and a key; its digest."""
    tar = Tar().file("etc/os-release", 'ID=debian\nVERSION_ID="12"\n')
    image = put_image(Layout(tmp_path / "layout"), [tar.bytes()], name="1", run=RunConfig(user="1000"))
    for name in ("shop/till:1", "play/toy:1"):
        assert tidewaiter("pull", f"oci:{tmp_path}/layout:1", name)[0] == 0
    assert tidewaiter("key", "generate")[0] == 0
    return image.digest


def test_what_settings_say_is_shown(tidewaiter: Any) -> None:
    """The patterns, the default, and what holds for one name."""
    code, text = tidewaiter("environment", "list")
    assert code == 0
    assert "shop/*" in text
    assert "anything else: production" in text
    assert tidewaiter("environment", "of", "reg.example/play/toy") == (0, "reg.example/play/toy: research\n")
    assert tidewaiter("environment", "of", "west/play", "--namespace", "--format", "json") == (
        0,
        {"name": "west/play", "kind": "namespace", "environment": "research"},
    )
    for name in ("play", "a/b/c", "/b", "a/"):
        assert tidewaiter("environment", "of", name, "--namespace")[0] == 2, name


def test_a_milder_environment_clears_nothing(tidewaiter: Any, pulled: str) -> None:
    """`check` without an environment takes the repository's; a milder one is told, and refused for clearing."""
    code, verdict = tidewaiter("check", "shop/till:1", "--format", "json")
    assert (code in {1, 3}, verdict["environment"], verdict["artifact"]) == (True, "production", pulled)
    code, text = tidewaiter("check", "shop/till:1", "--environment", "research")
    assert code == 0
    assert "shop/till belongs to production; a verdict for research does not clear it" in text
    code, text = tidewaiter("check", "shop/till:1", "--environment", "research", "--clear")
    assert (code, "milder" in text) == (1, True)
    code, text = tidewaiter("check", "play/toy:1", "--clear")
    assert (code, "cleared for research" in text) == (0, True), text


@pytest.mark.thorough
def test_what_was_cleared_before_settings_changed_does_not_leave(tidewaiter: Any, pulled: str, tmp_path: Path) -> None:
    """A clearing for research is no longer enough once the repository, or where it is pushed to, is production."""
    assert tidewaiter("check", "play/toy:1", "--clear")[0] == 0
    for command in ("push", "copy"):
        code, text = tidewaiter(command, "play/toy:1", "127.0.0.1:9/shop/toy:1")
        assert (code, "cleared for research only" in text) == (1, True), text
    settings = tmp_path / "home/settings.toml"
    settings.write_text(TABLES.replace('["shop/*"]', '["shop/*", "play/toy"]'))
    code, text = tidewaiter("push", "play/toy:1", "127.0.0.1:9/play/other:1")
    assert (code, "belongs to production" in text) == (1, True), text


def test_ci_refuses_a_milder_environment_before_it_builds(tidewaiter: Any, tmp_path: Path) -> None:
    """A project that asks for less than its repository's environment is refused; nothing is built for it."""
    from workplace import PROJECT, commit

    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "tidewaiter.toml").write_text(PROJECT.format(environment="staging").replace("team/small", "shop/small"))
    (folder / "main.py").write_text("")
    (folder / "requirements.in").write_text("")
    commit(folder)
    assert tidewaiter("key", "generate")[0] == 0
    code, text = tidewaiter("ci", folder)
    assert (code, "shop/small belongs to production, and staging is milder" in text) == (1, True), text
    assert "2/6 build" not in text


def test_workloads_are_told_with_their_environment_and_verdict(tidewaiter: Any, pulled: str) -> None:
    """In `workload list`, where a filter leaves what is not allowed; in `trace` and `affected` as well."""
    assert tidewaiter("check", "play/toy:1", "--environment", "research")[0] == 0
    for path in ("west/play/toy", "west/prod/till"):
        assert tidewaiter("workload", "record", path, "--image", pulled)[0] == 0
    _, listed = tidewaiter("workload", "list", "--format", "json")
    assert [(one["namespace"], one["environment"], one["verdict"]) for one in listed["workloads"]] == [
        ("play", "research", "allow"),
        ("prod", "production", "none"),
    ]
    _, listed = tidewaiter("workload", "list", "--not-allowed", "--format", "json")
    assert [one["namespace"] for one in listed["workloads"]] == ["prod"]
    _, traced = tidewaiter("trace", "west/prod/till", "--format", "json")
    assert [one["detail"]["environment"] for one in traced["nodes"] if one["kind"] == "workload"] == ["production"]


def test_doctor_tells_patterns_that_decide_nothing(tidewaiter: Any, pulled: str, tmp_path: Path) -> None:
    """A pattern that a stricter one covers, and one that fits nothing that is known."""
    (tmp_path / "home/settings.toml").write_text(
        TABLES + '\n[[environment]]\nname = "staging"\nrepositories = ["shop/*", "shpo/*"]\n'
    )
    _, report = tidewaiter("doctor", "--format", "json")
    told = [one["message"] for one in report["checks"] if one["name"] == "settings.environments"]
    assert told == [
        "shop/* decides nothing for staging: shop/* is production, which is stricter",
        "no repository is known that fits shpo/*",
    ]
