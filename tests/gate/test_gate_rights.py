"""Who may what in which repository; nothing of another one shows."""

import pytest

from gate_place import MAINTAINER, NOBODY, Place, digest_of, somebody
from tidewaiter.access.identity import Identity
from tidewaiter.access.roles import Permission

HEX = "a" * 64
READ = [("GET", "/a/x/manifests/v1"), ("GET", f"/a/x/blobs/sha256:{HEX}"), ("GET", "/a/x/tags/list")]
READ += [("HEAD", path) for _, path in READ[:2]] + [("GET", f"/a/x/referrers/sha256:{HEX}")]
PUSH = [("POST", "/a/x/blobs/uploads/"), ("PUT", "/a/x/manifests/v1"), ("PATCH", f"/a/x/blobs/uploads/{HEX[:32]}")]
PUSH += [(method, PUSH[2][1]) for method in ("PUT", "GET", "DELETE")]
DELETE = [("DELETE", "/a/x/manifests/v1"), ("DELETE", f"/a/x/blobs/sha256:{HEX}")]


@pytest.mark.parametrize(("method", "path"), [*READ, *PUSH, *DELETE])
def test_nobody_is_asked_to_log_in(place: Place, method: str, path: str) -> None:
    """Who did not say who he is gets 401 and the way to say so, whether anything is there or not."""
    answer = place.ask(method, path, who=NOBODY)
    assert answer.status == 401
    assert answer.headers["www-authenticate"].startswith('Bearer realm="http://')


@pytest.mark.parametrize(
    ("who", "allowed"),
    [
        (somebody("viewer", "a"), READ),
        (somebody("developer", "a"), READ + PUSH),
        (somebody("maintainer", "a"), READ + PUSH + DELETE),
        (somebody("security", "a"), READ),
        (somebody("admin", "b"), []),
        (somebody("admin"), READ + PUSH + DELETE),
    ],
)
def test_roles_in_the_project(place: Place, who: Identity, allowed: list[tuple[str, str]]) -> None:
    """A role allows what the table of roles says, in the project of the repository and nowhere else."""
    for method, path in [*READ, *PUSH, *DELETE]:
        denied = place.ask(method, path, who=who).status == 403
        assert denied == ((method, path) not in allowed), (method, path)


def test_a_token_that_is_limited(place: Place) -> None:
    """What a token is limited to limits it here, too."""
    who = Identity(name="t", kind="token", roles={"*": frozenset({"admin"})}, scope=frozenset({Permission.IMAGE_PULL}))
    answer = place.ask("POST", "/a/x/blobs/uploads/", who=who)
    assert (answer.status, answer.code) == (403, "DENIED")
    assert "image.push in the project a" in answer.message


def test_a_blob_of_another_repository(place: Place) -> None:
    """A blob that lies in the store is nothing to a repository that does not have it, also for who has its digest."""
    digest = place.blob("secret/x", b"secret bytes")
    reader = somebody("maintainer", "a")
    assert place.ask("GET", f"/a/x/blobs/{digest}", who=reader).status == 404
    assert place.ask("HEAD", f"/a/x/blobs/{digest}", who=reader).status == 404
    assert place.ask("DELETE", f"/a/x/blobs/{digest}").status == 404
    assert place.ask("GET", f"/secret/x/blobs/{digest}", who=reader).status == 403


def test_mounting_needs_rights_there(place: Place) -> None:
    """A blob is mounted only from where whoever asks may read it; else an upload begins, as if it were not there."""
    digest = place.blob("secret/x", b"secret bytes")
    reader = somebody("maintainer", "a")
    for path in (f"?mount={digest}&from=secret/x", f"?mount={digest}", f"?mount={digest}&from=a/y"):
        answer = place.ask("POST", f"/a/x/blobs/uploads/{path}", who=reader)
        assert answer.status == 202
        assert place.ask("GET", f"/a/x/blobs/{digest}", who=reader).status == 404
    mounted = place.ask("POST", f"/a/x/blobs/uploads/?mount={digest}&from=secret/x", who=MAINTAINER)
    assert (mounted.status, mounted.headers["docker-content-digest"]) == (201, digest)
    assert place.ask("GET", f"/a/x/blobs/{digest}", who=reader).body == b"secret bytes"


def test_what_waits_is_not_mounted_by_readers(place: Place) -> None:
    """Who may only pull from a repository mounts nothing of it that no visible manifest names."""
    digest = place.blob("b/x", b"pushed, not named")
    who = Identity(name="t", kind="token", roles={"a": frozenset({"developer"}), "b": frozenset({"viewer"})})
    assert place.ask("POST", f"/a/x/blobs/uploads/?mount={digest}&from=b/x", who=who).status == 202


def test_an_upload_belongs_to_its_repository(place: Place) -> None:
    """An upload's name is no use in another repository."""
    where = place.ask("POST", "/a/x/blobs/uploads/").headers["location"].removeprefix("/v2")
    assert place.ask("PATCH", where.replace("/a/x/", "/b/x/"), b"data").status == 404
    assert place.ask("PUT", f"{where.replace('/a/x/', '/b/x/')}?digest={digest_of(b'')}").status == 404


def test_the_base_asks_everybody_to_log_in(place: Place) -> None:
    """Clients look there whether to send a password, so whoever did not gets 401; who did gets 200."""
    assert place.ask("GET", "/", who=NOBODY).status == 401
    answer = place.ask("GET", "/")
    assert (answer.status, answer.headers["docker-distribution-api-version"]) == (200, "registry/2.0")
