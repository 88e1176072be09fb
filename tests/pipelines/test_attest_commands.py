"""`sign`, `attest` and `verify` on the command line, for an image of the store."""

import json
from pathlib import Path
from typing import Any

import pytest
import small_image
from small_image import NAME, Home

pytestmark = pytest.mark.thorough

KIND = "https://example.com/review/v1"
REVIEW = {"reviewed": [True, "Ä", 1.5]}


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with an image and a key, to be copied."""
    return small_image.make(tmp_path_factory.mktemp("template"))


@pytest.fixture
def home(template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Home:
    """A home with an image and a key, and a file with a predicate."""
    made = small_image.use(template, tmp_path, monkeypatch, capsys)
    (tmp_path / "review.json").write_text(json.dumps(REVIEW))
    return made


def attest(home: Home, *more: object, kind: str = KIND) -> tuple[int, Any]:
    """Attest the review."""
    predicate = ("--predicate", home.folder / "review.json")
    return home.run("attest", NAME, "--type", kind, *predicate, "--format", "json", *more)


def test_what_is_attested_is_handed_back(home: Home) -> None:
    """A predicate of any type comes back as it was given, in both formats, with who vouches for it and since when."""
    code, made = attest(home)
    assert (code, made["predicate_type"]) == (0, KIND)
    found = home.do("verify", NAME, "--type", KIND, "--format", "json")
    assert (found["verified"], found["digest"]) == (True, made["digest"])
    assert {one["signature_format"] for one in found["attestations"]} == {"tag", "bundle"}
    for one in found["attestations"]:
        assert (one["predicate_type"], one["predicate"]) == (KIND, REVIEW)
        assert one["fingerprint"] == made["fingerprint"]
        assert one["signed_at"].endswith("Z")
    assert made["attestation"] in {one["attestation"] for one in found["attestations"]}
    again = attest(home)[1]
    assert again == made
    assert "review/v1  by tidewaiter (local), 20" in home.do("verify", NAME, "--type", KIND)


@pytest.mark.parametrize("text", ["[]", "{", '{"a": 1, "a": 2}', '{"a": NaN}', ""])
def test_what_is_no_json_object_is_not_attested(home: Home, text: str) -> None:
    """Only what every reader reads alike is signed."""
    (home.folder / "review.json").write_text(text)
    code, answer = attest(home)
    assert (code, answer["error"]["code"]) == (2, "bad_input")
    assert home.run("verify", NAME, "--type", KIND)[0] == 1


def test_signatures_and_made_up_verdicts_are_not_attested(home: Home) -> None:
    """An image signature is no attestation, and a verdict has its form."""
    for kind, words in (("signature", "tidewaiter sign"), ("vsa", "Refuse"), ("nonsense", "spdx")):
        code, answer = attest(home, kind=kind)
        assert code == 2
        assert words in answer["error"]["next"]
    (home.folder / "review.json").unlink()
    assert attest(home)[0] == 2


def test_a_missing_attestation_is_absent_and_a_strange_one_does_not_hold(home: Home) -> None:
    """Nothing of a type, and something that only an unknown key made, are told apart by their code."""
    code, answer = home.run("verify", NAME, "--type", KIND, "--format", "json")
    assert (code, answer["error"]["code"]) == (1, "attestation_absent")
    attest(home)
    assert home.do("key", "generate", "other")
    code, answer = home.run("verify", NAME, "--type", KIND, "--key", home.keys / "other.pub", "--format", "json")
    assert (code, answer["error"]["code"]) == (1, "attestation_invalid")
    code, answer = home.run("verify", NAME, "--key", home.keys / "other.pub", "--format", "json")
    assert (code, answer["error"]["code"]) == (1, "signature_absent")


def test_every_type_that_is_asked_for_must_hold(home: Home) -> None:
    """One of two is not enough."""
    attest(home)
    assert home.run("verify", NAME, "--type", KIND, "--type", "spdx")[0] == 1
    assert home.run("verify", NAME, "--type", KIND, "--type", KIND)[0] == 0


def test_annotations_are_signed(home: Home) -> None:
    """What `-a` says stands in the signature, beside builder and time; nonsense is a usage error."""
    home.do("sign", NAME, "-a", "team=vision", "-a", "note=a=b")
    said = home.do("verify", NAME, "--format", "json")["annotations"]
    assert (said["team"], said["note"], said["dev.tidewaiter.builder"]) == ("vision", "a=b", "local")
    assert said["dev.tidewaiter.signed-at"].endswith("Z")
    for words in (("-a", "team"), ("-a", "=x"), ("-a", "a=1", "-a", "a=2")):
        assert home.run("sign", NAME, *words)[0] == 2


def test_keys_come_from_files_and_variables(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """A path and `env://` sign as a key of the home does; a key that the home does not know counts with --key only."""
    elsewhere = home.folder / "elsewhere"
    home.do("key", "generate", "moved")
    elsewhere.mkdir()
    for ending in ("key", "pub"):
        (home.keys / f"moved.{ending}").rename(elsewhere / f"moved.{ending}")
    (home.keys / "moved.json").unlink()
    home.do("sign", NAME, "--key", elsewhere / "moved.key")
    assert home.run("verify", NAME)[0] == 1
    home.do("verify", NAME, "--key", elsewhere / "moved.pub")
    monkeypatch.setenv("SIGNING_KEY", (elsewhere / "moved.key").read_text())
    attest(home, "--key", "env://SIGNING_KEY")
    home.do("verify", NAME, "--type", KIND, "--key", elsewhere / "moved.pub")


def test_the_chain_is_told_step_by_step(home: Home) -> None:
    """Every step is printed with its number and outcome, also those that nobody asked; the exit code is the answer."""
    home.do("check", NAME, "--environment", "research", "--clear")
    code, text = home.run("verify", NAME, "--policy", "research")
    assert code == 0
    for number in range(1, 10):
        assert f"  {number}. " in text
    assert "3. a trusted key signed this image: holds" in text
    assert "9. vsa is attested: not asked" in text
    assert "trusted for research" in text
    code, text = home.run("verify", NAME, "--policy", "staging")
    assert code == 1
    assert "7. slsaprovenance1 is attested: absent" in text
    assert "not trusted for staging" in text


def test_what_the_store_lost_cannot_be_checked(home: Home) -> None:
    """Lost envelopes make a step unchecked and the exit code 3, never a yes or a no."""
    home.do("check", NAME, "--environment", "research", "--clear")
    for blob in (home.folder / "home/store/blobs/sha256").iterdir():
        data = blob.read_bytes()
        if b"payloadType" in data or b"cosign container image signature" in data:
            blob.unlink()
    code, report = home.run("verify", NAME, "--policy", "research", "--format", "json")
    assert (code, report["verified"]) == (3, False)
    assert {step["outcome"] for step in report["steps"]} <= {"holds", "unchecked", "not_asked"}
    assert home.run("verify", NAME)[0] == 3
    assert home.run("verify", NAME, "--type", "spdx")[0] == 3


def test_usage_of_policies(home: Home) -> None:
    """A policy says itself which types and keys count; files that are no policy, and folders, are bad input."""
    assert home.run("verify", NAME, "--policy", "staging", "--type", "spdx")[0] == 2
    policy = home.folder / "policy.toml"
    policy.write_text(
        f'environment = "research"\nrequire = ["signature"]\n[[key]]\nname = "a"\npath = "{home.keys}/tidewaiter.pub"\n'
    )
    home.do("sign", NAME)
    home.do("verify", NAME, "--policy", policy)
    home.do("verify", NAME, "--policy", "research", "--key", home.keys / "tidewaiter.pub")
    assert home.run("verify", NAME, "--policy", policy, "--key", home.keys / "tidewaiter.pub")[0] == 2
    policy.write_text("nonsense")
    assert home.run("verify", NAME, "--policy", policy)[0] == 2
    assert home.run("verify", NAME, "--policy", home.folder / "absent.toml")[0] == 2
    assert home.run("verify", NAME, "--repair")[0] == 2
    for command in (("verify",), ("sign",), ("attest", "--type", KIND, "--predicate", home.folder / "review.json")):
        assert home.run(command[0], f"oci:{home.folder}/it:1", *command[1:])[0] == 2


def test_nobody_trusted_nobody_believed(home: Home) -> None:
    """Without any key nothing vouches, whatever is attached."""
    home.do("sign", NAME)
    for file in home.keys.iterdir():
        file.unlink()
    code, answer = home.run("verify", NAME, "--format", "json")
    assert (code, answer["error"]["code"]) == (1, "no_trusted_key")
    assert home.run("verify", NAME, "--policy", "research")[0] == 1
