"""An issuer of tokens on this machine: discovery document and keys over HTTP, tokens as the vendors document them."""

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from typing import Any

from joserfc import jws
from joserfc.jwk import ECKey, Key, RSAKey

from servers import Serve, reply

AUDIENCE = "https://tidewaiter.example"


def part(value: object) -> str:
    """A part of a token."""
    data = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


class LittleIssuer:
    """Serves what `document` and `keys` say now; counts how often."""

    def __init__(self, serve: Serve) -> None:
        self.rsa = RSAKey.generate_key(2048, parameters={"kid": "rsa-1", "use": "sig", "alg": "RS256"})
        self.ec = ECKey.generate_key("P-256", parameters={"kid": "ec-1", "use": "sig", "alg": "ES256"})
        self.keys: list[dict[str, Any]] = [dict(key.as_dict(private=False)) for key in (self.rsa, self.ec)]
        self.asked: list[str] = []
        self.broken = False
        self.url = serve(self._answer)
        self.document: dict[str, Any] = {"issuer": self.url, "jwks_uri": f"{self.url}/keys"}

    def _answer(self, handler: BaseHTTPRequestHandler) -> None:
        self.asked.append(handler.path)
        answers: dict[str, object] = {
            "/.well-known/openid-configuration": self.document,
            "/keys": {"keys": self.keys},
        }
        found = answers.get(handler.path)
        if self.broken or found is None:
            reply(handler, 500)
        else:
            reply(handler, 200, json.dumps(found).encode(), Content_Type="application/json")

    def sign(self, claims: dict[str, Any], *, key: Key | None = None, **header: Any) -> str:
        """A token that says this, signed with the RSA key when no other is given."""
        used = key or self.rsa
        said = {"alg": used.get("alg"), "kid": used.kid, "typ": "JWT", **header}
        return jws.serialize_compact(said, json.dumps(claims).encode(), used, algorithms=["RS256", "ES256", "RS512"])

    def gitlab(self, **changed: Any) -> dict[str, Any]:
        """Claims of a job in a branch, as GitLab documents them."""
        now = int(time.time())
        return {
            "namespace_id": "72",
            "namespace_path": "my-group",
            "project_id": "20",
            "project_path": "my-group/my-project",
            "user_id": "1",
            "user_login": "sample-user",
            "user_email": "sample-user@example.com",
            "user_identities": [{"provider": "github", "extern_uid": "2435223452345"}],
            "pipeline_id": "574",
            "pipeline_source": "push",
            "job_id": "302",
            "ref": "main",
            "ref_type": "branch",
            "ref_path": "refs/heads/main",
            "ref_protected": "true",
            "groups_direct": ["my-group"],
            "environment": "production",
            "environment_protected": "true",
            "deployment_tier": "production",
            "deployment_action": "start",
            "runner_id": 1,
            "runner_environment": "self-hosted",
            "sha": "714a629c0b401fdce83e847fc9589983fc6f46bc",
            "project_visibility": "private",
            "ci_config_ref_uri": "gitlab.example/my-group/my-project//.gitlab-ci.yml@refs/heads/main",
            "ci_config_sha": "714a629c0b401fdce83e847fc9589983fc6f46bc",
            "jti": "235b3a54-b797-45c7-ae9a-f72d7bc6ef5b",
            "iat": now,
            "nbf": now - 5,
            "exp": now + 3600,
            "iss": self.url,
            "sub": "project_path:my-group/my-project:ref_type:branch:ref:main",
            "aud": AUDIENCE,
            **changed,
        }

    def github(self, **changed: Any) -> dict[str, Any]:
        """Claims of a job on a push, as GitHub documents them."""
        now = int(time.time())
        return {
            "jti": "c6f4e4c5-2a3b-4c5d-8e9f-0a1b2c3d4e5f",
            "sub": "repo:octo-org/octo-repo:environment:prod",
            "environment": "prod",
            "aud": AUDIENCE,
            "ref": "refs/heads/main",
            "sha": "c040cae0f0dc81641728557b80f09cfa23b83fe5",
            "repository": "octo-org/octo-repo",
            "repository_owner": "octo-org",
            "actor_id": "12",
            "repository_visibility": "private",
            "repository_id": "74",
            "repository_owner_id": "65",
            "run_id": "22259804324",
            "run_number": "10",
            "run_attempt": "2",
            "runner_environment": "github-hosted",
            "actor": "octocat",
            "workflow": "example-workflow",
            "head_ref": "",
            "base_ref": "",
            "event_name": "push",
            "ref_type": "branch",
            "ref_protected": "true",
            "job_workflow_ref": "octo-org/octo-automation/.github/workflows/oidc.yml@refs/heads/main",
            "workflow_ref": "octo-org/octo-repo/.github/workflows/example.yml@refs/heads/main",
            "iss": self.url,
            "nbf": now - 600,
            "exp": now + 300,
            "iat": now,
            **changed,
        }

    def by_hand(self, header: object, claims: object, signature: Callable[[bytes], bytes]) -> str:
        """A token of any parts, for what no library writes."""
        signed = f"{part(header)}.{part(claims)}"
        return f"{signed}.{part(signature(signed.encode()))}"

    def hmac_with_the_public_key(self, claims: dict[str, Any]) -> str:
        """The token of somebody who takes the public key for a secret that both share."""
        pem = self.rsa.as_pem(private=False)
        return self.by_hand(
            {"alg": "HS256", "kid": "rsa-1", "typ": "JWT"},
            claims,
            lambda data: hmac.new(pem, data, hashlib.sha256).digest(),
        )
