"""CI jobs by their own tokens: what GitLab and GitHub send, and what somebody else would."""

import base64
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from joserfc.jwk import ECKey, RSAKey
from token_issuer import AUDIENCE, LittleIssuer, part

from servers import Serve
from tidewaiter.access.issuers import Issuers
from tidewaiter.access.jobs import Jobs
from tidewaiter.access.roles import Permission
from tidewaiter.access.tokens import PEOPLE_ONLY
from tidewaiter.core import limits
from tidewaiter.core import settings as all_settings
from tidewaiter.core.errors import (
    InputError,
    NetworkError,
    RefusedError,
    TidewaiterError,
    UnauthenticatedError,
)
from tidewaiter.core.settings.access import CiTable
from tidewaiter.transport.client import Client

GITLAB = {"project_path": "my-group/*", "ref_path": "refs/heads/main", "ref_protected": "true"}
GITHUB = {"repository": "octo-org/octo-repo", "ref": ["refs/heads/main", "refs/tags/*"]}


@pytest.fixture
def issuer(serve: Serve) -> LittleIssuer:
    return LittleIssuer(serve)


def fetch(address: str) -> bytes:
    """As the server does it."""
    with Client() as client:
        return client.get(address, limit=limits.ISSUER_BYTES)


def table(issuer: LittleIssuer, /, **changed: Any) -> CiTable:
    """A rule for GitLab's jobs, when nothing else is said."""
    said = {
        "kind": "gitlab",
        "issuer": issuer.url,
        "audience": AUDIENCE,
        "role": "developer",
        "projects": ["vision"],
        "claims": GITLAB,
        **changed,
    }
    return msgspec.convert(said, CiTable)


def jobs(issuer: LittleIssuer, *tables: CiTable, now: Callable[[], float] = time.monotonic) -> Jobs:
    """Rules that ask the issuer over HTTP."""
    return Jobs(tables or (table(issuer),), Issuers(fetch, now=now))


def test_a_job_of_gitlab_gets_the_role_of_its_rule(issuer: LittleIssuer) -> None:
    """There, and nowhere else; and what people answer for it may not, whatever the role."""
    who = jobs(issuer, table(issuer, role="admin")).identify(issuer.sign(issuer.gitlab()))
    assert (who.name, who.kind) == ("gitlab:my-group/my-project", "job")
    assert who.may(Permission.IMAGE_PUSH, "vision")
    assert not who.may(Permission.IMAGE_PUSH, "speech")
    assert not any(who.may(permission, "vision") for permission in PEOPLE_ONLY)


def test_a_job_of_github_signed_with_either_algorithm(issuer: LittleIssuer) -> None:
    """RS256 and ES256; an audience may stand in a list."""
    rules = jobs(issuer, table(issuer, kind="github", claims=GITHUB))
    for key in (issuer.rsa, issuer.ec):
        for audience in (AUDIENCE, [AUDIENCE, "other"]):
            who = rules.identify(issuer.sign(issuer.github(aud=audience), key=key))
            assert who.name == "github:octo-org/octo-repo"
            assert who.roles == {"vision": {"developer"}}


def test_every_rule_that_fits_gives_its_role(issuer: LittleIssuer) -> None:
    """Several projects of one rule, several rules of one job."""
    rules = jobs(
        issuer,
        table(issuer, projects=["vision", "speech"]),
        table(issuer, role="maintainer"),
        table(issuer, role="admin", claims={"project_path": "other/project"}),
    )
    who = rules.identify(issuer.sign(issuer.gitlab()))
    assert who.roles == {"vision": {"developer", "maintainer"}, "speech": {"developer"}}


