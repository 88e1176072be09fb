"""What clearing an image attaches to it, what later decisions change of that, and who may sign it."""

import datetime as dt
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import small_image
from small_image import LEAK, NAME, Home

from tidewaiter.core import clock, settings
from tidewaiter.core.progress import SILENT
from tidewaiter.pipelines import trusting
from tidewaiter.pipelines.attachments import attaching
from tidewaiter.pipelines.attachments.attaching import Stored
from tidewaiter.pipelines.workshop import opened
from tidewaiter.signing import dsse, predicates, statement, vsa
from tidewaiter.signing.gathered import Gathered
from tidewaiter.signing.statement import Statement
from tidewaiter.signing.vsa import Vsa
from workplace import run

pytestmark = pytest.mark.thorough

HOUR = dt.timedelta(hours=1)
CHECK = ("check", NAME, "--environment", "staging")
CLEAR = (*CHECK, "--clear")
DECIDED = {predicates.VULNERABILITIES, predicates.VERDICT}
CONTENTS = {predicates.SPDX, predicates.CYCLONEDX}


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with an image and a key, to be copied."""
    return small_image.make(tmp_path_factory.mktemp("template"))


@pytest.fixture
def home(template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Home:
    """A home with an image and a key."""
    return small_image.use(template, tmp_path, monkeypatch, capsys)


def gathered() -> Gathered:
    """What is attached to the image."""
    with opened(settings.load(), SILENT) as shop:
        digest = shop.resolve_tag(*NAME.split(":"))
        assert digest is not None
        found = attaching.gather_stored(shop, digest)
    assert (found.broken, found.unread) == ((), ())
    return found


def statements() -> list[Statement]:
    """Statements in the tag format, the oldest first."""
    found = [one.document for one in gathered().found if one.place == "att"]
    return [statement.parse(dsse.parse(document).payload) for document in found]


def verdicts() -> list[Vsa]:
    """Verdicts in the tag format, the oldest first."""
    return [vsa.parse(one.predicate) for one in statements() if one.predicate_type == predicates.VERDICT]


def kinds() -> Counter[tuple[str, str]]:
    """How many of each type there are, by format."""
    return Counter((one.format, one.claimed_type or predicates.SIGNATURE) for one in gathered().found)


def later(monkeypatch: pytest.MonkeyPatch, hours: float) -> None:
    """Let hours pass."""
    moment = clock.now() + hours * HOUR
    monkeypatch.setattr(clock, "now", lambda: moment)


def test_clearing_attaches_all_that_is_known_in_both_formats(home: Home) -> None:
    """Signature, both SBOMs, findings and verdict are there once in each format, about the image by its name."""
    home.do(*CLEAR)
    wanted = {*CONTENTS, *DECIDED, predicates.SIGNATURE}
    assert kinds() == {(kind, one): 1 for kind in ("tag", "bundle") for one in wanted}
    for one in statements():
        assert [subject.name for subject in one.subjects] == ["a/b"]
    (verdict,) = verdicts()
    assert (verdict.passed, verdict.environment, verdict.verifier) == (True, "staging", "urn:tidewaiter:verifier:local")
    report = home.do("verify", NAME, "--policy", "research", "--format", "json")
    assert (report["verified"], len(report["steps"])) == (True, 9)


@pytest.mark.parametrize(
    ("wanted", "found"), [("tag", {"tag"}), ("bundle", {"bundle"}), ("bundle,tag", {"tag", "bundle"})]
)
def test_a_setting_chooses_the_formats(
    home: Home, monkeypatch: pytest.MonkeyPatch, wanted: str, found: set[str]
) -> None:
    """Each format that is chosen is complete, and verifies by itself."""
    monkeypatch.setenv("TIDEWAITER_SIGNATURE_FORMATS", wanted)
    home.do(*CLEAR)
    assert {kind for kind, _ in kinds()} == found
    assert set(kinds().values()) == {1}
    home.do("verify", NAME, "--type", "vsa", "--type", "spdx")
    home.do("verify", NAME)


def test_what_was_said_is_not_signed_again(home: Home) -> None:
    """Clearing, checking and signing once more leaves everything as it is; another annotation is something new."""
    home.do(*CLEAR)
    before = gathered()
    home.do(*CLEAR)
    home.do(*CHECK)
    home.do("sign", NAME)
    assert gathered() == before
    home.do("sign", NAME, "-a", "team=a")
    home.do("sign", NAME, "--annotation", "team=a")
    assert kinds()["tag", predicates.SIGNATURE] == 2
    assert kinds()["bundle", predicates.SIGNATURE] == 2


def test_a_format_that_is_missing_is_completed_with_the_same_envelopes(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What one format holds goes into the other as it is: nothing is attested twice."""
    monkeypatch.setenv("TIDEWAITER_SIGNATURE_FORMATS", "bundle")
    home.do(*CLEAR)
    monkeypatch.setenv("TIDEWAITER_SIGNATURE_FORMATS", "tag,bundle")
    home.do(*CLEAR)
    assert set(kinds().values()) == {1}
    with opened(settings.load(), SILENT) as shop:
        place = trusting.place(shop, NAME)
        held = trusting.verify_attestations(place, trusting.ring(shop, ()), predicates.SPDX)
    assert len(held) == 2
    assert held[0].statement == held[1].statement


