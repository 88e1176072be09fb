"""Our signatures for the real cosign, and cosign's for us: what no cell of the matrix of formats shows."""

import datetime as dt
import json
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
import tag_format
from cosigns import PASSWORD, Cosign

from images import make_image
from servers import Tool
from tidewaiter.core import clock
from tidewaiter.distribution import attached
from tidewaiter.distribution.push import push
from tidewaiter.distribution.registry import Registry, Repository
from tidewaiter.oci import manifest as documents
from tidewaiter.oci.layout import Layout
from tidewaiter.oci.manifest import Descriptor
from tidewaiter.signing import bundle, cosign, keys, predicates, simple_signing, statement, verify
from tidewaiter.signing.gathered import Gathered
from tidewaiter.signing.keyring import TrustedKey
from tidewaiter.signing.keys import PrivateKey
from tidewaiter.signing.statement import Statement
from tidewaiter.signing.verify import Requirements
from tidewaiter.transport.client import Client

pytestmark = pytest.mark.interop

AT = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
LINES = (2, 3)


@pytest.fixture
def real(tool: Tool, tmp_path: Path) -> Cosign:
    return Cosign(tool, tmp_path)


@pytest.fixture
def both(tool: Tool, tmp_path: Path) -> dict[int, Cosign]:
    """Cosign 2 and cosign 3, with one home."""
    return {line: Cosign(tool, tmp_path, line=line) for line in LINES}


@pytest.fixture
def client() -> Iterator[Client]:
    with Client() as client:
        yield client


def pushed(client: Client, host: str, name: str, folder: Path) -> tuple[Layout, Descriptor, Repository]:
    layout, image = make_image(folder / "store", sizes=(10,))
    repository = Registry(client, host, plain_http=frozenset({host})).repository(name)
    push(layout, image, repository, tags=["1"])
    return layout, image, repository


def written(folder: Path, name: str) -> tuple[PrivateKey, Path]:
    """A new key, and the file of its public half."""
    key = keys.create()
    (folder / name).write_bytes(key.public.pem)
    return key, folder / name


def attested(image: Descriptor, key: PrivateKey, kind: str, predicate: dict[str, object]) -> bytes:
    return statement.attest(Statement((statement.about("x", image.digest),), kind, predicate), key)


def gather(repository: Repository, image: Descriptor) -> Gathered:
    return cosign.gather(
        repository,
        image.digest,
        sig=attached.find(repository, image.digest, "sig"),
        att=attached.find(repository, image.digest, "att"),
        referrers=repository.referrers(image.digest),
    )


def trusted(*public: keys.PublicKey) -> list[TrustedKey]:
    return [TrustedKey(public=key, name=key.fingerprint) for key in public]


# Keys


def test_we_sign_with_cosigns_private_key(
    tmp_path: Path, client: Client, docker_registry: str, both: dict[int, Cosign]
) -> None:
    """The key that either cosign generated opens here, and cosign verifies what we sign with it."""
    for line, program in both.items():
        public = program.key_pair(f"theirs{line}")
        key = keys.load_private(public.with_suffix(".key"), PASSWORD.encode())
        assert key.public == keys.load_public(public)
        layout, image, repository = pushed(client, docker_registry, f"cosign/opened{line}", tmp_path / str(line))
        signature = tag_format.sign(layout, image.digest, repository_identity=str(repository), key=key)
        push(layout, signature, repository, tags=[attached.tag(image.digest, "sig")])
        done = program.verify(f"{repository}@{image.digest}", public)
        assert done.returncode == 0, done.stderr


# Tag format


def test_the_payload_equals_cosigns_to_the_byte(
    tmp_path: Path, client: Client, docker_registry: str, real: Cosign
) -> None:
    """`cosign generate` prints the same bytes, with and without annotations that Go escapes."""
    _, image, repository = pushed(client, docker_registry, "cosign/bytes", tmp_path)
    for notes in ({}, {"z": "<&>", "a": 'é"\\/\t\u2028\x7f'}):
        # The flag is a line of CSV.
        fields = ['"' + f"{name}={value}".replace('"', '""') + '"' for name, value in notes.items()]
        flags = [part for field in fields for part in ("-a", field)]
        made = real("generate", "--allow-insecure-registry", *flags, f"{repository}@{image.digest}")
        assert made.returncode == 0, made.stderr
        assert simple_signing.encode(str(repository), image.digest, notes) == made.stdout.encode().rstrip(b"\n")


