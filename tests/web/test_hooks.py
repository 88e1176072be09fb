"""Webhooks of code hosts, as they arrive at the server."""

import datetime as dt
import hmac
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

import hook_payloads as payloads
from hook_payloads import COMMIT, encoded
from tidewaiter.catalog.audit import entries
from tidewaiter.catalog.catalog import Catalog
from tidewaiter.catalog.runs import reading
from tidewaiter.catalog.runs.records import Run
from tidewaiter.core import clock, limits
from tidewaiter.core import settings as all_settings
from tidewaiter.core.settings import Settings
from tidewaiter.pipelines.sources import credentials
from tidewaiter.pipelines.triggers import github, gitlab
from tidewaiter.web.app import create

SECRET = "a-secret-of-github-webhooks"
TOKEN = "a-secret-token-of-gitlab"
SOURCES = """
[[source]]
name = "signed"
url = "https://gitlab.example/vision/ranker.git"
branches = ["main", "release/*"]
tags = ["v*"]
merge_requests = true
folders = ["."]
team = "vision"
push = "registry.example/vision/ranker"
secret = "env:SIGNING_KEY"

[[source]]
name = "token"
url = "https://gitlab.example/vision/ranker.git"
secret = "file:gitlab.token"

[[source]]
name = "hub"
url = "ssh://git@github.example/Vision/ranker.git"
folders = ["a", "b"]
tags = ["v*"]
push = "registry.example/vision/ranker"
merge_requests = true
secret = "env:HUB_SECRET"

[[source]]
name = "silent"
url = "https://gitlab.example/vision/ranker.git"

[[source]]
name = "short"
url = "https://gitlab.example/vision/ranker.git"
secret = "env:SHORT_SECRET"
"""


class Hooks:
    """A server, and its runs."""

    def __init__(self, settings: Settings, client: TestClient) -> None:
        self.settings = settings
        self.client = client

    def post(self, path: str, body: bytes, headers: dict[str, str]) -> Any:
        """Status and answer."""
        answer = self.client.post(f"/hooks/{path}", content=body, headers=headers)
        return answer.status_code, answer.json()

    def gitlab(self, payload: dict[str, Any], **more: Any) -> Any:
        """A signed delivery of GitLab."""
        body = encoded(payload)
        values = {"at": int(clock.now().timestamp()), **more}
        return self.post("gitlab/signed", body, payloads.gitlab_headers(body, **values))

    def github(self, payload: dict[str, Any], **more: Any) -> Any:
        """A signed delivery of GitHub."""
        body = encoded(payload)
        return self.post("github/hub", body, payloads.github_headers(body, SECRET, **more))

    def runs(self) -> tuple[Run, ...]:
        """Every run, the first that was asked for first."""
        with Catalog.open(self.settings) as catalog, catalog.database.reading() as connection:
            return tuple(reversed(reading.listed(connection).runs))