@pytest.mark.parametrize("command", [CHECK, CLEAR])
def test_a_verdict_is_renewed_before_it_runs_out(
    home: Home, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...]
) -> None:
    """Within half of its time a yes repeats nothing; after it, verdict and findings are said anew, and nothing else."""
    home.do(*CLEAR)
    first = gathered()
    later(monkeypatch, 11)
    home.do(*command)
    assert gathered() == first
    later(monkeypatch, 2)
    home.do(*command)
    old, new = verdicts()
    assert new.valid_until > old.valid_until
    assert new.valid_until - new.verified == 24 * HOUR
    assert {one for (kind, one), count in kinds().items() if count == 2 and kind == "tag"} == DECIDED
    assert kinds()["tag", predicates.SIGNATURE] == kinds()["bundle", predicates.SPDX] == 1
    later(monkeypatch, 20)
    home.do("verify", NAME, "--type", "vsa")


def test_a_denial_withdraws_the_verdict_once(home: Home) -> None:
    """After an advisory `check` attaches a no, the chain no longer holds, and the same no is not repeated."""
    home.do(*CLEAR)
    home.leak()
    code, printed = home.run(*CHECK)
    assert code == 1, printed
    assert [one.passed for one in verdicts()] == [True, False]
    policy = home.folder / "policy.toml"
    policy.write_text(
        'environment = "staging"\nrequire = ["signature", "vsa"]\n[[key]]\nname = "here"\n'
        f'path = "{home.keys / "tidewaiter.pub"}"\n'
    )
    code, report = home.run("verify", NAME, "--policy", policy, "--format", "json")
    assert (code, report["verified"]) == (1, False)
    assert [step["number"] for step in report["steps"] if step["outcome"] == "invalid"] == [9]
    assert home.run(*CHECK)[0] == 1
    assert home.run(*CLEAR)[0] == 1
    assert len(verdicts()) == 2


