"""Entries of the shared layer map, in a real registry: the right one is used, everything else is refused."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tidewaiter.assembly.layer_cache import Vouched
from tidewaiter.core import settings
from tidewaiter.core.progress import SILENT, Progress, Unit
from tidewaiter.distribution.registry import Repository
from tidewaiter.oci import digest as digests
from tidewaiter.oci import manifest as documents
from tidewaiter.oci.layer import Entry, LayerInfo, Sink, write_layer
from tidewaiter.oci.manifest import Descriptor, Manifest
from tidewaiter.pipelines import shared_layers
from tidewaiter.pipelines.shared_layers import SharedLayers
from tidewaiter.pipelines.workshop import Workshop, opened
from tidewaiter.signing import dsse, keys, statement
from tidewaiter.signing.key_sources import SigningKey
from tidewaiter.signing.keyring import TrustedKey
from tidewaiter.signing.keys import PrivateKey
from tidewaiter.signing.statement import Statement

KEY: dict[str, object] = {
    "kind": "python",
    "wheels": [["numpy", "2.1.0", "numpy-2.1.0-cp311.whl", "0" * 64]],
    "python": "cp311",
    "interpreter": "sha256:" + "1" * 64,
    "bytecode": 1,
    "layer": 1,
}
BUILDER = keys.create()
STRANGER = keys.create()


class Notes:
    """A progress display that remembers what was said."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def task(self, title: str, *, total: int | None = None, unit: Unit = "items") -> Any:
        return SILENT.task(title, total=total, unit=unit)

    def note(self, text: str) -> None:
        self.said.append(text)


def make(sink: Sink, content: bytes = b"numpy") -> LayerInfo:
    return write_layer(sink, [(Entry(path="usr/lib/x.py", kind="file", size=len(content)), content)])


class Bytes:
    """A sink in memory."""

    def __init__(self) -> None:
        self.data = b""

    def write(self, data: bytes, /) -> None:
        self.data += data


def made(content: bytes = b"numpy") -> tuple[LayerInfo, bytes]:
    """A layer and its bytes."""
    sink = Bytes()
    info = make(sink, content)
    return info, sink.data


def signer(key: PrivateKey) -> SigningKey:
    return SigningKey(signer=key, trusted=TrustedKey(public=key.public, name="builder", builder="ci"))


@pytest.fixture
def notes() -> Notes:
    """What the build says."""
    return Notes()


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    """Closes the workshops of a test."""
    with ExitStack() as opened_stack:
        yield opened_stack


@pytest.fixture
def runner(
    tmp_path: Path, docker_registry: str, notes: Notes, stack: ExitStack, request: pytest.FixtureRequest
) -> Workshop:
    """A fresh home that trusts the builder; each test has its own repository of shared layers."""
    public = tmp_path / "builder.pub"
    public.write_bytes(BUILDER.public.pem)
    name = digests.hexadecimal(digests.of(request.node.name.encode()))[:16]
    loaded = settings.load(
        {
            "TIDEWAITER_HOME": str(tmp_path / "runner"),
            "TIDEWAITER_SHARED_LAYERS": f"{docker_registry}/shared/{name}",
            "TIDEWAITER_PLAIN_HTTP": docker_registry,
            "TIDEWAITER_TRUSTED_BUILDERS": str(public),
        }
    )
    display: Progress = notes
    return stack.enter_context(opened(loaded, display))


def put(place: Repository, data: bytes, media_type: str) -> Descriptor:
    """Push a blob."""
    blob = Descriptor(media_type=media_type, digest=digests.of(data), size=len(data))
    place.push_blob(blob, lambda: [data])
    return blob


def enter(
    place: Repository,
    envelope: bytes,
    layer: bytes,
    *,
    key: Mapping[str, object] = KEY,
    artifact_type: str | None = shared_layers.ARTIFACT,
    envelope_type: str = dsse.MEDIA_TYPE,
    more: tuple[Descriptor, ...] = (),
) -> None:
    """Write an entry under the builder's tag for `key`, whatever it holds."""
    document = Manifest(
        schema_version=2,
        media_type=documents.MANIFEST,
        artifact_type=artifact_type,
        config=put(place, b"{}", documents.EMPTY),
        layers=[put(place, envelope, envelope_type), put(place, layer, documents.LAYER_GZIP), *more],
    )
    name = shared_layers.tag(key, BUILDER.public.fingerprint)
    place.put_manifest(name, documents.encode(document), documents.MANIFEST)


