"""Verdicts that are attested by machines whose clocks differ: a no that comes later counts, whatever its clock says."""

import datetime as dt
from pathlib import Path

import pytest
import small_image
from small_image import LEAK, NAME, Home

from tidewaiter.core import clock

pytestmark = pytest.mark.thorough

CHECK = ("check", NAME, "--environment", "staging")
WAIVE = ("--advisory", LEAK, "--environment", "staging", "--reason", "The code is not reached.")


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with an image and a key, to be copied."""
    return small_image.make(tmp_path_factory.mktemp("template"))


@pytest.fixture
def home(template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Home:
    """A home with an image and a key."""
    return small_image.use(template, tmp_path, monkeypatch, capsys)


def policy(home: Home) -> Path:
    """A trust policy of staging that demands a verdict, and trusts the home's key."""
    path = home.folder / "trust.toml"
    path.write_text(
        f'environment = "staging"\nrequire = ["vsa"]\n[[key]]\nname = "home"\npath = "{home.keys / "tidewaiter.pub"}"\n'
    )
    return path


def seconds_ago(monkeypatch: pytest.MonkeyPatch, seconds: int) -> None:
    """Set the clock back, as a machine's is that decides next."""
    moment = clock.now() - dt.timedelta(seconds=seconds)
    monkeypatch.setattr(clock, "now", lambda: moment)


def test_a_no_by_a_clock_that_is_behind_withdraws_a_yes(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cleared here, denied by a machine whose clock is a minute behind: the image is not trusted any more."""
    home.do(*CHECK, "--clear")
    trust = policy(home)
    assert home.run("verify", NAME, "--policy", trust)[0] == 0
    home.leak()
    with monkeypatch.context() as behind:
        seconds_ago(behind, 60)
        assert home.run(*CHECK)[0] == 1
    code, said = home.run("verify", NAME, "--policy", trust)
    assert code == 1, said


def test_a_revoked_waiver_withdraws_a_yes_by_a_clock_that_is_behind(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So does a waiver that is revoked on such a machine."""
    home.leak()
    ends = f"{clock.now().year + 1}-01-01"
    asked = home.do("waiver", "request", *WAIVE, "--expires", ends, "--as", "Anna", "--format", "json")
    home.do("waiver", "approve", asked["id"], "--as", "Bert")
    home.do(*CHECK, "--clear")
    trust = policy(home)
    assert home.run("verify", NAME, "--policy", trust)[0] == 0
    with monkeypatch.context() as behind:
        seconds_ago(behind, 60)
        home.do("waiver", "revoke", asked["id"], "--as", "Anna", "--reason", "It is reached.")
    code, said = home.run("verify", NAME, "--policy", trust)
    assert code == 1, said


def test_a_no_that_nobody_could_attest_counts_where_it_is_known(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the key's password a denial withdraws nothing that is attested; its own home does not trust that."""
    home.do(*CHECK, "--clear")
    trust = policy(home)
    monkeypatch.delenv("COSIGN_PASSWORD")
    home.leak()
    code, said = home.run(*CHECK)
    assert code == 1
    assert "not withdrawn" in said
    code, said = home.run("verify", NAME, "--policy", trust)
    assert code == 1
    assert "the answer was no" in said


def test_a_clock_that_is_far_behind_withdraws_a_yes(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where that yes lies in its future, as what nobody believes."""
    home.do(*CHECK, "--clear")
    trust = policy(home)
    home.leak()
    with monkeypatch.context() as behind:
        seconds_ago(behind, 3600)
        assert home.run(*CHECK)[0] == 1
    code, said = home.run("verify", NAME, "--policy", trust)
    assert code == 1, said