@pytest.mark.parametrize(
    ("kind", "changed"),
    [
        ("gitlab", {"project_path": "evil/my-project"}),
        ("gitlab", {"project_path": "my-group/sub/project"}),  # `*` is one part
        ("gitlab", {"project_path": "my-group-evil/project"}),
        ("gitlab", {"project_path": ["my-group/my-project"]}),
        ("gitlab", {"project_path": "my-group/x\nactor"}),
        ("gitlab", {"ref_path": "refs/heads/feature"}),
        ("gitlab", {"ref_path": "refs/heads/main2"}),
        ("gitlab", {"ref_path": None}),
        ("gitlab", {"ref_protected": "false"}),
        ("gitlab", {"ref_protected": True}),
        ("gitlab", {"pipeline_source": "merge_request_event"}),
        ("github", {"repository": "octo-org/octo-repo-fork"}),
        ("github", {"repository": "evil/octo-repo", "repository_owner": "evil"}),
        ("github", {"ref": "refs/pull/7/merge", "event_name": "pull_request", "head_ref": "main", "base_ref": "main"}),
        ("github", {"event_name": "pull_request_target", "head_ref": "main", "base_ref": "main"}),
        ("github", {"ref": "refs/tags/a/b"}),
        ("github", {"repository": None}),
    ],
)
def test_a_job_that_no_rule_fits_is_refused(issuer: LittleIssuer, kind: str, changed: dict[str, Any]) -> None:
    """Another project, another ref, a fork, a change that somebody proposed: refused, not unknown."""
    claims = issuer.gitlab() if kind == "gitlab" else issuer.github()
    rules = jobs(issuer, table(issuer, kind=kind, claims=GITLAB if kind == "gitlab" else GITHUB))
    rules.identify(issuer.sign(claims))
    with pytest.raises(RefusedError, match=r"no \[\[ci\]\] table of this server fits") as caught:
        rules.identify(issuer.sign({**claims, **changed}))
    assert caught.value.code == "forbidden"


def test_a_rule_that_says_so_fits_proposed_changes(issuer: LittleIssuer) -> None:
    """Only with the claim that says why the job runs."""
    rules = jobs(
        issuer, table(issuer, kind="github", claims={"repository_id": "74", "event_name": ["push", "pull_request"]})
    )
    assert rules.identify(issuer.sign(issuer.github(event_name="pull_request"))).kind == "job"
    with pytest.raises(RefusedError):
        rules.identify(issuer.sign(issuer.github(event_name="pull_request_target")))


@pytest.mark.parametrize(
    "changed",
    [
        {"claims": {}},
        {"claims": {"ref": "refs/heads/main"}},
        {"claims": {"project_path": "**"}},
        {"claims": {"project_path": "*/*"}},
        {"claims": {"project_path": ["my-group/*", "*/x/*", "**"]}},
        {"claims": {"repository": "octo-org/octo-repo"}},  # which GitLab's tokens do not have
        {"role": "root"},
        {"projects": ["a/b"]},
        {"issuer": "http://gitlab.example"},
    ],
)
def test_a_rule_that_would_fit_everybody_is_refused(issuer: LittleIssuer, changed: dict[str, Any]) -> None:
    """When the server starts: it has to name whose jobs it means; without TLS no issuer is elsewhere."""
    with pytest.raises(InputError):
        jobs(issuer, table(issuer, **changed))


