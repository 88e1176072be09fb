"""What GitLab and GitHub send to webhooks: the fields that their documentation lists, with values of our own."""

import base64
import hashlib
import hmac
import json
from typing import Any

COMMIT = "8d2f5c7a9b1e3f4d6c8a0b2e4f6a8c0d2e4f6a8c"
BEFORE = "1a3c5e7f9b2d4f6a8c0e2a4c6e8a0c2e4a6c8e0a"
TAG_OBJECT = "0c1d2e3f405162738495a6b7c8d9eafb0c1d2e3f"
NOTHING = "0" * 40
SIGNING_KEY = "whsec_" + base64.b64encode(b"k" * 32).decode()


def gitlab_push(**more: Any) -> dict[str, Any]:
    """A push of one commit to a branch."""
    return {
        "object_kind": "push",
        "event_name": "push",
        "before": BEFORE,
        "after": COMMIT,
        "ref": "refs/heads/main",
        "ref_protected": True,
        "checkout_sha": COMMIT,
        "user_id": 7,
        "user_name": "Anna Example",
        "user_username": "anna",
        "user_email": "",
        "project_id": 15,
        "project": {
            "id": 15,
            "name": "Ranker",
            "web_url": "https://gitlab.example/vision/ranker",
            "git_ssh_url": "git@gitlab.example:vision/ranker.git",
            "git_http_url": "https://gitlab.example/vision/ranker.git",
            "namespace": "Vision",
            "visibility_level": 0,
            "path_with_namespace": "vision/ranker",
            "default_branch": "main",
        },
        "commits": [
            {
                "id": COMMIT,
                "message": "Rank better",
                "timestamp": "2026-11-22T10:00:00+08:00",
                "url": f"https://gitlab.example/vision/ranker/-/commit/{COMMIT}",
                "author": {"name": "Bo Example", "email": "bo@example.com"},
                "added": [],
                "modified": ["main.py"],
                "removed": [],
            }
        ],
        "total_commits_count": 1,
        **more,
    }


def gitlab_tag() -> dict[str, Any]:
    """An annotated tag: `after` is the tag, `checkout_sha` the commit."""
    return gitlab_push(
        object_kind="tag_push",
        event_name="tag_push",
        before=NOTHING,
        after=TAG_OBJECT,
        ref="refs/tags/v1.2",
        checkout_sha=COMMIT,
        commits=[],
        total_commits_count=0,
    )


def gitlab_merge_request(*, fork: bool = False, action: str = "open", **more: Any) -> dict[str, Any]:
    """A merge request, within the project or from a fork."""
    return {
        "object_kind": "merge_request",
        "event_type": "merge_request",
        "user": {"id": 7, "name": "Anna Example", "username": "anna", "email": "[REDACTED]"},
        "project": gitlab_push()["project"],
        "object_attributes": {
            "id": 99,
            "iid": 1,
            "source_branch": "better",
            "target_branch": "main",
            "source_project_id": 16 if fork else 15,
            "target_project_id": 15,
            "state": "opened",
            "action": action,
            "url": "https://gitlab.example/vision/ranker/-/merge_requests/1",
            "last_commit": {
                "id": COMMIT,
                "message": "Rank better",
                "url": f"https://gitlab.example/vision/ranker/-/commit/{COMMIT}",
                "author": {"name": "Bo Example", "email": "bo@example.com"},
            },
            **more,
        },
    }


def gitlab_headers(body: bytes, *, at: int, key: str = SIGNING_KEY, identity: str = "msg-1") -> dict[str, str]:
    """Headers of a delivery that is signed."""
    secret = base64.b64decode(key.removeprefix("whsec_"))
    made = hmac.digest(secret, f"{identity}.{at}.".encode() + body, hashlib.sha256)
    return {
        "Content-Type": "application/json",
        "X-Gitlab-Event": "Push Hook",
        "X-Gitlab-Instance": "https://gitlab.example",
        "Idempotency-Key": identity,
        "webhook-id": identity,
        "webhook-timestamp": str(at),
        "webhook-signature": f"v1,{base64.b64encode(made).decode()}",
    }


def github_push(at: int, **more: Any) -> dict[str, Any]:
    """A push of one commit to a branch, at that second."""
    return {
        "ref": "refs/heads/main",
        "before": BEFORE,
        "after": COMMIT,
        "created": False,
        "deleted": False,
        "forced": False,
        "compare": "https://github.example/vision/ranker/compare/1a3c...8d2f",
        "head_commit": {
            "id": COMMIT,
            "message": "Rank better",
            "timestamp": "2026-11-22T10:00:00+08:00",
            "url": f"https://github.example/vision/ranker/commit/{COMMIT}",
            "author": {"name": "Bo Example", "email": "bo@example.com", "username": "bo"},
        },
        "repository": {
            "id": 3,
            "name": "ranker",
            "full_name": "vision/ranker",
            "private": True,
            "fork": False,
            "clone_url": "https://github.example/vision/ranker.git",
            "pushed_at": at,
        },
        "pusher": {"name": "anna", "email": "anna@example.com"},
        "sender": {"login": "anna", "id": 7, "type": "User"},
        **more,
    }


def github_tag(at: int) -> dict[str, Any]:
    """An annotated tag: `after` is the tag, the head commit is its commit."""
    return github_push(at, ref="refs/tags/v1.2", before=NOTHING, after=TAG_OBJECT, created=True)


def github_pull_request(at: str, *, fork: str = "vision/ranker", action: str = "opened") -> dict[str, Any]:
    """A pull request whose commits lie in the repository `fork`."""
    base = {"full_name": "vision/ranker", "fork": False, "pushed_at": at}
    return {
        "action": action,
        "number": 1,
        "pull_request": {
            "html_url": "https://github.example/vision/ranker/pull/1",
            "updated_at": at,
            "user": {"login": "bo"},
            "head": {"ref": "better", "sha": COMMIT, "repo": {"full_name": fork} if fork else None},
            "base": {"ref": "main", "sha": BEFORE, "repo": base},
        },
        "repository": base,
        "sender": {"login": "anna"},
    }


def github_headers(body: bytes, secret: str, *, event: str = "push", delivery: str = "d-1") -> dict[str, str]:
    """Headers of a delivery that is signed."""
    return {
        "Content-Type": "application/json",
        "X-GitHub-Event": event,
        "X-GitHub-Delivery": delivery,
        "X-Hub-Signature-256": "sha256=" + hmac.digest(secret.encode(), body, hashlib.sha256).hex(),
    }


def encoded(payload: dict[str, Any]) -> bytes:
    """The payload as it is sent."""
    return json.dumps(payload).encode()