def attested(info: LayerInfo, *, by: PrivateKey = BUILDER, key: Mapping[str, object] = KEY) -> bytes:
    """The builder's word that `info` is the layer of `key`."""
    return dsse.sign(shared_layers.encode(key, info, "ci"), by)


def refuses(runner: Workshop, notes: Notes, reason: str) -> None:
    """The entry is not used, a note says why, and the cache makes the layer itself."""
    assert SharedLayers(runner)(KEY) is None
    assert len(notes.said) == 1
    assert reason in notes.said[0]
    info, reused = runner.layers.obtain(KEY, make)
    assert not reused
    assert info == made()[0]


def test_a_good_entry_is_used(runner: Workshop, notes: Notes) -> None:
    """The layer arrives in the store, its record says who vouched, and it is not published as this home's own."""
    info, data = made()
    enter(shared_layers.repository(runner), attested(info), data)
    cache = runner.layers
    assert cache.find_all([KEY, {"kind": "python", "other": 1}]) == [info, None]
    assert runner.store.verify(Descriptor(media_type=documents.LAYER_GZIP, digest=info.digest, size=info.size))
    assert SharedLayers(runner)(KEY) == Vouched(info, BUILDER.public.fingerprint)
    assert cache.obtain(KEY, lambda _sink: pytest.fail("made again")) == (info, True)
    assert list(cache.made_here({info.digest})) == []
    assert notes.said == []


def test_only_shared_kinds_are_asked_for(runner: Workshop, notes: Notes) -> None:
    """What is one project's own is not looked up."""
    own = {**KEY, "kind": "app"}
    info, data = made()
    enter(shared_layers.repository(runner), attested(info, key=own), data, key=own)
    assert SharedLayers(runner)(own) is None
    assert notes.said == []


def test_published_layers_are_found(runner: Workshop, tmp_path: Path, stack: ExitStack) -> None:
    """What a builder publishes, another home finds; a second time there is nothing to publish."""
    builder = settings.load(
        {
            "TIDEWAITER_HOME": str(tmp_path / "builder"),
            "TIDEWAITER_SHARED_LAYERS": runner.settings.shared_layers,
            "TIDEWAITER_PLAIN_HTTP": ",".join(runner.settings.plain_http),
        }
    )
    shop = stack.enter_context(opened(builder, SILENT))
    place = shared_layers.repository(shop)
    info, _ = shop.layers.obtain(KEY, make)
    own, _ = shop.layers.obtain({**KEY, "kind": "app"}, lambda sink: make(sink, b"app"))
    layers = [info.digest, own.digest]
    assert shared_layers.publish(shop, layers, signer(BUILDER), place) == 1
    assert shared_layers.publish(shop, layers, signer(BUILDER), place) == 0
    assert shared_layers.publish(shop, [own.digest], signer(BUILDER), place) == 0
    assert shared_layers.publish(shop, layers, signer(STRANGER), place) == 1  # beside, not instead
    assert SharedLayers(runner)(KEY) == Vouched(info, BUILDER.public.fingerprint)


