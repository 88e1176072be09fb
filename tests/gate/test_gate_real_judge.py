"""The judge of a server: real layers, the real policy, real waivers."""

import datetime as dt
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from gate_place import Place, digest_of, index, somebody
from image_builder import Tar, put_image
from tidewaiter.catalog import bases, workloads
from tidewaiter.catalog.gate_reading import Seen
from tidewaiter.catalog.workloads import Sighting
from tidewaiter.core import clock, limits, settings
from tidewaiter.core.errors import InputError
from tidewaiter.core.progress import SILENT
from tidewaiter.gate import deciding
from tidewaiter.gate.judging import Allowed
from tidewaiter.gate.terms import Terms
from tidewaiter.oci import digest as digests
from tidewaiter.oci import manifest as documents
from tidewaiter.oci.layout import Layout
from tidewaiter.oci.manifest import Descriptor, RunConfig
from tidewaiter.pipelines import pruning, waiving
from tidewaiter.pipelines.judging import StoreJudge
from tidewaiter.pipelines.workshop import opened
from tidewaiter.policy.scope import Scope
from tidewaiter.web.registry import terms_of
from workplace import run

STAGING = '[[environment]]\nname = "staging"\nrepositories = ["team/**"]\n'
MakePlace = Callable[..., Place]


@pytest.fixture
def staged(make_place: MakePlace) -> Iterator[Place]:
    """A gate before which `team/**` is staging, judged as a server judges."""
    place = make_place(written=STAGING)
    with closing(StoreJudge(place.settings, lambda: place.database)) as judge:
        place.registry.judge = judge
        place.registry.terms_of = terms_of(place.settings)
        yield place


def pushed(
    place: Place, repository: str, folder: Path, *, user: str, contents: str = "data", gzip: bool = True
) -> bytes:
    """The manifest of an image whose blobs are pushed."""
    tar = Tar().file("etc/os-release", "ID=none\n").file("data", contents).bytes()
    image = put_image(
        Layout(folder / "made"),
        [tar],
        blobs=None if gzip else [b"\x1f\x8b damaged"],
        run=RunConfig(user=user, entrypoint=["/data"]),
    )
    made = Layout(folder / "made")
    for one in (image.manifest.config, *image.manifest.layers):
        place.blob(repository, made.read(one.digest))
    return made.read(image.digest)


def waive(place: Place, rule: str) -> None:
    """Let a waiver of that rule be in force."""
    with opened(place.settings, SILENT) as shop:
        asked = waiving.request(
            shop,
            Scope(environments=("staging",), rule=rule),
            owner="alice",
            reason="it is a demonstration",
            requested_by="alice",
            expires_at=clock.now() + dt.timedelta(days=3),
        )
        shop.catalog.approve_waiver(asked.id, "bob")
    # Of two verdicts of the same second the denial counts.
    denied = clock.now()
    while clock.now() == denied:
        time.sleep(0.02)


@pytest.mark.parametrize(
    "database_kind", ["sqlite", pytest.param("postgresql", marks=pytest.mark.interop)], indirect=True
)
def test_denied_told_why_waived_and_released(staged: Place, tmp_path: Path) -> None:
    """A bad image is told rule, evidence and remedy, waits, is known to the catalog, and is released by a waiver."""
    data = pushed(staged, "team/app", tmp_path, user="0")
    answer = staged.put("team/app", "1.0.0", data)
    assert (answer.status, answer.code) == (403, "DENIED")
    first, *rules, last = answer.message.splitlines()
    assert first == "team/app:1.0.0 may not go to staging: 1 rule not satisfied."
    assert rules[0].startswith("(1) image.non-root [high] The image runs as root. Found: ")
    assert "Change: Set a numeric user" in rules[0]
    assert digest_of(data) in last
    assert staged.ask("GET", "/team/app/manifests/1.0.0").status == 404
    known = staged.database.image(digests.parse(digest_of(data)))
    assert [(one.environment, one.verdict) for one in known.verdicts] == [("staging", "deny")]
    assert staged.database.resolve_tag("team/app", "1.0.0") is None
    waive(staged, "image.non-root")
    assert deciding.release(staged.registry) == ("team/app:1.0.0",)
    assert staged.ask("GET", "/team/app/manifests/1.0.0").body == data
    assert staged.database.resolve_tag("team/app", "1.0.0") == digest_of(data)