def test_we_require_annotations_of_cosigns_signature(
    tmp_path: Path, client: Client, docker_registry: str, real: Cosign
) -> None:
    """Signed by cosign with an annotation: it holds when that is required, and not when another value is."""
    public = keys.load_public(real.key_pair("theirs"))
    _, image, repository = pushed(client, docker_registry, "cosign/required", tmp_path)
    for in_bundle in (False, True):
        name = f"{repository}@{image.digest}"
        done = real.sign(name, "theirs.key", bundle=in_bundle, annotations={"team": "a<b"})
        assert done.returncode == 0, done.stderr
        gathered = gather(repository, image)
        place = Gathered(tuple(one for one in gathered.found if one.format == ("bundle" if in_bundle else "tag")))
        required = Requirements(annotations={"team": "a<b"})
        found = verify.signature(place, image.digest, trusted(public), at=AT, requirements=required)
        assert found.fingerprint == public.fingerprint
        other = Requirements(annotations={"team": "b"})
        with pytest.raises(verify.InvalidError):
            verify.signature(place, image.digest, trusted(public), at=AT, requirements=other)


def test_ours_joins_cosigns_and_cosigns_ours(
    tmp_path: Path, client: Client, docker_registry: str, both: dict[int, Cosign]
) -> None:
    """Signatures and attestations that are added to a manifest of another program leave all others valid."""
    ours, our_file = written(tmp_path, "ours.pub")
    layout, image, repository = pushed(client, docker_registry, "cosign/joined", tmp_path)
    name, publics = f"{repository}@{image.digest}", [our_file]

    def fetched(suffix: attached.Suffix) -> Descriptor:
        """What is under the tag, as a part of the layout."""
        existing = attached.find(repository, image.digest, suffix)
        assert existing is not None
        for blob in tag_format.manifest(repository, existing).layers:
            layout.put(repository.read(blob.digest))
        layout.put(repository.read(existing.digest))
        return existing

    for line, program in both.items():
        publics.append(program.key_pair(f"theirs{line}"))
        done = program.sign(name, f"theirs{line}.key", bundle=False)
        assert done.returncode == 0, done.stderr
        done = program.attest(name, f"theirs{line}.key", "openvex", {"by": line}, bundle=False)
        assert done.returncode == 0, done.stderr
        if line == 2:
            signature = tag_format.sign(
                layout, image.digest, repository_identity=str(repository), key=ours, existing=fetched("sig")
            )
            push(layout, signature, repository, tags=[attached.tag(image.digest, "sig")])
            envelope = attested(image, ours, predicates.OPENVEX, {"by": "us"})
            att = tag_format.attest(layout, image.digest, envelope, predicates.OPENVEX, existing=fetched("att"))
            push(layout, att, repository, tags=[attached.tag(image.digest, "att")])
    gathered = gather(repository, image)
    assert len(gathered.found) == 6
    for public in publics:
        ring = trusted(keys.load_public(public))
        assert verify.signature(gathered, image.digest, ring, at=AT)
        assert len(verify.attestations(gathered, image.digest, predicates.OPENVEX, ring, at=AT)) == 1
        for program in both.values():
            for done in (program.verify(name, public), program.verify_attestation(name, public, "openvex")):
                assert done.returncode == 0, done.stderr


# Bundles


def test_bundles_of_several_programs_share_the_fallback_tag(
    tmp_path: Path, client: Client, docker_registry: str, both: dict[int, Cosign]
) -> None:
    """Ours stays in the list when cosign adds its own, and cosign's when we add ours."""
    ours, our_file = written(tmp_path, "ours.pub")
    layout, image, repository = pushed(client, docker_registry, "cosign/shared", tmp_path)
    name, publics = f"{repository}@{image.digest}", [our_file]
    for line, program in both.items():
        said = statement.image_signature(str(repository), image.digest, {"n": str(line)})
        data = bundle.encode(statement.attest(said, ours), ours.public)
        push(layout, cosign.bundle(layout, image, data, predicates.SIGNATURE, clock.now()), repository)
        publics.append(program.key_pair(f"theirs{line}"))
        done = program.sign(name, f"theirs{line}.key", bundle=True)
        assert done.returncode == 0, done.stderr
    gathered = gather(repository, image)
    assert (len(gathered.found), gathered.broken, gathered.unread) == (4, (), ())
    for public in publics:
        assert verify.signature(gathered, image.digest, trusted(keys.load_public(public)), at=AT)
        for program in both.values():
            done = program.verify(name, public)
            assert done.returncode == 0, done.stderr