def test_a_withdrawn_verdict_comes_back_only_by_clearing(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """A later yes of `check` alone does not undo the no; clearing does, with a new verdict, not with the old one."""
    home.do(*CLEAR)
    home.leak()
    assert home.run(*CHECK)[0] == 1
    home.leak(fixed=True)
    later(monkeypatch, 0.1)
    home.do(*CHECK)
    assert [one.passed for one in verdicts()] == [True, False]
    home.do(*CLEAR)
    assert [one.passed for one in verdicts()] == [True, False, True]
    home.do("verify", NAME, "--type", "vsa")


def test_what_was_never_cleared_gets_no_verdict_attached(home: Home) -> None:
    """A denial, or a yes without clearing, of an image that nobody cleared attaches nothing."""
    home.do(*CHECK)
    home.leak()
    assert home.run(*CHECK)[0] == 1
    assert home.run(*CLEAR)[0] == 1
    assert kinds() == {}


def test_a_denial_in_between_leaves_no_yes(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process that denies right before the yes is attached wins: nothing is cleared, the yes is withdrawn."""
    attach = attaching.attach

    def late(*given: Any, **more: Any) -> Stored:
        monkeypatch.setattr(attaching, "attach", attach)
        home.leak()
        assert run(home.folder / "home", *CHECK).code == 1
        return attach(*given, **more)

    monkeypatch.setattr(attaching, "attach", late)
    assert home.run(*CLEAR)[0] == 1
    assert [one.passed for one in verdicts()] == [True, False]
    assert home.run("push", NAME, "127.0.0.1:1/a/b")[0] == 1


def test_other_environments_do_not_touch_each_other(home: Home) -> None:
    """A denial for production withdraws nothing of what staging said."""
    home.do(*CLEAR)
    assert home.run("check", NAME, "--environment", "production")[0] == 1
    assert [(one.environment, one.passed) for one in verdicts()] == [("staging", True)]


def test_without_a_password_the_decision_stands_and_it_is_said(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """A denial is a denial also where nobody can sign the withdrawal; the next one that can, does."""
    home.do(*CLEAR)
    monkeypatch.delenv("COSIGN_PASSWORD")
    home.leak()
    code, printed = home.run(*CHECK)
    assert code == 1
    assert "the attested verdict is not withdrawn: COSIGN_PASSWORD is not set" in printed
    assert [one.passed for one in verdicts()] == [True]
    monkeypatch.setenv("COSIGN_PASSWORD", "")
    assert home.run(*CHECK)[0] == 1
    assert [one.passed for one in verdicts()] == [True, False]


def test_a_denial_is_attached_also_where_the_verdict_cannot_be_read(home: Home) -> None:
    """When the store lost what it attached, a no is attached all the same, once: the yes may lie elsewhere."""
    home.do(*CLEAR)
    home.leak()
    for blob in (home.folder / "home/store/blobs/sha256").iterdir():
        if b"payloadType" in blob.read_bytes():
            blob.unlink()
    assert home.run(*CHECK)[0] == 1
    assert home.run(*CHECK)[0] == 1
    with opened(settings.load(), SILENT) as shop:
        digest = shop.resolve_tag(*NAME.split(":"))
        assert digest is not None
        kept = [one for one in attaching.gather_stored(shop, digest).found if one.claimed_type == predicates.VERDICT]
    assert sorted(one.format for one in kept) == ["bundle", "tag"]


def test_waived_findings_are_attested_as_openvex(home: Home) -> None:
    """What a waiver covers is said in an OpenVEX document, and named in the verdict."""
    home.leak()
    about = ("--advisory", LEAK, "--environment", "staging", "--reason", "The code is not reached.")
    ends = clock.rfc3339(clock.now() + 240 * HOUR)
    asked = home.do("waiver", "request", *about, "--expires", ends, "--as", "Anna", "--format", "json")
    home.do("waiver", "approve", asked["id"], "--as", "Bert")
    home.do(*CLEAR)
    (vex,) = [one.predicate for one in statements() if one.predicate_type == predicates.OPENVEX]
    assert [one["status"] for one in vex["statements"]] == ["affected"]
    assert "The code is not reached." in vex["statements"][0]["action_statement"]
    (verdict,) = verdicts()
    assert verdict.waivers == (asked["id"],)


def test_revoking_a_waiver_withdraws_what_relies_on_it(home: Home) -> None:
    """The verdict that a waiver carried is withdrawn with it; another one is not."""
    home.leak()
    ends = clock.rfc3339(clock.now() + 240 * HOUR)
    ids = []
    for advisory in (LEAK, "CVE-2026-99999"):
        about = ("--advisory", advisory, "--environment", "staging", "--reason", "The code is not reached.")
        asked = home.do("waiver", "request", *about, "--expires", ends, "--as", "Anna", "--format", "json")
        home.do("waiver", "approve", asked["id"], "--as", "Bert")
        ids.append(asked["id"])
    home.do(*CLEAR)
    for waiver in reversed(ids):
        assert [one.passed for one in verdicts()] == [True]
        home.do("waiver", "revoke", waiver, "--reason", "Mended.", "--as", "Cleo")
    assert [one.passed for one in verdicts()] == [True, False]
    assert verdicts()[-1].waivers == (ids[0],)


# Who may sign


def by_key() -> dict[str, set[str]]:
    """Predicate types by the name of the key of this home that vouches for them."""
    with opened(settings.load(), SILENT) as shop:
        place, ring = trusting.place(shop, NAME), trusting.ring(shop, ())
        found: dict[str, set[str]] = {trusting.verify_image(place, ring).key.name: {predicates.SIGNATURE}}
        for kind in {one.predicate_type for one in statements()}:
            for held in trusting.verify_attestations(place, ring, kind):
                found.setdefault(held.key.name, set()).add(kind)
    return found


def test_the_verdict_key_signs_verdicts_and_the_builders_the_rest(home: Home) -> None:
    """With a key named `verdict`, what was built and what was decided are vouched for by two keys."""
    home.do("key", "generate", "ci", "--builder", "ci-1")
    home.do(
        "key",
        "generate",
        "verdict",
        "--builder",
        "server",
        "--predicate",
        "vsa",
        "--predicate",
        "vuln",
        "--predicate",
        "openvex",
    )
    home.do(*CLEAR, "--key", "ci")
    assert by_key() == {"ci": {predicates.SIGNATURE, *CONTENTS}, "verdict": DECIDED}
    (verdict,) = verdicts()
    assert verdict.verifier == "urn:tidewaiter:verifier:server"


def test_a_builders_key_does_not_grade_what_it_built(home: Home) -> None:
    """Without a verdict key, what another builder than `local` clears carries no verdict, and that is said."""
    home.do("key", "generate", "ci", "--builder", "ci-1")
    printed = home.do(*CLEAR, "--key", "ci")
    assert "the verdict is not attested: ci may not sign verdicts" in printed
    assert by_key() == {"ci": {predicates.SIGNATURE, *CONTENTS}}


def test_a_key_out_of_scope_clears_nothing(home: Home) -> None:
    """A key for other repositories, or one that may sign signatures only, is refused; nothing is attached or tagged."""
    home.do("key", "generate", "others", "--repository", "x/*")
    home.do("key", "generate", "narrow", "--predicate", "signature")
    for key in ("others", "narrow"):
        code, answer = home.run(*CLEAR, "--key", key, "--format", "json")
        assert (code, answer["error"]["code"]) == (1, "key_out_of_scope")
    assert kinds() == {}
    assert home.run("push", NAME, "127.0.0.1:1/a/b")[0] == 1


def test_what_is_attached_counts_in_later_decisions(home: Home) -> None:
    """After clearing, signature and SBOM are there for every rule; a provenance by a key that is revoked is not."""

    def missing() -> set[str]:
        verdict = home.run("check", NAME, "--environment", "production", "--format", "json")[1]
        return {one["rule"] for one in verdict["violations"] if one["rule"].startswith("attached.")}

    assert missing() == {"attached.provenance", "attached.signature"}
    home.do(*CLEAR)
    assert missing() == {"attached.provenance"}
    (home.folder / "provenance.json").write_text(json.dumps({"buildDefinition": {}, "runDetails": {}}))
    home.do("key", "generate", "ci", "--builder", "ci-1")
    what = ("--type", "slsaprovenance1", "--predicate", home.folder / "provenance.json")
    home.do("attest", NAME, *what, "--key", "ci")
    assert missing() == set()
    home.do("key", "revoke", "ci", "--reason", "It was stolen.")
    assert missing() == {"attached.provenance"}
