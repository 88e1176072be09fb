"""What an image stands on is found by its layers; what was said of that base reaches builds, `inspect` and policy."""

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tidewaiter.catalog.records import BuildRecord, BuiltLayer
from tidewaiter.core import clock, settings
from tidewaiter.core.progress import SILENT
from tidewaiter.oci import image as images
from tidewaiter.oci import manifest as documents
from tidewaiter.oci.digest import Digest
from tidewaiter.oci.image import Image
from tidewaiter.oci.manifest import Descriptor, ImageConfig, Manifest, RootFS
from tidewaiter.pipelines import resting
from tidewaiter.pipelines.workshop import Workshop, opened
from workplace import run

KEYS = ["reference", "digest", "layers", "reused_layers", "built_layers", "seconds", "lock_digest"]


def _named(word: str) -> Digest:
    return Digest("sha256:" + hashlib.sha256(word.encode()).hexdigest())


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Workshop]:
    """A workshop of an empty home."""
    with opened(settings.load({"TIDEWAITER_HOME": str(tmp_path / "home")}), SILENT) as found:
        yield found


def _image(shop: Workshop, layers: Sequence[str], *, claims: str = "", architecture: str = "amd64") -> Image:
    """An image of layers that are named by words; `claims` is the digest of a base that it says it stands on."""
    diff_ids = [_named(f"diff {word}") for word in layers]
    config = documents.encode(
        ImageConfig(architecture=architecture, os="linux", rootfs=RootFS(type="layers", diff_ids=diff_ids))
    )
    manifest = documents.encode(
        Manifest(
            schema_version=2,
            media_type=documents.MANIFEST,
            config=Descriptor(media_type=documents.CONFIG, digest=shop.store.put(config), size=len(config)),
            layers=[
                Descriptor(media_type=documents.LAYER_GZIP, digest=_named(f"blob {word}"), size=100) for word in layers
            ],
            annotations={resting.DIGEST: claims, resting.NAME: "claimed"} if claims else {},
        )
    )
    written = Descriptor(media_type=documents.MANIFEST, digest=shop.store.put(manifest), size=len(manifest))
    return images.load(shop.store, written)


def _build_on(shop: Workshop, base: Digest, words: Sequence[str]) -> None:
    """Record a build of whose layers all but the last are those of `base`."""
    now = clock.now()
    shop.catalog.record_build(
        BuildRecord(
            repository="team/model",
            digest=_named(" ".join(words)),
            media_type=documents.MANIFEST,
            layers=tuple(
                BuiltLayer(digest=_named(f"blob {word}"), diff_id=_named(f"diff {word}"), size=100, kind="base")
                for word in words
            ),
            environment="staging",
            purpose="training",
            source="x",
            commit="ab" * 20,
            dirty=False,
            builder="local",
            started=now,
            finished=now,
            seconds=1.0,
            base_name=f"of {words[-2]}",
            base_digest=base,
            base_layers=len(words) - 1,
        )
    )


def test_layers_say_what_an_image_stands_on(shop: Workshop) -> None:
    """Known layers prove a base, whatever the image says; without any, what it says is shown as a claim."""
    base = _named("base")
    _build_on(shop, base, ["a", "b", "app"])
    found = resting.under(shop, _image(shop, ["a", "b", "other"]))
    assert found is not None
    assert (found.name, found.digest, found.layers, found.state) == ("of b", base, 2, "known")
    assert resting.under(shop, _image(shop, ["a"])) is None
    claim = resting.under(shop, _image(shop, ["x"], claims=_named("elsewhere")))
    assert claim is not None
    assert (claim.name, claim.digest, claim.layers, claim.state) == ("claimed", _named("elsewhere"), 0, "known")
    assert resting.under(shop, _image(shop, ["x"], claims="no digest")) is None


def test_a_claim_hides_no_larger_base(shop: Workshop) -> None:
    """An image that claims the approved base below the retired one that it stands on is judged by the retired one."""
    small = _image(shop, ["a"])
    large = _named("large")
    _build_on(shop, large, ["a", "b", "app"])
    shop.catalog.approve_base("small", small.digest, owner="platform", expires=None)
    shop.catalog.approve_base("of b", large, owner="platform", expires=None)
    shop.catalog.retire_base("of b", large, reason="OpenSSL")
    found = resting.under(shop, _image(shop, ["a", "b", "mine"], claims=small.digest))
    assert found is not None
    assert (found.digest, found.state, found.reason) == (large, "retired", "OpenSSL")
    smaller = resting.under(shop, _image(shop, ["a", "mine"], claims=small.digest))
    assert smaller is not None
    assert (smaller.digest, smaller.state, smaller.layers) == (small.digest, "approved", 1)


def test_a_base_of_another_platform_makes_none_old(shop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the bases that were approved later those count that are in the store and run on the same machines."""
    base, newer = _image(shop, ["a"]), _image(shop, ["b"])
    other = _image(shop, ["a"], architecture="arm64")
    moment = clock.now()
    for number, digest in enumerate((base.digest, newer.digest, other.digest, _named("not here"))):
        monkeypatch.setattr(clock, "now", lambda number=number: clock.from_epoch(int(moment.timestamp()) - 9 + number))
        shop.catalog.approve_base("debian", digest, owner="platform", expires=None)
    found = resting.under(shop, _image(shop, ["a", "app"], claims=base.digest))
    assert found is not None
    assert (found.state, found.newer) == ("approved", (newer.digest,))
    assert found.warning.endswith(f"is outdated: {newer.digest} was approved later")


@pytest.mark.thorough
def test_builds_and_verdicts_know_of_a_retired_base(home: Path, project: Path) -> None:
    """`build` and `ci` warn and go on, `inspect` and `ci` name the base, and policy counts it."""
    built = run(home, "build", project, "--format", "json")
    assert (built.code, list(built.json), "warning" in built.err) == (0, KEYS, False)
    reference = built.json["reference"]
    base = run(home, "inspect", reference, "--format", "json").json["base"]
    assert (base["state"], base["layers"], base["name"]) == ("known", 2, "debian12-python3.11")

    def fails(environment: str) -> dict[str, str]:
        """Rules about the base, and what they are in this environment."""
        verdict = run(home, "check", reference, "--environment", environment, "--format", "json").json
        found = {one["rule"]: "warn" for one in verdict["warnings"]} | {
            one["rule"]: "deny" for one in verdict["violations"]
        }
        return {rule: level for rule, level in found.items() if rule.startswith("base.")}

    assert fails("staging") == {"base.approved": "warn"}
    assert fails("production") == {"base.approved": "deny"}
    assert run(home, "base", "approve", base["name"], base["digest"], "--owner", "platform").code == 0
    assert fails("production") == {}
    assert run(home, "base", "retire", base["name"], "--reason", "OpenSSL").code == 0
    assert fails("research") == fails("staging") == {"base.not-retired": "warn"}
    assert fails("production") == {"base.not-retired": "deny"}
    assert f"base      debian12-python3.11@{base['digest'][:19]} (retired)" in run(home, "inspect", reference).out

    again = run(home, "build", project, "--format", "json")
    assert (again.code, list(again.json)) == (0, KEYS)
    assert f"warning: the base debian12-python3.11@{base['digest']} is retired: OpenSSL" in again.err
    assert run(home, "key", "generate").code == 0
    cleared = run(home, "ci", project, "--format", "json")
    assert (cleared.code, cleared.json["base"]["state"]) == (0, "retired")
    assert "is retired: OpenSSL" in cleared.err