@pytest.fixture(scope="module")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A catalog without runs; to make one takes longer than to copy it."""
    home = tmp_path_factory.mktemp("migrated")
    Catalog.open(all_settings.load({"TIDEWAITER_HOME": str(home)})).close()
    return home / "catalog.db"


@pytest.fixture
def hooks(tmp_path: Path, migrated: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hooks]:
    """A server with those sources, at which nobody but who says who he is may read."""
    monkeypatch.setenv("SIGNING_KEY", payloads.SIGNING_KEY)
    monkeypatch.setenv("HUB_SECRET", SECRET)
    monkeypatch.setenv("SHORT_SECRET", "short")
    (tmp_path / "gitlab.token").write_text(f"{TOKEN}\n")
    (tmp_path / "settings.toml").write_text(SOURCES)
    shutil.copy(migrated, tmp_path)
    settings = all_settings.load({"TIDEWAITER_HOME": str(tmp_path), "TIDEWAITER_REQUESTS_PER_SECOND": "0"})
    with TestClient(create(settings, anonymous=False), raise_server_exceptions=False) as client:
        yield Hooks(settings, client)


def now() -> int:
    return int(clock.now().timestamp())


@pytest.mark.parametrize("host", ["gitlab", "github"])
def test_unknown_sources_take_the_same_work(hooks: Hooks, monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    """Whether a source is there, has no secret, or one of either kind: as many bytes are hashed, as many files read."""
    body = encoded(payloads.gitlab_push())
    headers = {
        "gitlab": payloads.gitlab_headers(body, at=now(), key="whsec_" + "QUJD" * 8),
        "github": payloads.github_headers(body, "wrong"),
    }[host]
    work: list[object] = []
    hashed, read = hmac.digest, credentials.hook_secret

    def digest(key: bytes, message: bytes, kind: Any) -> bytes:
        work.append(len(message))
        return hashed(key, message, kind)

    def secret(*given: Any) -> str:
        work.append("secret")
        return read(*given)

    monkeypatch.setattr(hmac, "digest", digest)
    monkeypatch.setattr(credentials, "hook_secret", secret)
    done = []
    for name in ("none-such", "silent", "signed", "token", "hub"):
        work.clear()
        assert hooks.post(f"{host}/{name}", body, headers)[0] == 401
        done.append(tuple(work))
    assert len(set(done)) == 1
    assert "secret" in done[0]
    assert any(isinstance(one, int) and one >= len(body) for one in done[0])


def test_signatures_are_those_of_the_platforms() -> None:
    """The example of GitHub's documentation, and that of Standard Webhooks, which GitLab follows."""
    header = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"
    assert github.holds("It's a Secret to Everybody", b"Hello, World!", header)
    assert not github.holds("It's a Secret to Everybody", b"Hello, World?", header)
    given = gitlab.Headers(
        identity="msg_p5jXN8AQM9LWM0D4loKWxJek",
        timestamp="1614265330",
        signatures="v1a,nothing v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    )
    secret, body = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", b'{"test": 2432232314}'
    assert gitlab.holds(secret, body, given, dt.datetime.fromtimestamp(1614265330, dt.UTC))
    assert not gitlab.holds(secret, body + b" ", given, dt.datetime.fromtimestamp(1614265330, dt.UTC))


def test_a_push_to_gitlab_makes_a_run(hooks: Hooks) -> None:
    """The commit, its branch and author, who pushed, and where the image goes; the log has it."""
    status, answer = hooks.gitlab(payloads.gitlab_push())
    (run,) = hooks.runs()
    assert (status, answer) == (202, {"runs": [run.id], "reason": ""})
    source = run.asked.source
    assert source is not None
    assert (source.repository, source.commit, source.ref) == (
        "https://gitlab.example/vision/ranker.git",
        COMMIT,
        "refs/heads/main",
    )
    assert (run.asked.team, run.asked.push) == ("vision", "registry.example/vision/ranker")
    trigger = run.asked.trigger
    assert (trigger.kind, trigger.by, trigger.author) == ("webhook", "webhook signed (anna)", "Bo Example")
    assert trigger.url.endswith(COMMIT)
    with Catalog.open(hooks.settings) as catalog, catalog.database.reading() as connection:
        logged = [entries.parse(bytes(row[0])) for row in connection.exec_driver_sql("SELECT entry FROM audit_pending")]
    assert [one.action for one in logged][-2:] == ["pipeline.ask", "hook.take"]
    assert logged[-1].actor == "webhook signed"


def test_the_same_delivery_does_nothing_again(hooks: Hooks) -> None:
    """Who sends it again, as hosts do when an answer was lost, is told the same run, and there is one."""
    first = hooks.gitlab(payloads.gitlab_push())
    again = hooks.gitlab(payloads.gitlab_push())
    assert first[1]["runs"] == again[1]["runs"]
    assert again[0] == 202
    assert "before" in again[1]["reason"]
    assert len(hooks.runs()) == 1
    hooks.gitlab(payloads.gitlab_push(), identity="msg-2")
    assert len(hooks.runs()) == 2


def test_a_body_of_github_counts_once_under_any_name(hooks: Hooks) -> None:
    """Its signature does not cover the delivery's name: who listened cannot send the body again under another one."""
    payload = payloads.github_push(now())
    first = hooks.github(payload)
    again = hooks.github(payload, delivery="another")
    assert first[1]["runs"] == again[1]["runs"]
    assert len(hooks.runs()) == 2  # one for each folder
    assert [run.asked.source.folder for run in hooks.runs() if run.asked.source] == ["a", "b"]


def test_what_is_old_is_refused(hooks: Hooks) -> None:
    """A signature of a time long past or to come, and a body older than is remembered."""
    for moved in (-limits.HOOK_SKEW_SECONDS - 2, limits.HOOK_SKEW_SECONDS + 2):
        assert hooks.gitlab(payloads.gitlab_push(), at=now() + moved)[0] == 401
    assert hooks.gitlab(payloads.gitlab_push(), at=now() - limits.HOOK_SKEW_SECONDS + 5)[0] == 202
    status, answer = hooks.github(payloads.github_push(now() - limits.HOOK_AGE_SECONDS - 10))
    assert (status, answer["code"]) == (403, "hook_too_old")
    undated = payloads.github_push(now())
    del undated["repository"]["pushed_at"]
    assert hooks.github(undated)[0] == 403
    assert len(hooks.runs()) == 1


def test_wrong_secrets_and_unknown_sources_answer_alike(hooks: Hooks) -> None:
    """No word says whether a source is there; a changed byte, a missing or doubled header, SHA-1 are all the same."""
    body = encoded(payloads.gitlab_push())
    good = payloads.gitlab_headers(body, at=now())
    hub = encoded(payloads.github_push(now()))
    tried = [
        ("gitlab/none", body, good),
        ("gitlab/silent", body, good),
        ("gitlab/signed", body + b" ", good),
        ("gitlab/signed", body, {**good, "webhook-id": "msg-other"}),
        ("gitlab/signed", body, {**good, "webhook-timestamp": "nan"}),
        ("gitlab/signed", body, {**good, "webhook-signature": "v1," + "A" * 44}),
        ("gitlab/signed", body, {"Content-Type": "application/json", "X-Gitlab-Token": payloads.SIGNING_KEY}),
        ("gitlab/token", body, good),
        ("gitlab/token", body, {**good, "X-Gitlab-Token": TOKEN + "x"}),
        ("github/hub", hub, payloads.github_headers(hub, "another secret of webhooks")),
        ("github/hub", hub, {"Content-Type": "application/json", "X-GitHub-Event": "push"}),
        ("github/hub", hub, {"Content-Type": "application/json", "X-Hub-Signature": "sha1=" + "0" * 40}),
        ("github/hub", body, good),
        ("gitlab/hub", body, good),
    ]
    answers = {json.dumps(hooks.post(*one)) for one in tried}
    assert len(answers) == 1
    assert '"code": "unauthenticated"' in answers.pop()
    assert hooks.runs() == ()


def test_the_older_token_of_gitlab_is_taken(hooks: Hooks) -> None:
    """A source with a secret token is told by it; its deliveries are known by what GitLab calls them."""
    body = encoded(payloads.gitlab_push())
    headers = {"Content-Type": "application/json", "X-Gitlab-Event": "Push Hook", "X-Gitlab-Token": TOKEN}
    named = {**headers, "X-Gitlab-Event-UUID": "1"}
    assert hooks.post("gitlab/token", body, named)[0] == 202
    assert hooks.post("gitlab/token", body, named)[1]["reason"]
    assert hooks.post("gitlab/token", body, {**headers, "X-Gitlab-Event-UUID": "2"})[1]["reason"] == ""
    assert hooks.post("gitlab/token", body, headers)[1]["reason"] == ""
    assert hooks.post("gitlab/token", body, headers)[1]["reason"]
    assert len(hooks.runs()) == 3


@pytest.mark.parametrize("host", ["gitlab", "github"])
def test_an_annotated_tag_is_its_commit(hooks: Hooks, host: str) -> None:
    """Hosts name the tag itself as what is new; the run is of the commit that it is of."""
    if host == "gitlab":
        hooks.gitlab(payloads.gitlab_tag())
    else:
        hooks.github(payloads.github_tag(now()))
    found = {(run.asked.source.commit, run.asked.source.ref) for run in hooks.runs() if run.asked.source}
    assert found == {(COMMIT, "refs/tags/v1.2")}


def test_merge_requests_push_nothing_and_forks_make_nothing(hooks: Hooks) -> None:
    """Of a merge request within the repository the image stays in the store; a fork's is not built at all."""
    hooks.gitlab(payloads.gitlab_merge_request())
    (run,) = hooks.runs()
    assert (run.asked.push, run.asked.trigger.url) == ("", "https://gitlab.example/vision/ranker/-/merge_requests/1")
    moment = clock.rfc3339(clock.now())
    for number, (status, answer) in enumerate(
        (
            hooks.gitlab(payloads.gitlab_merge_request(fork=True), identity="m-2"),
            hooks.github(payloads.github_pull_request(moment, fork="bo/ranker"), event="pull_request"),
            hooks.github(payloads.github_pull_request(moment, fork=""), event="pull_request"),
        )
    ):
        assert (status, answer["runs"]) == (202, []), number
        assert "fork" in answer["reason"]
    hooks.github(payloads.github_pull_request(moment), event="pull_request")
    assert [one.asked.push for one in hooks.runs()] == ["", "", ""]


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (payloads.gitlab_push(after=payloads.NOTHING, checkout_sha=None), "deleted"),
        (payloads.gitlab_push(ref="refs/heads/try"), "no pattern"),
        (payloads.gitlab_push(ref="refs/heads/release/a/b"), "no pattern"),
        (payloads.gitlab_push(ref="refs/heads/refs/tags/main"), "no pattern"),
        (payloads.gitlab_push(project={"path_with_namespace": "other/ranker"}), "another repository"),
        (payloads.gitlab_push(project={"path_with_namespace": "ranker"}), ""),
        (payloads.gitlab_merge_request(action="merge"), "no new commits"),
        (payloads.gitlab_merge_request(action="update"), "no new commits"),
        (payloads.gitlab_merge_request(action="update", oldrev=payloads.BEFORE), ""),
        (payloads.gitlab_push(ref="refs/heads/release/1.2"), ""),
        ({"object_kind": "pipeline"}, "make no runs"),
        ({}, "make no runs"),
    ],
)
def test_what_makes_no_run_says_why(hooks: Hooks, payload: dict[str, Any], reason: str) -> None:
    """Deleted branches, other branches and repositories, other events: 202, for hosts turn off hooks that fail."""
    status, answer = hooks.gitlab(payload)
    assert status == 202
    assert reason in answer["reason"]
    assert bool(answer["runs"]) == (not reason)


