"""Signatures by certificate: recorded ones of Sigstore's services, and those of a little service of one's own."""

import base64
import datetime as dt
import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import negative_corpus_world as world
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from negative_corpus_world import CI, CI_KEY, IMAGE, NOW, OTHER, REPOSITORY, SERVER_KEY, at

from little_sigstore import LittleSigstore, issuer
from tidewaiter.core import limits
from tidewaiter.core.errors import InputError, MissingToolError, NotFoundError
from tidewaiter.oci.digest import parse as digest
from tidewaiter.signing import keyless, keys, predicates, trust, verify
from tidewaiter.signing.gathered import Found, Gathered, Unread
from tidewaiter.signing.keyless import Root, TrustedIdentity, Voucher
from tidewaiter.signing.keyring import Scope, TrustedKey
from tidewaiter.signing.verify import InvalidError, UncheckedError

RECORDED = Path(__file__).parent / "recorded"
WORKFLOW = (
    "https://github.com/sigstore-conformance/extremely-dangerous-public-oidc-beacon/"
    ".github/workflows/extremely-dangerous-oidc-beacon.yml@refs/heads/main"
)
GITHUB = "https://token.actions.githubusercontent.com"
ARTIFACT = digest("sha256:a0cfc71271d6e278e57cd332ff957c3f7043fdda354c4cbb190a30d56efa01bf")

SAN = "https://git.example/vision/classifier/.ci/build.yml@refs/heads/main"
ISSUER = "https://id.example"
MAIL = "release@example.com"
SERVICE, STRANGE_SERVICE = LittleSigstore(NOW), LittleSigstore(NOW)
SIGNED = at(hours=1)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Root:
    """The trusted root of the little service."""
    path = tmp_path_factory.mktemp("root") / "trusted_root.json"
    path.write_bytes(SERVICE.trusted_root())
    return keyless.open_root(path)


def uri(text: str = SAN) -> x509.GeneralName:
    return x509.UniformResourceIdentifier(text)


def signed(
    body: bytes | None = None,
    *,
    names: Sequence[x509.GeneralName] | None = None,
    issuers: Sequence[x509.UnrecognizedExtension] | None = None,
    service: LittleSigstore = SERVICE,
    issued: dt.datetime = SIGNED,
    logged: dt.datetime = SIGNED,
    promise: bool = True,
) -> Found:
    """An image signature, or another statement, in a bundle by the identity, unless something else is said."""
    data = service.sign(
        world.statement(predicates.SIGNATURE, {}) if body is None else body,
        [uri()] if names is None else names,
        [issuer(ISSUER)] if issuers is None else issuers,
        issued=issued,
        logged=logged,
        promise=promise,
    )
    return world.found("bundle", data)


def trusted(root: Root, **changes: Any) -> TrustedIdentity:
    """The identity, trusted for everything that builders sign."""
    said = {"name": "workflow", "builder": "ci", "san": SAN, "issuer": ISSUER, "scope": Scope(predicates=world.BUILDS)}
    return TrustedIdentity(root=root, **{**said, **changes})


def ask(found: Found, ring: Sequence[Voucher], **more: Any) -> verify.Verified:
    return verify.signature(Gathered((found,)), IMAGE, ring, at=NOW, **more)


def test_the_public_services_root_comes_with_the_package() -> None:
    """A bundle that GitHub Actions once had signed holds, at the time that the log states."""
    document = (RECORDED / "github-rekor1.sigstore.json").read_bytes()
    who = TrustedIdentity(name="gh", san=WORKFLOW, issuer=GITHUB, builder=WORKFLOW, root=keyless.open_root(None))
    found = Gathered((world.found("bundle", document),))
    (held,) = verify.attestations(found, ARTIFACT, predicates.PROVENANCE, [who], at=NOW)
    assert (held.key, held.format, held.key.fingerprint) == (who, "bundle", None)
    assert held.signed_at == dt.datetime(2024, 12, 16, 18, 42, 56, tzinfo=dt.UTC)
    with pytest.raises(InvalidError, match="not about"):
        verify.attestations(found, IMAGE, predicates.PROVENANCE, [who], at=NOW)


