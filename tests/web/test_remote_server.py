"""The command line against a real server: the same answers as in its own home, by whoever the token says."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import web_sample
from sqlalchemy import update

from tidewaiter.catalog import schema
from tidewaiter.catalog.catalog import Catalog
from tidewaiter.core import clock
from tidewaiter.core import settings as all_settings
from workplace import Done, command, environment, run

pytestmark = pytest.mark.thorough  # a server and some forty commands

SETTINGS = """\
requests_per_second = 0
registries = "{registries}"

[[environment]]
name = "production"
repositories = ["shop/*"]
namespaces = ["prod"]

[[environment]]
name = "research"
repositories = ["**"]
"""
DIGEST = "sha256:" + "1" * 64


class Served(msgspec.Struct, frozen=True):
    """A server, its home, and a place of somebody who has nothing but its address and a token."""

    home: Path
    address: str
    tokens: dict[str, str]

    def here(self, *words: object) -> Done:
        """The command in the server's own home."""
        return run(self.home, *words)

    def by(self, who: str, folder: Path, *words: object, **more: str) -> Done:
        """The command through the server, from an empty home below `folder`."""
        server = {"TIDEWAITER_SERVER": self.address, "TIDEWAITER_TOKEN": self.tokens.get(who, who), "HOME": str(folder)}
        done = run(folder / "nowhere", *words, extra={**server, **more})
        assert self.tokens.get(who, who) not in done.out + done.err
        return done


def _home(folder: Path, registries: str = "") -> dict[str, str]:
    """A filled home with a verdict key and two administrators; their tokens."""
    web_sample.fill(all_settings.load({"TIDEWAITER_HOME": str(folder)}))
    (folder / "settings.toml").write_text(SETTINGS.format(registries=registries))
    folder.chmod(0o700)
    assert run(folder, "key", "generate", "verdict").code == 0
    tokens = {}
    for name in ("ann", "bob"):
        assert run(folder, "user", "add", name, "--everywhere", "--role", "admin", "--no-password").code == 0
        made = run(folder, "token", "create", "laptop", "--user", name, "--days", "30", "--format", "json")
        tokens[name] = made.json["token"]
    made = run(folder, "token", "create", "gone", "--role", "viewer", "--days", "30", "--format", "json")
    tokens["expired"] = made.json["token"]
    settings = all_settings.load({"TIDEWAITER_HOME": str(folder)})
    with Catalog.open(settings) as catalog, catalog.database.writing() as connection:
        token, over = schema.metadata.tables["api_token"], clock.parse_rfc3339("2026-01-01T00:00:00Z")
        connection.execute(update(token).where(token.c.name == "gone").values(expires_at=over))
    return tokens


