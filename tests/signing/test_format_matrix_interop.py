"""Who signs, where it lies, and what is said: every combination, through real registries and real verifiers."""

import base64
import copy
import datetime as dt
import itertools
import json
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final, Literal

import msgspec
import pytest
import tag_format
from cosigns import Cosign, Done, referrers_registry

from images import make_image
from servers import Tool
from tidewaiter.core import clock
from tidewaiter.distribution import attached
from tidewaiter.distribution.push import push
from tidewaiter.distribution.registry import Registry, Repository
from tidewaiter.oci.layout import Layout
from tidewaiter.oci.manifest import Descriptor
from tidewaiter.signing import bundle, cosign, keys, predicates, statement, verify
from tidewaiter.signing.gathered import Gathered
from tidewaiter.signing.keyring import TrustedKey
from tidewaiter.signing.keys import PrivateKey, PublicKey
from tidewaiter.signing.statement import Statement
from tidewaiter.transport.client import Client

pytestmark = pytest.mark.interop

Signer = Literal["ours", "cosign2", "cosign3"]
Place = Literal["tag", "api", "fallback"]
SIGNERS: Final[tuple[Signer, ...]] = ("ours", "cosign2", "cosign3")
PLACES: Final[tuple[Place, ...]] = ("tag", "api", "fallback")
"""Tag format; bundles in a registry that lists referrers; bundles under the fallback tag of one that does not."""

AT = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
NOTES = {"team": "vision <&> é", verify.SIGNED_AT: clock.rfc3339(AT)}
PREDICATES: Final[dict[str, dict[str, Any]]] = {
    "spdx": {
        "spdxVersion": "SPDX-2.3", "dataLicense": "CC0-1.0", "SPDXID": "SPDXRef-DOCUMENT", "name": "a<b>&é",
        "documentNamespace": "https://example.org/x", "packages": [],
        "creationInfo": {"created": "2026-01-01T00:00:00Z", "creators": ["Tool: x"]},
    },
    "cyclonedx": {
        "bomFormat": "CycloneDX", "specVersion": "1.6", "version": 1,
        "components": [{"type": "library", "name": "a<b>&é", "version": "1"}],
    },
    "slsaprovenance1": {
        "buildDefinition": {
            "buildType": "https://example.org/b/v1", "externalParameters": {"a": {"b": [1, 2.5, None, True]}},
            "resolvedDependencies": [{"uri": "git+https://example.org/r", "digest": {"gitCommit": "ab" * 20}}],
        },
        "runDetails": {
            "builder": {"id": "https://example.org/ci"},
            "metadata": {"invocationId": "1", "finishedOn": "2026-01-01T00:01:00Z"},
        },
    },
    "vuln": {
        "invocation": {"parameters": [], "uri": "https://example.org", "event_id": "1", "builder.id": "x"},
        "scanner": {"uri": "pkg:x", "version": "1", "db": {"uri": "x", "version": "1"}, "result": {"matches": []}},
        "metadata": {"scanStartedOn": "2026-01-01T00:00:00Z", "scanFinishedOn": "2026-01-01T00:00:01Z"},
    },
    "openvex": {
        "@context": "https://openvex.dev/ns/v0.2.0", "@id": "https://example.org/v/1", "author": "x", "version": 1,
        "timestamp": "2026-01-01T00:00:00Z",
        "statements": [
            {"vulnerability": {"name": "CVE-2024-1"}, "products": [{"@id": "pkg:oci/x"}], "status": "fixed"}
        ],
    },
}  # fmt: skip
PREDICATES["spdxjson"] = PREDICATES["spdx"]
"""By cosign's name of the type: what is attested. Cosign attests `spdx` as text, `spdxjson` as JSON, under one type."""
KINDS = ("signature", *PREDICATES)


class Cell(msgspec.Struct, frozen=True):
    """An image with everything that one signer says of it in one place."""

    repository: Repository
    image: Descriptor
    gathered: Gathered

    @property
    def name(self) -> str:
        return f"{self.repository}@{self.image.digest}"


class Lab(msgspec.Struct, frozen=True):
    """All cells, and what the real verifiers said of ours."""

    cells: dict[tuple[Signer, Place], Cell]
    ring: dict[Signer, TrustedKey]
    said: dict[tuple[int, Place, str], Done]
    """By cosign's line."""
    refused: dict[tuple[int, Place], Done]
    """Our signature, with a key that did not make it."""