def test_a_root_from_a_file_and_a_timestamp() -> None:
    """A bundle of Rekor 2 holds under its service's root, at the time of the timestamp, and under no other root."""
    document = (RECORDED / "github-rekor2-timestamped.sigstore.json").read_bytes()
    roots = [keyless.open_root(RECORDED / "staging.trusted_root.json"), keyless.open_root(None)]
    staging, public = (
        TrustedIdentity(name=one.source, san=WORKFLOW, issuer=GITHUB, builder="gh", root=one) for one in roots
    )
    found = Gathered((world.found("bundle", document),))
    for ring in ([staging], [public, staging]):
        (held,) = verify.attestations(found, ARTIFACT, predicates.PROVENANCE, ring, at=NOW)
        assert held.key == staging
        assert held.signed_at == dt.datetime(2026, 5, 13, 19, 23, 33, tzinfo=dt.UTC)
    with pytest.raises(InvalidError, match="certificate does not hold"):
        verify.attestations(found, ARTIFACT, predicates.PROVENANCE, [public], at=NOW)


@pytest.mark.parametrize(
    ("names", "issuers", "san"),
    [
        ([uri()], [issuer(ISSUER)], SAN),
        ([x509.RFC822Name(MAIL)], [issuer(ISSUER)], MAIL),
        ([uri()], [issuer(ISSUER, old=True)], SAN),
        ([uri()], [issuer(ISSUER, old=True), issuer(ISSUER)], SAN),
    ],
    ids=["workflow", "person", "old issuer", "both issuers"],
)
def test_an_image_signature_holds(
    root: Root, names: list[x509.GeneralName], issuers: list[x509.UnrecognizedExtension], san: str
) -> None:
    """It names the identity and the time that was proved, whatever else is beside the image."""
    one = signed(names=names, issuers=issuers)
    who = trusted(root, san=san)
    found = verify.signature(
        Gathered((world.image_signature(world.STRANGER, "bundle"), one)), IMAGE, [CI_KEY, who], at=NOW
    )
    assert (found.key, found.fingerprint, found.signed_at) == (who, None, SIGNED)
    assert found.docker_reference == REPOSITORY


def changed(found: Found, change: Callable[[dict[str, Any]], object]) -> Found:
    """The same bundle with a change."""
    document = json.loads(found.document)
    change(document)
    return world.found("bundle", json.dumps(document).encode())


def other_payload(document: dict[str, Any]) -> None:
    """Put in what was never signed: that it is about another image."""
    document["dsseEnvelope"]["payload"] = world.b64(world.statement(predicates.SIGNATURE, {}, signed_at=SIGNED))


def other_material(part: str) -> Callable[[dict[str, Any]], object]:
    """Put in the certificate or the log entry of another bundle by the same identity."""
    other = json.loads(signed(world.statement(predicates.SIGNATURE, {}, image=OTHER)).document)
    return lambda it: it["verificationMaterial"].update({part: other["verificationMaterial"][part]})


def later(document: dict[str, Any]) -> None:
    """Say another time than the log promised."""
    entry = document["verificationMaterial"]["tlogEntries"][0]
    entry["integratedTime"] = str(int(entry["integratedTime"]) + 1)