def _serving(home: Path, extra: dict[str, str] | None = None) -> Iterator[str]:
    """A server of that home; its address."""
    process = subprocess.Popen(
        command("serve", "--port", "0", "--anonymous", "none"),
        stdout=subprocess.PIPE,
        stderr=sys.stderr,
        text=True,
        env={**environment(home), **(extra or {})},
    )
    assert process.stdout is not None
    try:
        yield process.stdout.readline().strip().rstrip("/")
    finally:
        process.terminate()
        process.wait(30)
        process.stdout.close()


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A server with five images."""
    home = tmp_path_factory.mktemp("server")
    tokens = _home(home)
    for address in _serving(home):
        yield Served(home, address, tokens)


READS = [
    "catalog list",
    "catalog list --finding high",
    "catalog list --snowflakes --rows 2",
    "catalog list --moved",
    "catalog list --duplicates",
    "catalog list --as-of 2099-01-01T00:00:00Z",
    "catalog show vision/mnist:6f1c0e5ad1b8",
    "verdicts vision/mnist:6f1c0e5ad1b8",
    "trace vision/mnist:6f1c0e5ad1b8",
    "affected pkg:pypi/numpy",
    "workload list --all",
    "model list --all",
    "owner list",
    "waiver list --all",
    "report lead-times",
    "audit list --rows 300",
]
TEXTS = {
    "catalog list --finding high",
    "trace vision/mnist:6f1c0e5ad1b8",
    "affected pkg:pypi/numpy",
    "report lead-times",
}
"""Also compared as text: the same code prints all of them."""


@pytest.mark.parametrize("call", READS)
def test_answers_are_those_of_the_servers_home(served: Served, tmp_path: Path, call: str) -> None:
    """Text and JSON of every command that reads are the same, and no home is made for them here."""
    if "2099" in call:
        assert served.by("ann", tmp_path, *call.split()).code == served.here(*call.split()).code == 2
        call = call.replace("2099-01-01T00:00:00Z", clock.rfc3339(clock.now()))
    forms = [[*call.split(), "--format", "json"], *([call.split()] if call in TEXTS else [])]
    for words in forms:
        there, here = served.by("ann", tmp_path, *words), served.here(*words)
        assert there.code == here.code == 0, there.err
        if words[-1] == "json" and words[0] == "audit":
            assert _entries(there) == _entries(here)
        elif words[-1] == "json" and "as_of" in here.json:
            assert {**there.json, "as_of": ""} == {**here.json, "as_of": ""}
        else:
            assert there.out == here.out
    assert not (tmp_path / "nowhere").exists()


def _entries(done: Done) -> list[dict[str, Any]]:
    """Entries of the log without what stands in the log alone."""
    return [{name: one[name] for name in one if name not in {"states", "document"}} for one in done.json["entries"]]


def test_what_is_recorded_is_by_whom_the_token_says(served: Served, tmp_path: Path) -> None:
    """Workloads, models, owners: recorded on the server in the name of the token's user, whatever is declared here."""

    def say(*words: str) -> Done:
        done = served.by("ann", tmp_path, *words, TIDEWAITER_IDENTITY="mallory")
        assert done.code == 0, done.err
        return done

    said = say("workload", "record", "west/prod/till", "--image", "vision/mnist:6f1c0e5ad1b8", "--owner", "ann")
    digest = served.here("catalog", "show", "vision/mnist:6f1c0e5ad1b8", "--format", "json").json["summary"]["digest"]
    assert said.out == f"west/prod/till runs {digest}\n"
    assert say("model", "record", "digits:1", "--image", DIGEST, "--format", "json").json["digest"] == DIGEST
    assert say("owner", "record", "repository", "vision", "ann").out == "repository vision: ann\n"
    (running,) = served.by("ann", tmp_path, "workload", "list", "--not-allowed", "--format", "json").json["workloads"]
    assert (running["environment"], running["verdict"]) == ("production", "deny")
    entries = served.here("audit", "list", "--format", "json").json["entries"][-4:]
    assert {one["actor"] for one in entries if one["action"].endswith((".record", ".set"))} == {"ann"}


def test_a_waiver_from_its_request_to_its_end(served: Served, tmp_path: Path) -> None:
    """Ann asks, Bob approves, who is not she; who they are is not theirs to say."""
    asked = served.by(
        "ann",
        tmp_path,
        *("waiver", "request", "--rule", "image.non-root", "--reason", "a test", "--expires", "2026-12-24"),
        *("--environment", "production", "--image", "vision/*", "--format", "json"),
    )
    assert asked.code == 0, asked.err
    name = asked.json["id"]
    assert (asked.json["requested_by"], asked.json["state"]) == ("ann", "requested")
    assert served.by("ann", tmp_path, "waiver", "approve", name).code == 1
    assert served.by("bob", tmp_path, "waiver", "approve", name, "--as", "carol").code == 2
    approved = served.by("bob", tmp_path, "waiver", "approve", name, "--format", "json")
    assert (approved.code, approved.json["reviewer"]) == (0, "bob"), approved.err
    assert served.by("ann", tmp_path, "waiver", "show", name).out == served.here("waiver", "show", name).out
    expiring = served.by("ann", tmp_path, "waiver", "list", "--expiring", "60", "--format", "json")
    assert expiring.out == served.here("waiver", "list", "--expiring", "60", "--format", "json").out
    revoked = served.by("bob", tmp_path, "waiver", "revoke", name, "--reason", "over", "--format", "json")
    assert (revoked.code, revoked.json["state"], revoked.json["no_longer_cleared"]) == (0, "revoked", [])
    assert served.by("ann", tmp_path, "waiver", "show", "W-0").code == 2


def test_webhooks_through_the_server(served: Served, tmp_path: Path) -> None:
    """Subscribed by whom the token says, listed as in the server's home, rotated and removed."""
    made = served.by("ann", tmp_path, "webhook", "add", "https://192.0.2.1/hook", "--format", "json")
    assert (made.code, made.json["error"]["code"]) == (1, "webhook_address")
    made = served.by("ann", tmp_path, "webhook", "add", "https://hooks.example.com/x", "--format", "json")
    assert made.code == 0, made.err
    hook = made.json["webhook"]["id"]
    assert (made.json["webhook"]["created_by"], made.json["secret"][:6]) == ("ann", "whsec_")
    listed = served.by("bob", tmp_path, "webhook", "list", "--format", "json")
    assert listed.json == served.here("webhook", "list", "--format", "json").json
    rotated = served.by("ann", tmp_path, "webhook", "rotate", hook, "--format", "json")
    assert rotated.json["secret"] != made.json["secret"]
    assert served.by("ann", tmp_path, "webhook", "enable", hook).out == f"{hook}  active\n"
    sent = served.by("ann", tmp_path, "webhook", "deliveries", hook, "--format", "json")
    assert sent.json == {"deliveries": []}
    assert served.by("ann", tmp_path, "webhook", "deliveries").code == 2
    assert served.by("ann", tmp_path, "webhook", "redeliver", "none").code == 2
    assert served.by("ann", tmp_path, "webhook", "remove", hook).out == f"removed {hook}\n"
    assert served.by("ann", tmp_path, "webhook", "remove", hook).code == 2
    assert served.here("webhook", "list", "--format", "json").json == {"webhooks": []}