def test_what_entries_have_in_common_is_pushed_once(runner: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    """docker-registry refuses a manifest while somebody uploads a blob of it again, so nobody does."""
    pushed: list[str] = []
    push_blob = Repository.push_blob

    def counted(place: Repository, blob: Descriptor, *more: Any, **options: Any) -> Any:
        pushed.append(blob.digest)
        return push_blob(place, blob, *more, **options)

    monkeypatch.setattr(Repository, "push_blob", counted)
    made = [
        runner.layers.obtain({**KEY, "bytecode": number}, lambda sink, n=number: make(sink, bytes([n])))[0].digest  # type: ignore[misc]  # n
        for number in range(12)
    ]
    place = shared_layers.repository(runner)
    assert shared_layers.publish(runner, made, signer(BUILDER), place) == 12
    assert pushed.count(digests.of(b"{}")) == 1
    assert len(pushed) == len(set(pushed)) == 1 + 2 * 12


def test_a_stranger_is_not_believed(runner: Workshop, notes: Notes) -> None:
    """Signed by a key that nobody trusts, under the trusted builder's tag."""
    info, data = made()
    enter(shared_layers.repository(runner), attested(info, by=STRANGER), data)
    refuses(runner, notes, "no trusted key")


def test_an_unsigned_entry_is_refused(runner: Workshop, notes: Notes) -> None:
    """An envelope without signatures."""
    info, data = made()
    envelope = msgspec.json.decode(attested(info))
    envelope["signatures"] = []
    enter(shared_layers.repository(runner), msgspec.json.encode(envelope), data)
    refuses(runner, notes, "no trusted key")


def test_a_swapped_predicate_is_refused(runner: Workshop, notes: Notes) -> None:
    """The signature of one statement does not vouch for another."""
    info, data = made()
    envelope = msgspec.json.decode(attested(info))
    other = msgspec.json.decode(attested(info, key={**KEY, "python": "cp312"}))
    envelope["payload"] = other["payload"]
    enter(shared_layers.repository(runner), msgspec.json.encode(envelope), data)
    refuses(runner, notes, "no trusted key")


@pytest.mark.parametrize(
    "change",
    [
        {"wheels": [["numpy", "2.1.0", "numpy-2.1.0-cp311.whl", "f" * 64]]},
        {"python": "cp312"},
        {"interpreter": "sha256:" + "2" * 64},
        {"bytecode": True},
        {"layer": 2},
        {"more": None},
    ],
    ids=str,
)
def test_other_options_are_refused(runner: Workshop, notes: Notes, change: dict[str, object]) -> None:
    """A layer truly signed for another wheel, Python, interpreter, option or format is not the one asked for."""
    info, data = made()
    enter(shared_layers.repository(runner), attested(info, key={**KEY, **change}), data)
    refuses(runner, notes, "made of something else")


def test_another_layer_is_refused(runner: Workshop, notes: Notes) -> None:
    """A good attestation beside other bytes."""
    info, _ = made()
    _, other = made(b"malice")
    enter(shared_layers.repository(runner), attested(info), other)
    refuses(runner, notes, "not about")


def test_another_predicate_type_is_refused(runner: Workshop, notes: Notes) -> None:
    """The builder attests other things too; none of them makes a layer."""
    info, data = made()
    good = statement.parse(shared_layers.encode(KEY, info, "ci"))
    other = Statement(good.subjects, "https://slsa.dev/provenance/v1", good.predicate)
    enter(shared_layers.repository(runner), statement.attest(other, BUILDER), data)
    refuses(runner, notes, "its predicate is")


def test_several_subjects_are_refused(runner: Workshop, notes: Notes) -> None:
    """A statement about several layers says of none which it is."""
    info, data = made()
    good = statement.parse(shared_layers.encode(KEY, info, "ci"))
    both = Statement((*good.subjects, statement.about("x", digests.of(b"x"))), good.predicate_type, good.predicate)
    enter(shared_layers.repository(runner), statement.attest(both, BUILDER), data)
    refuses(runner, notes, "several things")


@pytest.mark.parametrize("field", ["size", "diff_id", "tar_size"])
def test_wrong_figures_are_refused(runner: Workshop, notes: Notes, field: str) -> None:
    """Size, diff ID and unpacked size must be those of the bytes, whatever the builder signed."""
    info, data = made()
    wrong: dict[str, Any] = {"size": info.size + 1, "diff_id": digests.of(b"x"), "tar_size": info.tar_size + 1}
    said = msgspec.structs.replace(info, **{field: wrong[field]})
    enter(shared_layers.repository(runner), attested(said), data)
    refuses(runner, notes, "refused and made here")


def test_a_larger_tar_than_promised_is_refused(runner: Workshop, notes: Notes) -> None:
    """Unpacking stops at the size that was signed."""
    info, data = made(bytes(5_000_000))
    said = msgspec.structs.replace(info, tar_size=10_000)
    enter(shared_layers.repository(runner), attested(said), data)
    assert SharedLayers(runner)(KEY) is None
    assert "refused" in notes.said[0]


def test_odd_entries_are_refused(runner: Workshop, notes: Notes) -> None:
    """An image, an entry with more layers, and one whose attestation is something else."""
    info, data = made()
    place = shared_layers.repository(runner)
    extra = put(place, b"extra", documents.LAYER)
    for number, odd in enumerate(
        ({"artifact_type": None}, {"more": (extra,)}, {"envelope_type": "application/json"}), start=1
    ):
        enter(place, attested(info), data, **odd)  # type: ignore[arg-type]  # one keyword at a time
        assert SharedLayers(runner)(KEY) is None
        assert len(notes.said) == number


def test_no_keys_and_no_place(runner: Workshop, notes: Notes) -> None:
    """A key file that is missing turns the look-up off, with a note; so does a setting that is no repository."""
    (runner.settings.trusted_builders[0]).unlink()
    shared = SharedLayers(runner)
    assert shared(KEY) is None
    assert shared({**KEY, "x": 1}) is None
    assert len(notes.said) == 1
    assert "there is no key file" in notes.said[0]
