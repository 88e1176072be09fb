"""`waiver` on the command line, and what `check` makes of it, with an image that is pulled from a layout."""

import datetime as dt
import json
from pathlib import Path
from typing import Any

import pytest

from image_builder import Tar, put_image
from tidewaiter.cli import app
from tidewaiter.core import clock
from tidewaiter.oci.layout import Layout
from tidewaiter.oci.manifest import RunConfig

SITE = "usr/lib/python3/dist-packages"
RULE = "advisories.no-fixable-high-critical"


def _day(days: int) -> str:
    return clock.rfc3339(clock.now() + dt.timedelta(days=days))


@pytest.fixture
def tidewaiter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """Runs a command in a home of its own; exit code, and what it printed: JSON, decoded, where that was asked for."""
    monkeypatch.setenv("TIDEWAITER_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("TIDEWAITER_IDENTITY", raising=False)

    def run(*words: str) -> tuple[int, Any]:
        code = app.run(words)
        printed = capsys.readouterr()
        return code, json.loads(printed.out) if "json" in words else printed.out + printed.err

    return run


@pytest.fixture
def image(tmp_path: Path, tidewaiter: Any) -> str:
    """An image of the store with a package that an advisory of the home is about."""
    metadata = "Metadata-Version: 2.1\nName: leaky\nVersion: 1.4.0\n"
    tar = Tar().file("etc/os-release", 'ID=debian\nVERSION_ID="12"\n')
    tar.file(f"{SITE}/leaky-1.4.0.dist-info/METADATA", metadata)
    put_image(Layout(tmp_path / "it"), [tar.bytes()], name="1", run=RunConfig(user="1000"))
    advisory = {
        "id": "PYSEC-2026-1",
        "aliases": ["CVE-2026-10001"],
        "modified": "2026-01-01T00:00:00Z",
        "severity": [{"type": "CVSS_V3", "score": "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H"}],
        "affected": [
            {
                "package": {"ecosystem": "PyPI", "name": "leaky"},
                "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "2.0"}]}],
            }
        ],
    }
    (tmp_path / "advisory.json").write_text(json.dumps(advisory))
    for words in (
        ("advisories", "import", str(tmp_path / "advisory.json")),
        ("pull", f"oci:{tmp_path}/it:1", "a/b:1.0.0"),
    ):
        code, printed = tidewaiter(*words)
        assert code == 0, printed
    return "a/b:1.0.0"


def _request(*more: str) -> tuple[str, ...]:
    about = ("--advisory", "CVE-2026-10001", "--environment", "staging", "--reason", "The code is not reached.")
    return ("waiver", "request", *about, "--expires", _day(10), "--format", "json", *more)


def test_from_the_request_to_the_revocation(tidewaiter: Any, image: str) -> None:
    """A denial becomes an approval only while an approved waiver fits; every step says what it did."""
    check = ("check", image, "--environment", "staging", "--format", "json")
    code, verdict = tidewaiter(*check)
    assert (code, [item["rule"] for item in verdict["violations"]]) == (1, [RULE])
    code, asked = tidewaiter(*_request("--package", "pkg:pypi/leaky", "--versions", "<1.5", "--as", "Anna"))
    assert (code, asked["state"], asked["owner"], asked["scope"]["image"]) == (0, "requested", "Anna", "**")
    code, verdict = tidewaiter(*check)
    assert (code, [one["reason"] for one in verdict["refused_waivers"]]) == (1, ["not_approved"])
    code, approved = tidewaiter("waiver", "approve", asked["id"], "--as", "Bert", "--format", "json")
    assert (code, approved["state"], approved["reviewer"]) == (0, "in_force", "Bert")
    code, verdict = tidewaiter(*check)
    assert (code, verdict["violations"]) == (0, [])
    assert [(one["waiver"], one["violation"]["rule"]) for one in verdict["waived"]] == [(asked["id"], RULE)]
    code, text = tidewaiter("check", image, "--environment", "staging")
    assert (code, text.count(f"soon over: the waiver {asked['id']}")) == (0, 1)
    code, revoked = tidewaiter(
        "waiver", "revoke", asked["id"], "--reason", "Mended.", "--as", "Cleo", "--format", "json"
    )
    assert (code, revoked["state"], revoked["no_longer_cleared"]) == (0, "revoked", [])
    code, verdict = tidewaiter(*check)
    assert (code, [one["reason"] for one in verdict["refused_waivers"]]) == (1, ["revoked"])


def test_production_needs_images_and_two_people(tidewaiter: Any) -> None:
    """Without images the request is refused, with the owner as reviewer the approval."""
    production = _request("--environment", "production", "--as", "Anna")
    code, answer = tidewaiter(*production)
    assert (code, answer["error"]["code"]) == (2, "bad_input")
    code, asked = tidewaiter(*production, "--image", "vision/*", "--owner", "Olga")
    assert (code, asked["scope"]["environments"]) == (0, ["staging", "production"])
    for name in ("Anna", "olga"):
        code, answer = tidewaiter("waiver", "approve", asked["id"], "--as", name, "--format", "json")
        assert (code, answer["error"]["code"]) == (1, "refused")
    assert tidewaiter("waiver", "approve", asked["id"], "--as", "Bert")[0] == 0


def test_lists_what_is_asked_for_in_force_and_soon_over(tidewaiter: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Plain: requested and in force; `--expiring`: in force and soon over; `--all`: all. The setting says who."""
    monkeypatch.setenv("TIDEWAITER_IDENTITY", "Anna")
    ids = []
    for advisory in ("CVE-2026-10002", "CVE-2026-10003", "CVE-2026-10004"):
        code, asked = tidewaiter(*_request("--advisory", advisory))
        assert (code, asked["requested_by"]) == (0, "Anna")
        ids.append(asked["id"])
    assert tidewaiter("waiver", "approve", ids[0])[0] == 0
    assert tidewaiter("waiver", "revoke", ids[1], "--reason", "Mistake.")[0] == 0

    def listed(*words: str) -> set[str]:
        code, answer = tidewaiter("waiver", "list", *words, "--format", "json")
        assert code == 0
        return {one["id"] for one in answer["waivers"]}

    assert listed() == {ids[0], ids[2]}
    assert listed("--all") == set(ids)
    assert listed("--expiring", "11") == {ids[0]}
    assert listed("--expiring", "9") == set()
    code, text = tidewaiter("waiver", "show", ids[1])
    assert code == 0
    assert "by Anna: Mistake." in text
    assert ids[0] in tidewaiter("waiver", "list")[1]


@pytest.mark.parametrize(
    "more",
    [
        ("--as", ""),
        ("--as", "Anna", "--expires", "2020-01-01"),
        ("--as", "Anna", "--expires", "someday"),
        ("--as", "Anna", "--expires", "9999-12-31"),
        ("--as", "Anna", "--reason", " "),
        ("--as", "Anna", "--advisory", "CVE"),
        ("--as", "Anna", "--rule", "image.no-shell"),
        ("--as", "Anna", "--environment", "moon"),
    ],
)
def test_bad_requests_are_input_errors(tidewaiter: Any, more: tuple[str, ...]) -> None:
    """Nobody who asks, an end that is past, no day or too far, no reason, no advisory, two subjects, no environment."""
    code, answer = tidewaiter(*_request(*more))
    assert code == 2
    assert answer["error"]["next"]


def test_the_longest_time_is_a_setting(tidewaiter: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """`waiver_days` bounds what is for production, and nothing else."""
    monkeypatch.setenv("TIDEWAITER_WAIVER_DAYS", "9")
    assert tidewaiter(*_request("--as", "Anna"))[0] == 0
    assert tidewaiter(*_request("--as", "Anna", "--environment", "production", "--image", "**"))[0] == 2


def test_an_unknown_waiver_is_not_found(tidewaiter: Any) -> None:
    """Showing, approving and revoking what is not there exits with 2 and says where all are listed."""
    for words in (("show", "W-0"), ("approve", "W-0", "--as", "Bert"), ("revoke", "W-0", "--reason", "r", "--as", "B")):
        code, answer = tidewaiter("waiver", *words, "--format", "json")
        assert (code, answer["error"]["code"]) == (2, "not_found")