def test_a_proof_is_verified_here(served: Served, tmp_path: Path) -> None:
    """By the key that the user has; without one there is no proof, and by another one it does not hold."""
    assert served.by("ann", tmp_path, "audit", "prove", "0").code == 2
    verified = served.here("audit", "verify", "--format", "json")
    key = served.home / "keys/audit.vkey"
    done = served.by("ann", tmp_path, "audit", "prove", "1", "--key", str(key), "--format", "json")
    assert (done.code, done.json["position"]) == (0, 1), done.err
    assert done.json["entry"]["action"] == "build"
    # Nothing but the one row that this module edited, so that a token is over.
    assert [problem["message"] for problem in verified.json["problems"]] == [
        "the token gone is not as it was logged last"
    ]
    other = tmp_path / "other"
    run(other, "owner", "record", "repository", "a", "ann")
    wrong = other / "keys/audit.vkey"
    assert served.by("ann", tmp_path, "audit", "prove", "1", "--key", str(wrong)).code == 1


def test_who_is_not_known_is_refused(served: Served, tmp_path: Path) -> None:
    """A token that is none, one that is over: refused, and nothing is read from here in its place."""
    assert served.by("ann", tmp_path, "whoami").out.startswith("ann (token) at http://127.0.0.1:")
    for who in ("tdw_" + "x" * 52, "expired"):
        for words in (("whoami",), ("catalog", "list"), ("owner", "record", "repository", "a", "b")):
            done = served.by(who, tmp_path, *words, "--format", "json")
            assert (done.code, done.json["error"]["code"]) == (1, "unauthenticated"), (who, words, done.out)


def test_an_image_that_the_server_cannot_read(served: Served, tmp_path: Path) -> None:
    """A registry that its settings do not name is refused; an image that it does not have is not found."""
    refused = served.by("ann", tmp_path, "check", "127.0.0.1:9/a/b:1", "--environment", "research", "--format", "json")
    assert (refused.code, refused.json["error"]["code"]) == (1, "place_not_allowed")
    assert served.by("ann", tmp_path, "check", "shop/none:1").code == 2


def test_ci_is_judged_by_the_server(
    tmp_path: Path, home: Path, project: Path, docker_registry: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Built and signed here with the builder's key, pushed, fetched and judged there; the server's word counts."""
    keep = tmp_path_factory.mktemp("judge")
    plain = {"TIDEWAITER_PLAIN_HTTP": docker_registry}
    tokens = _home(keep, docker_registry)
    assert run(home, "key", "generate").code == 0
    for address in _serving(keep, plain):
        server = {"TIDEWAITER_SERVER": address, "TIDEWAITER_TOKEN": tokens["ann"], **plain}
        where = f"{docker_registry}/judged/small"
        done = run(home, "ci", project, "--push", where, "--format", "json", extra=server)
        assert "verdict" in done.json, done.out + done.err
        verdict = done.json["verdict"]
        assert verdict["environment"] == "staging", done.out
        assert done.code == {"allow": 0, "deny": 1}[verdict["verdict"]]
        assert done.json["digest"] == verdict["artifact"]
        assert "https://slsa.dev/provenance/v1" in done.json["attested"]
        assert (
            run(keep, "verdicts", verdict["artifact"], "--format", "json").json["verdicts"][0]["environment"]
            == "staging"
        )
        (way,) = [
            one
            for one in run(keep, "report", "lead-times", "--format", "json").json["images"]
            if one["digest"] == verdict["artifact"]
        ]
        assert (way["committed"], way["repository"]) == ("2026-01-01T00:00:00Z", "team/small")
        # The builder cannot call it allowed: here the image is not cleared.
        tag = f"team/small:{done.json['tag']}" if "tag" in done.json else done.json["reference"]
        assert run(home, "push", tag, f"{docker_registry}/other/small", extra=plain).code == 1
    assert json.loads(run(home, "verdicts", verdict["artifact"], "--format", "json").out)["verdicts"] == []