def _hostile(issuer: LittleIssuer) -> dict[str, str]:
    """Tokens that do not hold, by what is wrong with them."""
    good = issuer.gitlab()
    now = int(time.time())
    stranger = RSAKey.generate_key(2048, parameters={"kid": "rsa-1", "alg": "RS256"})
    curve = ECKey.generate_key("P-256", parameters={"kid": "ec-1", "alg": "ES256"})
    signed = issuer.sign(good)
    header, _, signature = signed.split(".")
    doubled = json.dumps(good)[:-1] + ', "project_path": "my-group/other"}'
    jwk = stranger.as_dict(private=False)
    return {
        "nothing": "a.b.c",
        "empty parts": "..",
        "alg none": issuer.by_hand({"alg": "none", "kid": "rsa-1", "typ": "JWT"}, good, lambda _: b""),
        "alg None": issuer.by_hand({"alg": "NoNe", "kid": "rsa-1", "typ": "JWT"}, good, lambda _: b""),
        "no signature": f"{signed.rpartition('.')[0]}.",
        "hmac with the public key": issuer.hmac_with_the_public_key(good),
        "another key": issuer.sign(good, key=stranger),
        "another curve key": issuer.sign(good, key=curve),
        "changed claims": f"{header}.{part({**good, 'project_path': 'my-group/other'})}.{signature}",
        "changed signature": signed[:-8] + ("AAAAAAAA" if not signed.endswith("AAAAAAAA") else "BBBBBBBB"),
        "unknown kid": issuer.sign(good, kid="rsa-2"),
        "no kid": issuer.sign(good, kid=""),
        "kid of the other kind": issuer.sign(good, kid="ec-1"),
        "kid with a path": issuer.sign(good, kid="../../../etc/passwd"),
        "algorithm of the other kind": issuer.sign(good, key=issuer.ec, kid="rsa-1"),
        "key in the header": issuer.sign(good, key=stranger, kid="rsa-1", jwk=jwk),
        "address of keys in the header": issuer.by_hand(
            {"alg": "RS256", "kid": "rsa-1", "jku": "http://evil.example/keys"}, good, lambda _: b"x" * 256
        ),
        "critical extension": issuer.by_hand(
            {"alg": "RS256", "kid": "rsa-1", "crit": ["exp"], "exp": 1}, good, lambda _: b"x" * 256
        ),
        "another type": issuer.sign(good, typ="at+jwt"),
        "another issuer": issuer.sign({**good, "iss": "https://gitlab.com"}),
        "issuer with a slash": issuer.sign({**good, "iss": good["iss"] + "/"}),
        "no issuer": issuer.sign({name: value for name, value in good.items() if name != "iss"}),
        "issuers in a list": issuer.sign({**good, "iss": [good["iss"]]}),
        "another audience": issuer.sign({**good, "aud": "https://other.example"}),
        "other audiences": issuer.sign({**good, "aud": ["https://other.example"]}),
        "no audience": issuer.sign({**good, "aud": None}),
        "longer audience": issuer.sign({**good, "aud": AUDIENCE + ".evil.example"}),
        "over": issuer.sign({**good, "exp": now - limits.CLOCK_LEEWAY_SECONDS - 1}),
        "no end": issuer.sign({name: value for name, value in good.items() if name != "exp"}),
        "end in words": issuer.sign({**good, "exp": "tomorrow"}),
        "end true": issuer.sign({**good, "exp": True}),
        "not yet": issuer.sign({**good, "nbf": now + limits.CLOCK_LEEWAY_SECONDS + 5}),
        "beginning in words": issuer.sign({**good, "nbf": None}),
        "of the future": issuer.sign({**good, "iat": now + limits.CLOCK_LEEWAY_SECONDS + 5}),
        "of no time": issuer.sign({name: value for name, value in good.items() if name != "iat"}),
        "too long": issuer.sign({**good, "more": "x" * limits.CREDENTIAL_CHARACTERS}),
        "a claim twice": issuer.by_hand(
            {"alg": "RS256", "kid": "rsa-1"}, doubled.encode(), lambda data: _rsa_signature(issuer, data)
        ),
        "no object": issuer.by_hand(
            {"alg": "RS256", "kid": "rsa-1"}, [good], lambda data: _rsa_signature(issuer, data)
        ),
        "endless nesting": issuer.by_hand({"alg": "RS256", "kid": "rsa-1"}, b'{"a":' * 2000, lambda _: b"x"),
        "padding": signed.replace(".", "=.", 1),
        "a line break": signed.replace(".", "\n.", 1),
        "four parts": signed + ".AAAA",
        "not ASCII": signed + "é",
    }


def _rsa_signature(issuer: LittleIssuer, data: bytes) -> bytes:
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import padding
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

    private = issuer.rsa.private_key
    assert isinstance(private, RSAPrivateKey)
    return private.sign(data, padding.PKCS1v15(), hashes.SHA256())


def test_tokens_that_do_not_hold_are_refused(issuer: LittleIssuer) -> None:
    """The whole corpus; and the same claims, signed rightly by hand and by a library, hold."""
    rules = jobs(issuer)
    right = issuer.by_hand({"alg": "RS256", "kid": "rsa-1"}, issuer.gitlab(), lambda data: _rsa_signature(issuer, data))
    for token in (issuer.sign(issuer.gitlab()), right):
        assert rules.identify(token).name == "gitlab:my-group/my-project"
    corpus = _hostile(issuer)
    assert len(corpus) > 40
    for what, token in corpus.items():
        with pytest.raises(UnauthenticatedError) as caught:
            rules.identify(token)
        assert caught.value.message, what


def test_a_clock_may_be_a_little_wrong(issuer: LittleIssuer) -> None:
    """Within the leeway, in every direction."""
    rules, now, little = jobs(issuer), int(time.time()), limits.CLOCK_LEEWAY_SECONDS - 5
    for changed in ({"exp": now - little}, {"nbf": now + little}, {"iat": now + little}):
        assert rules.identify(issuer.sign(issuer.gitlab(**changed))).kind == "job"