def test_allowed_and_cleared(staged: Place, tmp_path: Path) -> None:
    """A good image is visible at once, and its tag is cleared by its verdict; once deleted it means nothing."""
    data = pushed(staged, "team/app", tmp_path, user="65532")
    answer = staged.put("team/app", "1.0.0", data)
    assert answer.status == 201, answer
    assert staged.ask("GET", f"/team/app/manifests/{digest_of(data)}").body == data
    found = staged.database.list_images(search="team/app").items
    assert [tag.visibility for item in found for tag in item.tags] == ["cleared"]
    assert staged.ask("DELETE", "/team/app/manifests/1.0.0").status == 202
    found = staged.database.list_images(search="team/app").items
    assert [tag.visibility for item in found for tag in item.tags] == []


def test_an_index_of_images(staged: Place, tmp_path: Path) -> None:
    """An index is judged by its children, which become visible with it."""
    children = [pushed(staged, "team/app", tmp_path / name, user="65532", contents=name) for name in ("one", "two")]
    for one in children:
        assert staged.put("team/app", digest_of(one), one).status == 201
    both = index(*children)
    assert staged.put("team/app", "1.0.0", both, media_type=documents.INDEX).status == 201
    assert staged.ask("GET", "/team/app/manifests/1.0.0").body == both


def test_a_damaged_layer_is_no_answer(staged: Place, tmp_path: Path) -> None:
    """An image that cannot be read is neither allowed nor denied: it stays out, and what is wrong is said."""
    data = pushed(staged, "team/app", tmp_path, user="65532", gzip=False)
    answer = staged.put("team/app", "1.0.0", data)
    assert answer.status == 503
    assert "could not be judged" in answer.message
    assert staged.ask("GET", "/team/app/manifests/1.0.0").status == 404


def test_terms_of_settings(make_place: MakePlace) -> None:
    """Environments and tables of the settings say the terms; an environment counts more than an open table."""
    text = (
        STAGING
        + '[[repository]]\nnames = ["team/**", "play/**"]\nopen = true\nbytes = "2KB"\nartifact_types = ["text/x"]\n'
        + '[[repository]]\nnames = ["play/small"]\nbytes = "1KB"\n'
    )
    terms = terms_of(make_place(written=text).settings)
    assert terms("team/app").environment == "staging"
    assert terms("other").environment == "production"
    assert (terms("play/a").environment, terms("play/a").bytes_at_most) == ("open", 2000)
    assert terms("play/small").bytes_at_most == 1000
    assert "text/x" in terms("play/a").artifact_types
    assert "text/x" not in terms("other").artifact_types
    nothing = terms_of(make_place().settings)
    assert nothing("any") == Terms(environment=None)


@pytest.mark.parametrize(
    "table",
    ["names = []", 'names = ["a b"]', 'names = ["a"]\nbytes = "much"', 'names = ["a"]\nfree = true', "open = true"],
)
def test_terms_that_make_no_sense(tmp_path: Path, table: str) -> None:
    """A table without names, with a pattern that is none, a size that is none or an unknown key stops the server."""
    (tmp_path / "settings.toml").write_text(f"[[repository]]\n{table}\n")
    with pytest.raises(InputError):
        settings.load({"TIDEWAITER_HOME": str(tmp_path)})


def test_what_runs_is_kept(staged: Place, tmp_path: Path) -> None:
    """Nobody deletes an image that runs somewhere, or that is an approved base, until that is over."""
    data = pushed(staged, "team/app", tmp_path, user="65532")
    staged.put("team/app", "1.0.0", data)
    where = f"/team/app/manifests/{digest_of(data)}"
    digest = digests.parse(digest_of(data))

    def look(*, gone: bool) -> None:
        seen = Sighting(cluster="west", namespace="shop", name="web", seen_at=clock.now(), digest=digest, gone=gone)
        with staged.database.database.writing() as connection:
            workloads.record(connection, [seen], clock.now())

    look(gone=False)
    kept = staged.ask("DELETE", where)
    assert (kept.status, kept.code) == (403, "DENIED")
    assert "runs in west/shop/web" in kept.message
    look(gone=True)
    with staged.database.database.writing() as connection:
        bases.approve(connection, "team/app", digest, owner="alice", expires=None, at=clock.now())
    assert "approved base" in staged.ask("DELETE", where).message
    with staged.database.database.writing() as connection:
        bases.retire(connection, "team/app", digest, reason="old", at=clock.now())
    assert staged.ask("DELETE", where).status == 202