def test_both_formats_side_by_side(
    tmp_path: Path, client: Client, docker_registry: str, both: dict[int, Cosign]
) -> None:
    """As we write by default: each format complete. Either cosign verifies what it looks at."""
    ours, public = written(tmp_path, "ours.pub")
    layout, image, repository = pushed(client, docker_registry, "cosign/both", tmp_path)
    identity, envelope = str(repository), attested(image, ours, predicates.SPDX, {"spdxVersion": "SPDX-2.3"})
    signature = tag_format.sign(layout, image.digest, repository_identity=identity, key=ours, annotations={"a": "b"})
    push(layout, signature, repository, tags=[attached.tag(image.digest, "sig")])
    att = tag_format.attest(layout, image.digest, envelope, predicates.SPDX)
    push(layout, att, repository, tags=[attached.tag(image.digest, "att")])
    said = statement.attest(statement.image_signature(identity, image.digest, {"a": "b"}), ours)
    for one, kind in ((said, predicates.SIGNATURE), (envelope, predicates.SPDX)):
        push(layout, cosign.bundle(layout, image, bundle.encode(one, ours.public), kind, AT), repository)
    name = f"{repository}@{image.digest}"
    for program in both.values():
        for done in (program.verify(name, public, {"a": "b"}), program.verify_attestation(name, public, "spdxjson")):
            assert done.returncode == 0, done.stderr


def test_cosign_lists_bundles_under_another_type(
    tmp_path: Path, client: Client, docker_registry: str, both: dict[int, Cosign]
) -> None:
    """Cosign 2 enters its bundles into the fallback tag as something else: asking for bundles only would miss them."""
    types = []
    for line, program in both.items():
        program.key_pair(f"theirs{line}")
        _, image, repository = pushed(client, docker_registry, f"cosign/listed{line}", tmp_path / str(line))
        done = program.sign(f"{repository}@{image.digest}", f"theirs{line}.key", bundle=True)
        assert done.returncode == 0, done.stderr
        types += [one.artifact_type for one in repository.referrers(image.digest)]
        assert len(gather(repository, image).found) == 1
    assert types == ["application/vnd.oci.empty.v1+json", bundle.MEDIA_TYPE]


# What cosign takes and we do not, so that the documentation may say so


def test_cosign_takes_any_attestation_for_a_signature(
    tmp_path: Path, client: Client, docker_registry: str, both: dict[int, Cosign]
) -> None:
    """Of an image that nobody signed and whose SBOM is attested in a bundle, cosign says that it is signed."""
    ours, public = written(tmp_path, "ours.pub")
    layout, image, repository = pushed(client, docker_registry, "cosign/unsigned", tmp_path)
    data = bundle.encode(attested(image, ours, predicates.SPDX, {}), ours.public)
    push(layout, cosign.bundle(layout, image, data, predicates.SPDX, AT), repository)
    for program in both.values():
        assert program.verify(f"{repository}@{image.digest}", public).returncode == 0
    with pytest.raises(verify.AbsentError):
        verify.signature(gather(repository, image), image.digest, trusted(ours.public), at=AT)


def test_annotations_of_a_bundle(tmp_path: Path, client: Client, docker_registry: str, both: dict[int, Cosign]) -> None:
    """Cosign 3 looks for them where we write them. Cosign 2 does not look for them at all."""
    ours, public = written(tmp_path, "ours.pub")
    layout, image, repository = pushed(client, docker_registry, "cosign/notes", tmp_path)
    said = statement.attest(statement.image_signature(str(repository), image.digest, {"team": "a"}), ours)
    data = bundle.encode(said, ours.public)
    push(layout, cosign.bundle(layout, image, data, predicates.SIGNATURE, AT), repository)
    name = f"{repository}@{image.digest}"
    right = [both[line].verify(name, public, {"team": "a"}).returncode == 0 for line in LINES]
    wrong = [both[line].verify(name, public, {"team": "b"}).returncode == 0 for line in LINES]
    assert (right, wrong) == ([True, True], [True, False])


