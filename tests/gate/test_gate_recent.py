"""What is answered from memory is what the catalog says at that moment."""

import asyncio
import time
from pathlib import Path

import pytest
from starlette.testclient import TestClient

import postgres
from gate_place import Place, digest_of, manifest
from tidewaiter.access import tokens
from tidewaiter.catalog.catalog import Catalog
from tidewaiter.catalog.gate_reading import Shown
from tidewaiter.catalog.versions import Versions
from tidewaiter.core import limits
from tidewaiter.core import settings as all_settings
from tidewaiter.core.settings import DatabaseUrl
from tidewaiter.gate.recent import Pulled, Recent
from tidewaiter.oci import manifest as documents
from tidewaiter.oci.digest import Digest
from tidewaiter.web.app import create
from tidewaiter.web.lately import Fresh, Lately

OPEN = 'requests_per_second = 0\n\n[[repository]]\nnames = ["**"]\nopen = true\n'


def pulled(data: bytes) -> Pulled:
    return Pulled(Shown(Digest(digest_of(data)), documents.MANIFEST, len(data)), data)


def test_forgotten_with_every_change() -> None:
    """Nothing is remembered past a change, nor when it cannot be told whether there was one."""
    recent = Recent()
    assert recent.get("a", "v1", None) is None
    recent.put("a", "v1", 1, pulled(b"1"))
    assert recent.get("a", "v1", 1) == pulled(b"1")
    assert recent.get("b", "v1", 1) is None
    assert recent.get("a", "v1", None) is None
    assert recent.get("a", "v1", 2) is None
    recent.put("a", "v2", 2, pulled(b"2"))
    recent.put("a", "v1", 1, pulled(b"1"))  # found before the change, and told after it
    assert recent.get("a", "v1", 2) is None
    recent.put("a", "v3", None, pulled(b"3"))
    assert recent.get("a", "v3", None) is None