def test_a_ping_of_github_is_answered(hooks: Hooks) -> None:
    """GitHub sends one when the webhook is made; it says whether the secret is right."""
    assert hooks.github({"zen": "Keep it simple.", "hook_id": 1}, event="ping") == (
        202,
        {"runs": [], "reason": "pong"},
    )
    assert "make no runs" in hooks.github({"action": "created"}, event="star")[1]["reason"]


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b'"x"', b"\xff\xfe", b'{"object_kind": "push"}', b'{"object_kind": 1}', b"[" * 200_000],
)
def test_signed_rubbish_is_refused(hooks: Hooks, body: bytes) -> None:
    """Even with the right signature, what is no event is 400, however deep it is."""
    headers = payloads.gitlab_headers(body, at=now())
    status, answer = hooks.post("gitlab/signed", body, headers)
    assert (status, answer["code"]) == (400, "bad_input")
    headers = payloads.github_headers(body, SECRET)
    assert hooks.post("github/hub", body, headers)[0] == 400


def test_commits_that_are_none_are_refused(hooks: Hooks) -> None:
    """A hash that is none never reaches Git."""
    wrong = payloads.gitlab_push(after="--upload-pack=x", checkout_sha="--upload-pack=x")
    assert hooks.gitlab(wrong)[0] == 400