def test_keys_are_asked_for_once_and_again_when_one_is_new(issuer: LittleIssuer) -> None:
    """A new key is found once the pause is over; made-up names of keys do not make the server ask more often."""
    seconds = 1000.0
    rules = jobs(issuer, now=lambda: seconds)
    for _ in range(5):
        rules.identify(issuer.sign(issuer.gitlab()))
    assert issuer.asked.count("/keys") == 1
    new = RSAKey.generate_key(2048, parameters={"kid": "rsa-2", "alg": "RS256"})
    issuer.keys.append(dict(new.as_dict(private=False)))
    for number in range(20):
        with pytest.raises(UnauthenticatedError):
            rules.identify(issuer.sign(issuer.gitlab(), kid=f"made up {number}"))
    assert issuer.asked.count("/keys") == 1
    seconds += limits.ISSUER_AGAIN_SECONDS
    assert rules.identify(issuer.sign(issuer.gitlab(), key=new)).kind == "job"
    assert issuer.asked.count("/keys") == 2
    issuer.keys = issuer.keys[1:]
    seconds += limits.ISSUER_FRESH_SECONDS
    with pytest.raises(UnauthenticatedError):
        rules.identify(issuer.sign(issuer.gitlab()))


@pytest.mark.thorough
def test_keys_that_cannot_be_had_are_no_answer(issuer: LittleIssuer) -> None:
    """Neither a yes nor a no; while the pause lasts nobody is asked again; known keys outlast a failure."""
    seconds = 1000.0
    rules = jobs(issuer, now=lambda: seconds)
    issuer.broken = True
    for _ in range(3):
        with pytest.raises(NetworkError):
            rules.identify(issuer.sign(issuer.gitlab()))
    asked = len(issuer.asked)
    assert "/keys" not in issuer.asked
    with pytest.raises(NetworkError):
        rules.identify(issuer.sign(issuer.gitlab()))
    assert len(issuer.asked) == asked
    issuer.broken = False
    seconds += limits.ISSUER_AGAIN_SECONDS
    assert rules.identify(issuer.sign(issuer.gitlab())).kind == "job"


@pytest.mark.parametrize(
    "document",
    [
        {"issuer": "https://other.example"},
        {"jwks_uri": "http://keys.example/keys"},
        {"jwks_uri": "file:///etc/passwd"},
        {"jwks_uri": None},
    ],
)
def test_a_discovery_document_of_somebody_else_is_not_believed(
    issuer: LittleIssuer, document: dict[str, object]
) -> None:
    """Another issuer's, or one that sends to keys without TLS."""
    issuer.document |= document
    with pytest.raises(TidewaiterError) as caught:
        jobs(issuer).identify(issuer.sign(issuer.gitlab()))
    assert not isinstance(caught.value, UnauthenticatedError)


def test_weak_and_odd_keys_are_passed_over(issuer: LittleIssuer) -> None:
    """A short RSA key, one for encrypting, another curve, a secret one: none of them signs, the good one does."""
    from cryptography.hazmat.primitives.asymmetric import rsa

    short = rsa.generate_private_key(65537, 1024).public_key().public_numbers()

    def number(value: int) -> str:
        return base64.urlsafe_b64encode(value.to_bytes((value.bit_length() + 7) // 8, "big")).decode().rstrip("=")

    good = issuer.keys[0]
    issuer.keys = [
        {"kty": "RSA", "kid": "rsa-1024", "n": number(short.n), "e": number(short.e)},
        {**good, "kid": "for-encrypting", "use": "enc"},
        {**issuer.keys[1], "kid": "other-curve", "crv": "P-384"},
        {"kty": "oct", "kid": "shared", "k": "c2VjcmV0"},
        {"kty": "RSA", "kid": "broken", "n": "!"},
        {"kty": "RSA"},
        good,
    ]
    rules = jobs(issuer)
    for kid in ("rsa-1024", "for-encrypting", "other-curve", "shared", "broken"):
        with pytest.raises(UnauthenticatedError, match="has no key"):
            rules.identify(issuer.sign(issuer.gitlab(), kid=kid))
    assert rules.identify(issuer.sign(issuer.gitlab())).kind == "job"


def test_rules_stand_in_the_settings(tmp_path: Path) -> None:
    """As tables; what is misspelled is refused."""
    text = """
[[ci]]
kind = "github"
issuer = "https://token.actions.githubusercontent.com"
audience = "tidewaiter"
role = "developer"
projects = ["vision"]
claims = {repository_id = "74", ref = ["refs/heads/main", "refs/tags/*"]}
"""
    (tmp_path / "settings.toml").write_text(text)
    (rule,) = all_settings.load({"TIDEWAITER_HOME": str(tmp_path)}).access.ci
    assert rule.claims == {"repository_id": "74", "ref": ("refs/heads/main", "refs/tags/*")}
    for wrong in (text.replace("github", "jenkins", 1), text.replace("claims", "claim"), text.replace('"vision"', "")):
        (tmp_path / "settings.toml").write_text(wrong)
        with pytest.raises(InputError):
            all_settings.load({"TIDEWAITER_HOME": str(tmp_path)})