def _ours(layout: Layout, image: Descriptor, repository: Repository, key: PrivateKey, place: Place) -> None:
    """Sign and attest everything, and push it."""
    identity = str(repository)
    said = {kind: statement.about(identity, image.digest) for kind in PREDICATES}
    statements = {
        kind: Statement((subject,), predicates.named(kind), PREDICATES[kind]) for kind, subject in said.items()
    }
    if place == "tag":
        signature = tag_format.sign(layout, image.digest, repository_identity=identity, key=key, annotations=NOTES)
        push(layout, signature, repository, tags=[attached.tag(image.digest, "sig")])
        att = None
        for one in statements.values():
            envelope = statement.attest(one, key)
            att = tag_format.attest(layout, image.digest, envelope, one.predicate_type, existing=att)
        assert att is not None
        push(layout, att, repository, tags=[attached.tag(image.digest, "att")])
        return
    for one in (statement.image_signature(identity, image.digest, NOTES), *statements.values()):
        data = bundle.encode(statement.attest(one, key), key.public)
        push(layout, cosign.bundle(layout, image, data, one.predicate_type, AT), repository)


def _theirs(program: Cosign, image: str, place: Place) -> None:
    """Sign and attest everything with a real cosign, one after another, as it must be done in the tag format."""
    in_bundle = place != "tag"
    name = f"cosign{program.line}.key"
    done = [program.sign(image, name, bundle=in_bundle, annotations=NOTES)]
    done += [program.attest(image, name, kind, said, bundle=in_bundle) for kind, said in PREDICATES.items()]
    assert [one.stderr for one in done if one.returncode != 0] == []


def _gather(cell: Cell) -> Cell:
    repository, image = cell.repository, cell.image.digest
    gathered = cosign.gather(
        repository,
        image,
        sig=attached.find(repository, image, "sig"),
        att=attached.find(repository, image, "att"),
        referrers=repository.referrers(image),
    )
    return msgspec.structs.replace(cell, gathered=gathered)


