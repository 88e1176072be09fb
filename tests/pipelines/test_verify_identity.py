"""`verify` of an image in a real registry, beside which lies a signature by certificate."""

import datetime as dt
from pathlib import Path

import pytest
import small_image
from cryptography import x509
from small_image import Home

from image_builder import put_image
from little_sigstore import LittleSigstore, issuer
from tidewaiter.core import clock
from tidewaiter.oci.layout import Layout
from tidewaiter.signing import cosign, predicates, statement

pytestmark = pytest.mark.interop

SAN, ISSUER = "https://git.example/ci.yml@refs/heads/main", "https://id.example"
NAMED = ("--certificate-identity", SAN, "--certificate-oidc-issuer", ISSUER)


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with a key, to be copied."""
    return small_image.make(tmp_path_factory.mktemp("template"))


@pytest.fixture
def home(template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Home:
    """A home that nothing attached to the image."""
    return small_image.use(template, tmp_path, monkeypatch, capsys)


@pytest.fixture
def image(home: Home, docker_registry: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """HOST/REPO:TAG of an image that an identity signed and attested something of; `root.json` is the trusted root."""
    monkeypatch.setenv("TIDEWAITER_PLAIN_HTTP", docker_registry)
    name, now = f"{docker_registry}/keyless/a", clock.now() - dt.timedelta(minutes=5)
    service = LittleSigstore(now)
    (home.folder / "root.json").write_bytes(service.trusted_root())
    layout = Layout(home.folder / "signed")
    digest = put_image(layout, [b"\0" * 1024], name="1").digest
    for kind in (predicates.SIGNATURE, predicates.OPENVEX):
        said = statement.Statement((statement.about(name, digest),), kind, {})
        names = [x509.UniformResourceIdentifier(SAN)]
        data = service.sign(statement.encode(said), names, [issuer(ISSUER)], issued=now, logged=now)
        layout.list_unnamed(cosign.bundle(layout, layout.resolve("1"), data, kind, now))
    home.do("copy", "--with", "referrers", f"oci:{layout.path}:1", f"{name}:1")
    return f"{name}:1"


def test_an_identity_is_asked_for_by_name(home: Home, image: str) -> None:
    """Signature and attestation hold for the very name and issuer, and the answer says whose they are."""
    root = ("--trusted-root", home.folder / "root.json")
    found = home.do("verify", image, *NAMED, *root, "--format", "json")
    assert (found["verified"], found["fingerprint"], found["signature_format"]) == (True, None, "bundle")
    assert (found["certificate_identity"], found["certificate_oidc_issuer"]) == (SAN, ISSUER)
    assert f"certificate of {SAN}" in home.do("verify", image, *NAMED, *root)
    (vex,) = home.do("verify", image, *NAMED, *root, "--type", "openvex", "--format", "json")["attestations"]
    assert (vex["certificate_identity"], vex["fingerprint"]) == (SAN, None)
    for strange in (
        (*NAMED[:3], f"{ISSUER}/", *root),
        ("--certificate-identity", SAN[:-1], *NAMED[2:], *root),
        NAMED,
        ("--key", home.keys / "tidewaiter.pub"),
        (),
    ):
        code, answer = home.run("verify", image, *strange, "--format", "json")
        assert (code, answer["error"]["code"]) == (1, "signature_invalid")
    code, answer = home.run("verify", image, *NAMED, *root, "--type", "vuln", "--format", "json")
    assert (code, answer["error"]["code"]) == (1, "attestation_absent")


def test_a_policy_names_it(home: Home, image: str) -> None:
    """The chain holds by an identity of a trust policy file, and by none of other name."""
    policy = home.folder / "trust.toml"
    text = f"""
environment = "production"
require = ["signature", "openvex"]
[[identity]]
name = "ci"
san = "{SAN}"
issuer = "{ISSUER}"
builder = "ci"
trusted_root = "root.json"
"""
    policy.write_text(text)
    report = home.do("verify", image, "--policy", policy, "--format", "json")
    assert report["verified"]
    policy.write_text(text.replace("heads/main", "heads/other"))
    code, report = home.run("verify", image, "--policy", policy, "--format", "json")
    assert (code, report["verified"]) == (1, False)


@pytest.mark.parametrize(
    "words",
    [
        NAMED[:2],
        NAMED[2:],
        ("--trusted-root", "root.json"),
        (*NAMED, "--policy", "research"),
        (*NAMED, "--key", "a.pub"),
    ],
    ids=range(5),
)
def test_half_an_identity_is_none(home: Home, words: tuple[str, ...]) -> None:
    """Name and issuer go together, and with neither keys nor a policy; nobody is trusted by default."""
    code, answer = home.run("verify", small_image.NAME, *words, "--format", "json")
    assert (code, answer["error"]["code"]) == (2, "usage")