def test_cosign_2_wants_roots_for_bundles(
    tmp_path: Path, client: Client, docker_registry: str, both: dict[int, Cosign]
) -> None:
    """Why the guide has a file of no roots: offline, cosign 2 verifies no bundle without it, key or not."""
    ours, public = written(tmp_path, "ours.pub")
    layout, image, repository = pushed(client, docker_registry, "cosign/roots", tmp_path)
    name = f"{repository}@{image.digest}"
    arguments = ["--key", str(public), "--insecure-ignore-tlog=true", "--allow-insecure-registry", name]
    signature = tag_format.sign(layout, image.digest, repository_identity=str(repository), key=ours)
    push(layout, signature, repository, tags=[attached.tag(image.digest, "sig")])
    assert [both[line]("verify", *arguments).returncode == 0 for line in LINES] == [True, True]
    said = statement.attest(statement.image_signature(str(repository), image.digest), ours)
    push(
        layout,
        cosign.bundle(layout, image, bundle.encode(said, ours.public), predicates.SIGNATURE, AT),
        repository,
    )
    done = {line: both[line]("verify", *arguments) for line in LINES}
    assert [done[line].returncode == 0 for line in LINES] == [False, True]
    assert "trusted root is required" in done[2].stderr


def test_a_bundle_makes_cosign_overlook_the_tags(
    tmp_path: Path, client: Client, docker_registry: str, both: dict[int, Cosign]
) -> None:
    """With any bundle beside it, also a stranger's, what is signed under the tag only is unsigned to cosign, not us."""
    ours, public = written(tmp_path, "ours.pub")
    layout, image, repository = pushed(client, docker_registry, "cosign/half", tmp_path)
    signature = tag_format.sign(layout, image.digest, repository_identity=str(repository), key=ours)
    push(layout, signature, repository, tags=[attached.tag(image.digest, "sig")])
    name, stranger = f"{repository}@{image.digest}", keys.create()
    assert [both[line].verify(name, public).returncode == 0 for line in LINES] == [True, True]
    data = bundle.encode(attested(image, stranger, predicates.SPDX, {}), stranger.public)
    push(layout, cosign.bundle(layout, image, data, predicates.SPDX, AT), repository)
    assert [both[line].verify(name, public).returncode == 0 for line in LINES] == [False, False]
    assert verify.signature(gather(repository, image), image.digest, trusted(ours.public), at=AT)


def test_cosign_needs_the_empty_signature_annotation(
    tmp_path: Path, client: Client, docker_registry: str, both: dict[int, Cosign]
) -> None:
    """Why we write it: an attestation under the tag without it is refused by cosign."""
    ours, public = written(tmp_path, "ours.pub")
    layout, image, repository = pushed(client, docker_registry, "cosign/annotation", tmp_path)
    att = tag_format.attest(layout, image.digest, attested(image, ours, predicates.SPDX, {}), predicates.SPDX)
    manifest = tag_format.manifest(layout, att)
    layer = msgspec.structs.replace(manifest.layers[0], annotations={cosign.PREDICATE_TYPE: predicates.SPDX})
    data = documents.encode(msgspec.structs.replace(manifest, layers=[layer]))
    without = Descriptor(media_type=documents.MANIFEST, digest=layout.put(data), size=len(data))
    name, accepted = f"{repository}@{image.digest}", []
    for one in (without, att):
        push(layout, one, repository, tags=[attached.tag(image.digest, "att")])
        accepted += [program.verify_attestation(name, public, "spdxjson").returncode == 0 for program in both.values()]
    assert accepted == [False, False, True, True]


def test_cosign_passes_over_a_key_id_in_a_bundle(
    tmp_path: Path, client: Client, docker_registry: str, both: dict[int, Cosign]
) -> None:
    """Why we write none: cosign looks for a key of that ID. We do not, since whoever signs may write anything there."""
    ours, public = written(tmp_path, "ours.pub")
    layout, image, repository = pushed(client, docker_registry, "cosign/keyid", tmp_path)
    envelope = json.loads(attested(image, ours, predicates.SPDX, {}))
    envelope["signatures"][0]["keyid"] = "mine"
    data = bundle.encode(json.dumps(envelope).encode(), ours.public)
    push(layout, cosign.bundle(layout, image, data, predicates.SPDX, AT), repository)
    name = f"{repository}@{image.digest}"
    assert [both[line].verify_attestation(name, public, "spdxjson").returncode == 0 for line in LINES] == [False] * 2
    assert verify.attestations(gather(repository, image), image.digest, predicates.SPDX, trusted(ours.public), at=AT)