@pytest.fixture(scope="module")
def lab(tool: Tool, docker_registry: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    home = tmp_path_factory.mktemp("matrix")
    programs = {line: Cosign(tool, home, line=line) for line in (2, 3)}
    key = keys.create()
    (home / "ours.pub").write_bytes(key.public.pem)
    (home / "other.pub").write_bytes(keys.create().public.pem)
    public: dict[Signer, PublicKey] = {"ours": key.public}
    for line, signer in ((2, SIGNERS[1]), (3, SIGNERS[2])):
        public[signer] = keys.load_public(programs[line].key_pair(f"cosign{line}"))
    with ExitStack() as stack:
        listing = stack.enter_context(referrers_registry(tool, home))
        hosts: dict[Place, str] = {"tag": docker_registry, "api": listing, "fallback": docker_registry}
        client = stack.enter_context(Client())
        threads = stack.enter_context(ThreadPoolExecutor(4))

        def fill(signer: Signer, place: Place) -> Cell:
            host = hosts[place]
            repository = Registry(client, host, plain_http=frozenset({host})).repository(f"matrix/{signer}/{place}")
            layout, image = make_image(home / f"{signer}-{place}", sizes=(10,))
            push(layout, image, repository, tags=["1"])
            cell = Cell(repository, image, Gathered())
            if signer == "ours":
                _ours(layout, image, repository, key, place)
            else:
                _theirs(programs[int(signer[-1])], cell.name, place)
            return _gather(cell)

        def judge(line: int, place: Place, kind: str) -> Done:
            name, program = cells["ours", place].name, programs[line]
            if kind == "signature":
                return program.verify(name, home / "ours.pub", NOTES)
            return program.verify_attestation(name, home / "ours.pub", kind)

        def refuse(line: int, place: Place) -> Done:
            return programs[line].verify(cells["ours", place].name, home / "other.pub")

        cells = _all(threads, fill, SIGNERS, PLACES)
        yield Lab(
            cells=cells,
            ring={signer: TrustedKey(public=one, name=signer) for signer, one in public.items()},
            said=_all(threads, judge, (2, 3), PLACES, KINDS),
            refused=_all(threads, refuse, (2, 3), PLACES),
        )


def _all(threads: ThreadPoolExecutor, work: Callable[..., Any], *sets: tuple[Any, ...]) -> dict[Any, Any]:
    """What `work` gives for every combination of the sets."""
    combinations = list(itertools.product(*sets))
    return dict(zip(combinations, threads.map(lambda one: work(*one), combinations), strict=True))


def _as_written(signer: Signer, kind: str) -> dict[str, Any]:
    """The predicate that the signer was given, as it writes it."""
    said = copy.deepcopy(PREDICATES[kind])
    if (signer, kind) == ("cosign2", "slsaprovenance1"):
        # Cosign 2 reads a provenance into its own fields, one of which it does not spell as the specification does.
        metadata = said["runDetails"]["metadata"]
        metadata["invocationID"] = metadata.pop("invocationId")
    return said


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("signer", SIGNERS)
def test_all_of_it_is_gathered(lab: Lab, signer: Signer, place: Place) -> None:
    """Whatever the registry calls a bundle's type, everything is found, and nothing is broken or unread."""
    gathered = lab.cells[signer, place].gathered
    assert (gathered.broken, gathered.unread) == ((), ())
    assert len(gathered.found) == len(KINDS)
    assert {one.format for one in gathered.found} == {"tag" if place == "tag" else "bundle"}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("signer", SIGNERS)
def test_we_verify(lab: Lab, signer: Signer, place: Place, kind: str) -> None:
    """A signature or attestation by anyone, in any place, holds for us with its own key and says what was signed."""
    cell, digest = lab.cells[signer, place], lab.cells[signer, place].image.digest
    ring = [TrustedKey(public=keys.create().public, name="other"), lab.ring[signer]]
    if kind == "signature":
        found = verify.signature(cell.gathered, digest, ring, at=AT)
        assert found.key.name == signer
        # Cosign 2 does not write annotations into bundles, whatever it is given.
        assert found.annotations == ({} if signer == "cosign2" and place != "tag" else NOTES)
        return
    held = verify.attestations(cell.gathered, digest, predicates.named(kind), ring, at=AT + dt.timedelta(days=1))
    assert {one.key.name for one in held} == {signer}
    assert len(held) == (2 if kind.startswith("spdx") else 1)
    assert [one.statement.predicate for one in held] == [_as_written(signer, kind)] * len(held)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("signer", SIGNERS)
def test_we_refuse_strangers(lab: Lab, signer: Signer, place: Place) -> None:
    """Nothing of it holds with another key, and no attestation counts as a signature of the image."""
    cell, digest = lab.cells[signer, place], lab.cells[signer, place].image.digest
    strangers = [lab.ring[other] for other in SIGNERS if other != signer]
    with pytest.raises(verify.InvalidError):
        verify.signature(cell.gathered, digest, strangers, at=AT)
    unsigned = [one for one in cell.gathered.found if one.claimed_type not in {"", predicates.SIGNATURE}]
    assert len(unsigned) == len(PREDICATES)
    with pytest.raises(verify.AbsentError):
        verify.signature(Gathered(tuple(unsigned)), digest, [lab.ring[signer]], at=AT)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("line", [2, 3])
def test_cosign_verifies_ours(lab: Lab, line: int, place: Place, kind: str) -> None:
    """Either cosign accepts what we signed, and shows what we said."""
    done = lab.said[line, place, kind]
    assert done.returncode == 0, done.stderr
    if kind != "signature":
        shown = [json.loads(base64.b64decode(json.loads(line)["payload"])) for line in done.stdout.splitlines()]
        assert PREDICATES[kind] in [one["predicate"] for one in shown]


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("line", [2, 3])
def test_cosign_refuses_another_key(lab: Lab, line: int, place: Place) -> None:
    """What makes the cells above green is our key."""
    assert lab.refused[line, place].returncode != 0


def test_npm_verifies_our_bundles(lab: Lab, tool: Tool, tmp_path: Path) -> None:
    """`@sigstore/verify` finds the key by the hint and accepts each bundle; a changed one it refuses."""
    public = tmp_path / "ours.pub"
    public.write_bytes(lab.ring["ours"].public.pem)
    files: list[Path] = []
    for place in ("api", "fallback"):
        for found in lab.cells["ours", place].gathered.found:
            files.append(tmp_path / f"{place}-{len(files)}.json")
            files[-1].write_bytes(found.document)
    changed = json.loads(files[0].read_bytes())
    changed["dsseEnvelope"]["payload"] = base64.b64encode(b'{"_type":"other"}').decode()
    (tmp_path / "changed.json").write_text(json.dumps(changed))
    command = [tool("sigstore-verify"), str(public), *map(str, files), str(tmp_path / "changed.json")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    *payloads, last = done.stdout.splitlines()
    assert last == "! signature verification failed"
    types = [json.loads(base64.b64decode(line))["predicateType"] for line in payloads]
    assert sorted(types) == sorted(2 * [predicates.named(kind) for kind in KINDS])