REFUSED: dict[str, tuple[Callable[[], Found], str]] = {
    "another name": (lambda: signed(names=[uri("https://git.example/other")]), "not trusted"),
    "a longer name": (lambda: signed(names=[uri(SAN + "2")]), "not trusted"),
    "a shorter name": (lambda: signed(names=[uri(SAN[:-1])]), "not trusted"),
    "a name in other case": (lambda: signed(names=[uri(SAN.replace("git.", "GIT."))]), "not trusted"),
    "a name with a slash": (lambda: signed(names=[uri(SAN + "/")]), "not trusted"),
    "a name in percent": (lambda: signed(names=[uri(SAN.replace("@", "%40"))]), "not trusted"),
    "a name before which another stands": (lambda: signed(names=[uri(f"https://evil.example/?{SAN}")]), "not trusted"),
    "two names": (lambda: signed(names=[uri(), uri("https://evil.example")]), "exactly one URI"),
    "the name twice": (lambda: signed(names=[uri(), uri()]), "exactly one URI"),
    "a host name": (lambda: signed(names=[x509.DNSName("git.example")]), "exactly one URI"),
    "another issuer": (lambda: signed(issuers=[issuer("https://evil.example")]), "not trusted"),
    "a longer issuer": (lambda: signed(issuers=[issuer(ISSUER + "/")]), "not trusted"),
    "two issuers": (lambda: signed(issuers=[issuer("https://evil.example", old=True), issuer(ISSUER)]), "one OIDC"),
    "no issuer": (lambda: signed(issuers=[]), "one OIDC"),
    "another service": (lambda: signed(service=STRANGE_SERVICE), "certificate does not hold"),
    "logged when the certificate was over": (lambda: signed(logged=SIGNED + dt.timedelta(minutes=11)), "hold"),
    "logged before the certificate": (lambda: signed(logged=SIGNED - dt.timedelta(minutes=1)), "hold"),
    "no time": (lambda: signed(promise=False), "timestamp"),
    "a time that has not come": (
        lambda: signed(issued=NOW + dt.timedelta(hours=1), logged=NOW + dt.timedelta(hours=1)),
        "not come",
    ),
    "another time": (lambda: changed(signed(), later), "promise"),
    "another payload": (lambda: changed(signed(), other_payload), "signature"),
    "another certificate": (lambda: changed(signed(), other_material("certificate")), "signature"),
    "another log entry": (lambda: changed(signed(), other_material("tlogEntries")), "log entry"),
    "no log entry": (
        lambda: changed(signed(), lambda it: it["verificationMaterial"].pop("tlogEntries")),
        "tlogEntries",
    ),
    "two log entries": (
        lambda: changed(
            signed(),
            lambda it: it["verificationMaterial"].update(tlogEntries=it["verificationMaterial"]["tlogEntries"] * 2),
        ),
        "log entry",
    ),
    "no certificate": (
        lambda: changed(signed(), lambda it: it["verificationMaterial"].update(certificate={"rawBytes": "MAA="})),
        "hold",
    ),
    "a key beside the certificate": (
        lambda: changed(signed(), lambda it: it["verificationMaterial"].update(publicKey={"hint": ""})),
        "both a key and a certificate",
    ),
    "another image": (lambda: signed(world.statement(predicates.SIGNATURE, {}, image=OTHER)), "not about"),
    "a later claim than is proved": (
        lambda: signed(world.statement(predicates.SIGNATURE, {}, signed_at=SIGNED + dt.timedelta(minutes=30))),
        "but was signed at",
    ),
    "a key instead": (lambda: world.image_signature(CI, "bundle"), "no trusted key made it"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_does_not_hold(root: Root, name: str) -> None:
    """Nothing counts but the very identity, over these very bytes, within its time, logged by its own service."""
    make, reason = REFUSED[name]
    with pytest.raises(InvalidError, match=reason):
        ask(make(), [trusted(root)])


def test_keys_do_not_vouch_for_certificates() -> None:
    """A certificate counts for no key, not even the one that it certifies."""
    one = signed()
    raw = json.loads(one.document)["verificationMaterial"]["certificate"]["rawBytes"]
    certified = x509.load_der_x509_certificate(base64.b64decode(raw)).public_key()
    pem = certified.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    key = TrustedKey(public=keys.parse_public(pem, source="certificate"), name="certified")
    with pytest.raises(InvalidError, match="no identity is trusted"):
        ask(one, [key])


@pytest.mark.parametrize(
    ("marks", "more", "reason"),
    [
        ({"valid_until": SIGNED}, {}, "identity workflow is in force only until"),
        ({"valid_from": SIGNED + dt.timedelta(seconds=1)}, {}, "identity workflow is in force only from"),
        ({"revoked_at": NOW}, {}, "identity workflow is revoked"),
        ({"scope": Scope(predicates=(predicates.SPDX,))}, {}, "may not sign signature"),
        ({"scope": Scope(repositories=("registry.example/audio/*",))}, {"repository": REPOSITORY}, "may not sign for"),
        ({"scope": Scope(environments=("staging",))}, {"environment": "production"}, "for the environment"),
        ({"builder": "local"}, {"environment": "production"}, "in production"),
    ],
    ids=range(7),
)
def test_marks_count_as_those_of_keys(root: Root, marks: dict[str, Any], more: dict[str, str], reason: str) -> None:
    """Validity at the proved time, revocation, scope and builder; without the mark the signature holds."""
    one = signed()
    with pytest.raises(InvalidError, match=reason):
        ask(one, [trusted(root, **marks)], **more)
    assert ask(one, [trusted(root)], **more)


def test_in_force_when_it_was_signed(root: Root) -> None:
    """What was signed before the end still holds; that it was is proved, not claimed."""
    assert ask(signed(), [trusted(root, valid_until=SIGNED + dt.timedelta(seconds=1))])
    backdated = signed(world.statement(predicates.SIGNATURE, {}, signed_at=at(days=9)))
    with pytest.raises(InvalidError, match="in force only until"):
        ask(backdated, [trusted(root, valid_until=at(days=8))])


def test_revoked_under_one_name_is_revoked(root: Root) -> None:
    """An identity that the ring has twice, revoked once, counts for nothing."""
    with pytest.raises(InvalidError, match="revoked"):
        ask(signed(), [trusted(root), trusted(root, name="again", revoked_at=NOW)])


POLICY = """
environment = "production"
require = ["signature", "spdx", "cyclonedx", "slsaprovenance1", "vsa"]

[[key]]
name = "server"
path = "server.pub"
builder = "server"
predicates = ["vsa"]

[[identity]]
name = "workflow"
san = "{san}"
issuer = "{issuer}"
builder = "ci"
trusted_root = "trusted_root.json"
predicates = ["signature", "spdx", "cyclonedx", "slsaprovenance1"]
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a trust policy that names a key and an identity."""
    (tmp_path / "trusted_root.json").write_bytes(SERVICE.trusted_root())
    (tmp_path / "server.pub").write_bytes(SERVER_KEY.public.pem)
    (tmp_path / "trust.toml").write_text(POLICY.format(san=SAN, issuer=ISSUER))
    return tmp_path


def whole(*more: Found) -> Gathered:
    """Everything that production demands: what was built by the identity, the verdict by the key."""
    built: list[tuple[str, object]] = [
        (predicates.SIGNATURE, {}),
        (predicates.SPDX, world.SPDX),
        (predicates.CYCLONEDX, world.CYCLONEDX),
        (predicates.PROVENANCE, world.provenance()),
    ]
    verdict = world.attestation(predicates.VERDICT, world.verdict(), world.SERVER, "bundle")
    return Gathered((*(signed(world.statement(kind, said)) for kind, said in built), verdict, *more))


def test_the_whole_chain_by_identity_and_key(folder: Path) -> None:
    """Nine steps hold with a policy that names both, and the identity signs no verdicts."""
    policy = trust.load(folder / "trust.toml")
    report = verify.chain(whole(), IMAGE, policy, at=NOW, repository=REPOSITORY)
    assert report.holds, report.steps
    assert "workflow (ci)" in report.steps[0].detail
    unsaid = signed(world.statement(predicates.VERDICT, world.verdict(passed=False, verified=SIGNED)))
    assert verify.chain(whole(unsaid), IMAGE, policy, at=NOW, repository=REPOSITORY).holds


def test_an_identity_can_take_a_verdict_back(folder: Path) -> None:
    """The later no of an identity that may sign verdicts withdraws the yes of a key."""
    text = (folder / "trust.toml").read_text()
    (folder / "trust.toml").write_text(text.replace('"slsaprovenance1"]\n', '"slsaprovenance1", "vsa"]\n'))
    policy = trust.load(folder / "trust.toml")
    no = signed(world.statement(predicates.VERDICT, world.verdict(passed=False, verified=SIGNED)))
    report = verify.chain(whole(no), IMAGE, policy, at=NOW, repository=REPOSITORY)
    assert [step.outcome for step in report.steps].count("invalid") == 1
    assert report.steps[-1].outcome == "invalid"


def test_what_cannot_be_read_stays_unchecked(root: Root) -> None:
    """A bundle that does not hold beside one that was lost is no answer."""
    with pytest.raises(UncheckedError):
        verify.signature(
            Gathered((signed(names=[uri("https://evil.example")]),), unread=(Unread("a blob", "lost"),)),
            IMAGE,
            [trusted(root)],
            at=NOW,
        )


def test_without_the_package_nothing_is_said(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A policy that names an identity could not be checked; it is not as if the identity were not there."""
    monkeypatch.setitem(sys.modules, "sigstore.models", None)
    with pytest.raises(MissingToolError, match="could not be checked") as caught:
        trust.load(folder / "trust.toml")
    assert caught.value.next_step == "Install it with `pip install tidewaiter[keyless]`."
    assert caught.value.exit_code == 3


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        (f'san = "{SAN}"\n', "", "san"),
        (f'san = "{SAN}"\n', 'san = ""\n', "san"),
        (f'issuer = "{ISSUER}"\n', "", "issuer"),
        ('builder = "ci"\n', "", "builder"),
        ('name = "workflow"\n', 'name = "workflow"\nsan_regexp = ".*"\n', "unknown field"),
        ('name = "workflow"\n', 'name = "server"\n', "same name"),
    ],
    ids=range(6),
)
def test_identities_are_exact(folder: Path, old: str, new: str, reason: str) -> None:
    """Name, issuer and builder are needed and whole, names are distinct, and there are no patterns."""
    text = (folder / "trust.toml").read_text()
    assert text.count(old) == 1
    with pytest.raises(InputError, match=reason):
        trust.parse(text.replace(old, new).encode(), source="trust.toml", directory=folder)


def test_one_identity_may_stand_once(folder: Path) -> None:
    """Twice, it could be revoked under one name only."""
    text = (folder / "trust.toml").read_text()
    again = "[[identity]]" + text.partition("[[identity]]")[2].replace('"workflow"', '"again"')
    with pytest.raises(InputError, match="same key or identity"):
        trust.parse((text + again).encode(), source="trust.toml", directory=folder)


def test_what_is_no_trusted_root(tmp_path: Path) -> None:
    """Missing, malformed, empty, and over the bound."""
    path = tmp_path / "root.json"
    with pytest.raises(NotFoundError, match="no trusted root"):
        keyless.open_root(path)
    for data in (
        b"",
        b"{}",
        b"[]",
        b"\xff",
        b'{"mediaType":"application/vnd.dev.sigstore.trustedroot+json;version=0.1"}',
    ):
        path.write_bytes(data)
        with pytest.raises(InputError, match="is no trusted root") as caught:
            keyless.open_root(path)
        assert caught.value.code == "bad_trusted_root"
    path.write_bytes(SERVICE.trusted_root().ljust(limits.TRUSTED_ROOT_BYTES))
    assert keyless.open_root(path).source == str(path)
    path.write_bytes(SERVICE.trusted_root().ljust(limits.TRUSTED_ROOT_BYTES + 1))
    with pytest.raises(InputError, match="over"):
        keyless.open_root(path)


OFFLINE = """
import sys
def refuse(event, arguments):
    # urllib3 binds a socket to this machine when it is imported, to see whether there is IPv6.
    if event.startswith("socket.") and event not in {"socket.__new__", "socket.bind"}:
        raise SystemExit(f"{event}: {arguments}")
sys.addaudithook(refuse)
import datetime as dt, pathlib
from tidewaiter.oci import digest as digests
from tidewaiter.signing import keyless, predicates, verify
from tidewaiter.signing.gathered import Found, Gathered
san, issuer, image, *pairs = sys.argv[1:]
for bundle, root in zip(pairs[::2], pairs[1::2]):
    opened = keyless.open_root(pathlib.Path(root) if root else None)
    who = keyless.TrustedIdentity(name="gh", san=san, issuer=issuer, builder="gh", root=opened)
    document = pathlib.Path(bundle).read_bytes()
    found = Found(place="bundle", blob=digests.of(document), document=document)
    at = dt.datetime(2026, 11, 22, tzinfo=dt.UTC)
    verify.attestations(Gathered((found,)), image, predicates.PROVENANCE, [who], at=at)
print("held")
"""


def test_nothing_is_asked_and_nothing_is_written(tmp_path: Path) -> None:
    """No connection and no name look-up with either root, and nothing is left in the user's folders."""
    pairs = [
        *(str(RECORDED / "github-rekor1.sigstore.json"), ""),
        *(str(RECORDED / "github-rekor2-timestamped.sigstore.json"), str(RECORDED / "staging.trusted_root.json")),
    ]
    done = subprocess.run(
        [sys.executable, "-c", OFFLINE, WORKFLOW, GITHUB, ARTIFACT, *pairs],
        capture_output=True,
        text=True,
        env={"HOME": str(tmp_path), "PATH": ""},
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "held\n"), done.stderr
    assert list(tmp_path.iterdir()) == []