def test_large_bodies_and_other_types_are_refused_before_they_are_read(
    hooks: Hooks, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One byte too many is 413, a form 415; a body of the largest size is read."""
    body = encoded(payloads.gitlab_push())
    monkeypatch.setattr(limits, "HOOK_BODY_BYTES", len(body))
    headers = payloads.gitlab_headers(body, at=now())
    assert hooks.post("gitlab/signed", body, headers)[0] == 202
    assert hooks.post("gitlab/signed", body + b" ", headers)[0] == 413
    form = {**headers, "Content-Type": "application/x-www-form-urlencoded"}
    assert hooks.post("gitlab/signed", body, form)[0] == 415


def test_a_secret_that_can_be_guessed_is_not_used(hooks: Hooks, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a short secret, or without the variable that has it, the server says that it cannot check, and not why."""
    body = encoded(payloads.gitlab_push())
    headers = {"Content-Type": "application/json", "X-Gitlab-Token": "short"}
    status, answer = hooks.post("gitlab/short", body, headers)
    assert (status, answer["code"]) == (503, "source_credential")
    monkeypatch.delenv("SIGNING_KEY")
    status, answer = hooks.gitlab(payloads.gitlab_push())
    assert status == 503
    assert "SIGNING_KEY" not in json.dumps(answer)
    assert hooks.runs() == ()


def test_who_sends_too_many_waits(hooks: Hooks) -> None:
    """An address has so many requests a second, with or without the secret."""
    variables = {"TIDEWAITER_HOME": str(hooks.settings.home.path), "TIDEWAITER_REQUESTS_PER_SECOND": "1"}
    with TestClient(create(all_settings.load(variables), anonymous=False)) as client:
        found = [client.post("/hooks/gitlab/none", content=b"{}").status_code for _ in range(15)]
    assert found[0] == 401
    assert found[-1] == 429


def test_other_methods_are_not_answered(hooks: Hooks) -> None:
    """A webhook is sent, never fetched."""
    assert hooks.client.get("/hooks/gitlab/signed").status_code == 405


def test_deliveries_are_forgotten_after_their_time(hooks: Hooks, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was taken is remembered as long as its signature could count, and longer; then its row goes."""
    hooks.github(payloads.github_push(now()))
    later = clock.now() + dt.timedelta(seconds=limits.HOOK_KEPT_SECONDS + 1)
    monkeypatch.setattr(clock, "now", lambda: later)
    hooks.github(payloads.github_push(int(later.timestamp())), delivery="d-2")
    with Catalog.open(hooks.settings) as catalog, catalog.database.reading() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM hook_delivery").scalar() == 2
    assert limits.HOOK_KEPT_SECONDS > limits.HOOK_AGE_SECONDS > limits.HOOK_SKEW_SECONDS