def test_what_was_cleared_here_shows(staged: Place) -> None:
    """An image that a verdict cleared in this home shows without a push, for the environment of its repository only."""
    tar = Tar().file("etc/os-release", "ID=none\n").file("data", "here").bytes()
    image = put_image(staged.store, [tar], run=RunConfig(user="65532", entrypoint=["/data"]))
    data = staged.store.read(image.digest)
    descriptor = Descriptor(media_type=documents.MANIFEST, digest=image.digest, size=len(data))
    for repository in ("team/local", "team/other"):
        assert staged.registry.judge(repository, "1.0.0", descriptor) == Allowed("staging")
    for repository in ("team/local", "elsewhere/local"):
        staged.database.set_tag(repository, "1.0.0", image.digest, cleared_for="staging")
    staged.database.set_tag("team/other", "1.0.0", image.digest)
    assert deciding.take_cleared(staged.registry) == ("team/local:1.0.0",)
    viewer = somebody("viewer")
    assert staged.ask("GET", "/team/local/manifests/1.0.0", who=viewer).body == data
    layer = image.manifest.layers[0].digest
    assert digest_of(staged.ask("GET", f"/team/local/blobs/{layer}", who=viewer).body) == layer
    assert staged.ask("GET", "/_catalog").json["repositories"] == ["team/local"]
    assert deciding.take_cleared(staged.registry) == ()
    assert staged.ask("DELETE", "/team/local/manifests/1.0.0").status == 202
    assert deciding.take_cleared(staged.registry) == ()
    assert staged.ask("GET", "/team/local/manifests/1.0.0").status == 404


def test_pruning_keeps_what_was_pushed(staged: Place, tmp_path: Path) -> None:
    """What repositories have, visible, waiting or not named yet, stays when the store is pruned; the rest goes."""
    denied = pushed(staged, "team/app", tmp_path, user="0")
    assert staged.put("team/app", "1.0.0", denied).status == 403
    lonely = staged.blob("team/app", b"no manifest names this yet")
    garbage = staged.store.put(b"of nobody")
    pruning.prune(staged.settings, keep=0)
    there = set(staged.store.blobs())
    assert {digest_of(denied), lonely} <= there
    assert garbage not in there
    waive(staged, "image.non-root")
    assert deciding.release(staged.registry) == ("team/app:1.0.0",)


@pytest.mark.thorough
def test_what_is_attached_here_shows_beside_its_image(staged: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Signatures that this home attached to an image come along with it, in both formats, and so do later ones."""
    tar = Tar().file("etc/os-release", "ID=none\n").file("data", "here").bytes()
    image = put_image(staged.store, [tar], run=RunConfig(user="65532", entrypoint=["/data"]))
    size = len(staged.store.read(image.digest))
    descriptor = Descriptor(media_type=documents.MANIFEST, digest=image.digest, size=size)
    assert staged.registry.judge("team/local", "1.0.0", descriptor) == Allowed("staging")
    staged.database.set_tag("team/local", "1.0.0", image.digest, cleared_for="staging")
    sign(staged, "first")

    def shown() -> tuple[int, list[str]]:
        listed = staged.ask("GET", f"/team/local/referrers/{image.digest}").json["manifests"]
        return len(listed), staged.ask("GET", "/team/local/tags/list").json.get("tags", [])

    beside = f"{image.digest.replace(':', '-')}.sig"
    names, seen = deciding.take_attached(staged.registry, Seen())
    assert names == ()  # the repository has no image that it could be beside
    assert deciding.take_cleared(staged.registry) == ("team/local:1.0.0",)
    names, seen = deciding.take_attached(staged.registry, seen)
    assert f"team/local:{beside}" in names
    assert shown() == (1, ["1.0.0", beside])
    for one in staged.ask("GET", f"/team/local/manifests/{beside}").json["layers"]:
        assert digest_of(staged.ask("GET", f"/team/local/blobs/{one['digest']}").body) == one["digest"]
    assert deciding.take_attached(staged.registry, seen)[0] == ()
    sign(staged, "second")
    monkeypatch.setattr(limits, "GATE_RELEASES", 1)  # there is more than one look takes
    taken: list[str] = []
    for _ in range(4):
        names, seen = deciding.take_attached(staged.registry, seen)
        taken += names
    assert taken.count(f"team/local:{beside}") == 1
    assert shown() == (2, ["1.0.0", beside])
    assert len(staged.ask("GET", f"/team/local/manifests/{beside}").json["layers"]) == 2


def sign(place: Place, key: str) -> None:
    """Sign `team/local:1.0.0` of the store with a new key."""
    home = place.settings.home.path
    assert run(home, "key", "generate", key).code == 0
    done = run(home, "sign", "team/local:1.0.0", "--key", key)
    assert done.code == 0, done.err