def test_it_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest go when there are too many, or too many bytes; a large manifest is not remembered at all."""
    monkeypatch.setattr(limits, "GATE_RECENT_BYTES", 1600)
    recent = Recent()
    for number in range(40):
        recent.put("a", f"v{number}", 1, pulled(bytes([number]) * 100))
    found = [number for number in range(40) if recent.get("a", f"v{number}", 1)]
    assert found == list(range(24, 40))
    recent.put("a", "large", 1, pulled(b"x" * 101))
    assert recent.get("a", "large", 1) is None
    monkeypatch.setattr(limits, "GATE_RECENT", 3)
    recent.put("a", "v50", 1, pulled(b"50"))
    assert sum(recent.get("a", f"v{number}", 1) is not None for number in range(60)) == 3


def test_who_came_is_looked_up_again() -> None:
    """After a second, after any change, or when that cannot be told, a secret is looked up again."""
    now = [0.0]
    lately: Lately[str] = Lately(now=lambda: now[0])
    lately.put("secret", 1, "alice")
    assert (lately.get("secret", 1), lately.get("other", 1)) == ("alice", None)
    now[0] = limits.LATELY_SECONDS + 0.1
    assert lately.get("secret", 1) is None
    now[0] = 0.5
    assert lately.get("secret", 2) is None
    assert lately.get("secret", None) is None
    lately.put("secret", None, "alice")
    assert lately.get("secret", None) is None


@pytest.mark.parametrize(
    "database_kind", ["sqlite", pytest.param("postgresql", marks=pytest.mark.interop)], indirect=True
)
def test_a_revoked_token_and_a_moved_tag_count_at_once(tmp_path: Path) -> None:
    """Asked again and again, the server answers from memory, until the tag moves or goes, or the token is revoked."""
    (tmp_path / "settings.toml").write_text(OPEN)
    settings = all_settings.load({"TIDEWAITER_HOME": str(tmp_path), **postgres.variables(tmp_path)})
    config = b'{"os":"linux"}'
    one = {"mediaType": documents.CONFIG, "digest": digest_of(config), "size": len(config)}
    images = [manifest(one, [], annotations={"n": str(number)}) for number in range(2)]
    with Catalog.open(settings) as catalog, TestClient(create(settings, anonymous=False)) as client:
        made = tokens.create(catalog, "robot", days=1, most_days=365, only_role="maintainer")
        client.headers["Authorization"] = f"Bearer {made.secret}"
        kind = {"Content-Type": documents.MANIFEST}
        assert client.post(f"/v2/a/blobs/uploads/?digest={digest_of(config)}", content=config).status_code == 201
        for data in images:
            assert client.put("/v2/a/manifests/v1", content=data, headers=kind).status_code == 201
            for _ in range(3):
                found = client.get("/v2/a/manifests/v1")
                assert (found.status_code, found.content) == (200, data)
        gone = client.get("/v2/a/manifests/v1", headers={"If-None-Match": found.headers["ETag"]})
        assert gone.status_code == 304
        assert client.head("/v2/a/manifests/v1").headers["Content-Length"] == str(len(images[1]))
        assert client.delete("/v2/a/manifests/v1").status_code == 202
        assert client.get("/v2/a/manifests/v1").status_code == 404
        assert client.get(f"/v2/a/manifests/{digest_of(images[0])}").content == images[0]
        assert client.get("/v2/a/manifests/v1", headers={"Authorization": ""}).status_code == 401
        tokens.revoke(catalog, "robot")
        assert client.get(f"/v2/a/manifests/{digest_of(images[0])}").status_code == 401


def test_of_two_headers_none_is_remembered(tmp_path: Path) -> None:
    """Clients without a login send an empty one; who sends it beside a token lends that to nobody."""
    settings = all_settings.load({"TIDEWAITER_HOME": str(tmp_path)})
    with Catalog.open(settings) as catalog, TestClient(create(settings, anonymous=False)) as client:
        made = tokens.create(catalog, "robot", days=1, most_days=365, only_role="viewer")
        nobody = ("Authorization", "Basic Og==")
        both = [nobody, ("Authorization", f"Bearer {made.secret}")]
        assert client.get("/v2/a/manifests/v1", headers=both).status_code == 404
        assert client.get("/v2/a/manifests/v1", headers=[nobody]).status_code == 401


def test_a_pass_is_one_before_the_registry_only(tmp_path: Path) -> None:
    """What a registry client was given opens nothing else, also a moment after it was used."""
    settings = all_settings.load({"TIDEWAITER_HOME": str(tmp_path)})
    with Catalog.open(settings) as catalog, TestClient(create(settings, anonymous=False)) as client:
        made = tokens.create(catalog, "robot", days=1, most_days=365, only_role="viewer")
        told = client.get("/v2/token?scope=repository:a:pull", headers={"Authorization": f"Bearer {made.secret}"})
        given = {"Authorization": f"Bearer {told.json()['token']}"}
        for _ in range(2):
            assert client.get("/v2/a/manifests/v1", headers=given).status_code == 404
            assert client.get("/api/v1/images", headers=given).status_code == 401


def test_what_lies_in_memory_is_what_was_pulled(place: Place) -> None:
    """A gate whose catalog cannot tell whether it changed looks every time."""
    data = place.image("a")
    assert place.put("a", "v1", data).status == 201
    assert place.ask("GET", "/a/manifests/v1").body == data
    assert place.registry.recent.get("a", "v1", 1) is None


class Counting(Versions):
    """One that takes a while, and says which question it answered."""

    def __init__(self) -> None:
        super().__init__(DatabaseUrl("postgresql://nobody@127.0.0.1:1/none"))
        self.began = 0

    def now(self) -> int:
        self.began += 1
        found = self.began
        time.sleep(0.05)
        return found


def test_who_comes_together_shares_a_question() -> None:
    """An answer is never to a question that was asked before somebody came, and many who come share one."""

    async def ask() -> tuple[int, list[int | str | None]]:
        versions = Counting()
        fresh = Fresh(versions)
        first = asyncio.create_task(fresh())
        await asyncio.sleep(0.02)  # the question is under way
        later = [asyncio.create_task(fresh()) for _ in range(20)]
        await asyncio.sleep(0)
        later[0].cancel()
        found = [await first, *(await asyncio.gather(*later[1:]))]
        fresh.close()
        return versions.began, found

    assert asyncio.run(ask()) == (2, [1] + [2] * 19)
