"""Signed OPA bundles: what `opa sign` signed is taken, what we sign OPA takes, and nothing else gets through."""

import base64
import hashlib
import hmac
import json
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from hypothesis import given, settings
from hypothesis import strategies as st
from test_policy_bundle import tarred
from test_policy_layers import TEAM_REGO, TEAM_RULE, write

from servers import Tool
from tidewaiter.core.errors import InputError, NotFoundError, NotVerifiedError, TidewaiterError
from tidewaiter.policy import layers, signatures
from tidewaiter.policy import pack as packs
from tidewaiter.policy.signatures import Trust

# What Go writes in another way than Python: numbers as they are written, separators of lines, keys by their bytes.
DATA = (
    '{"company": {"n": [1, 1.50, 1e3, -0, true, null], "\\ud83d\\ude00": 1, "\\uffff": 2, '
    '"<&>": "a\\u2028b\\u0007\\u0000\\"\\\\/\\b\\f\\u007f \\u00fc", "z": {}, "a": []}}'
)
FILES = {"pack.toml": b'name = "x"\n', "a.rego": b"package a\n"}
SECRET = b"a secret of more than thirty-two bytes"

CURVE = ec.generate_private_key(ec.SECP256R1())
RSA = rsa.generate_private_key(65537, 2048)


def pem(key: Any) -> bytes:
    """The public half in PEM."""
    data: bytes = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return data


def ecdsa(data: bytes) -> bytes:
    """ES256."""
    halves = decode_dss_signature(CURVE.sign(data, ec.ECDSA(hashes.SHA256())))
    return b"".join(half.to_bytes(32, "big") for half in halves)


def hs256(data: bytes) -> bytes:
    """HS256."""
    return hmac.digest(SECRET, data, "sha256")


def rs256(data: bytes) -> bytes:
    """RS256."""
    return RSA.sign(data, padding.PKCS1v15(), hashes.SHA256())


def packed(data: bytes) -> str:
    """base64url without padding."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def listed(files: dict[str, bytes], **changes: Any) -> list[dict[str, Any]]:
    """What a token says of files that are no JSON."""
    return [
        {"name": name, "hash": hashlib.sha256(data).hexdigest(), "algorithm": "SHA-256", **changes}
        for name, data in files.items()
    ]


def signed(
    sign: Callable[[bytes], bytes] = ecdsa, *, header: dict[str, Any] | None = None, payload: Any = None
) -> dict[str, bytes]:
    """FILES with a signature."""
    head = packed(json.dumps(header or {"alg": "ES256"}).encode())
    body = packed(json.dumps({"files": listed(FILES)} if payload is None else payload).encode())
    token = f"{head}.{body}.{packed(sign(f'{head}.{body}'.encode()))}"
    return {**FILES, ".signatures.json": json.dumps({"signatures": [token]}).encode()}


@pytest.fixture
def trust(tmp_path: Path) -> Trust:
    """Trust in one key of each kind."""
    for name, data in (("curve", pem(CURVE)), ("rsa", pem(RSA)), ("secret", SECRET)):
        (tmp_path / name).write_bytes(data)
    found = signatures.trust([tmp_path / name for name in ("curve", "rsa", "secret")])
    assert found is not None
    return found


def only(trust: Trust, place: int) -> Trust:
    """Trust in one of the keys."""
    return Trust((trust.keys[place],))


def load(folder: Path, files: dict[str, bytes], trust: Trust) -> packs.Pack:
    """The pack in a bundle of these files."""
    (folder / "b.tar.gz").write_bytes(tarred(*files.items()))
    return packs.load_layer(folder / "b.tar.gz", trust).pack


@pytest.mark.parametrize(("sign", "name"), [(ecdsa, "ES256"), (rs256, "RS256"), (hs256, "HS256")])
def test_every_kind_of_key_signs(tmp_path: Path, trust: Trust, sign: Callable[[bytes], bytes], name: str) -> None:
    """A bundle that a trusted key signed is read; one of another key is not."""
    place = ["ES256", "RS256", "HS256"].index(name)
    files = signed(sign, header={"alg": name, "kid": "whatever"})
    assert load(tmp_path, files, trust).name == "x"
    assert load(tmp_path, files, only(trust, place)).name == "x"
    with pytest.raises(NotVerifiedError, match="none of the trusted keys"):
        load(tmp_path, files, only(trust, (place + 1) % 3))


def test_signing_is_asked_for_where_keys_are_set(tmp_path: Path, trust: Trust) -> None:
    """What is not signed, and a folder, is refused; where it is not required, only what is signed wrongly."""
    with pytest.raises(NotVerifiedError, match="is not signed"):
        load(tmp_path, FILES, trust)
    folder = write(tmp_path, TEAM_RULE, team=TEAM_REGO)
    with pytest.raises(NotVerifiedError, match="is a folder"):
        packs.load_layer(folder, trust)
    optional = Trust(trust.keys, required=False)
    assert load(tmp_path, FILES, optional).name == "x"
    assert packs.load_layer(folder, optional).pack.name
    with pytest.raises(NotVerifiedError, match=r"a\.rego was changed"):
        load(tmp_path, {**signed(), "a.rego": b"package b\n"}, optional)


def test_a_signature_that_nobody_can_check_is_refused(tmp_path: Path) -> None:
    """Without keys a signed bundle is not read as if it were none."""
    (tmp_path / "b.tar.gz").write_bytes(tarred(*signed().items()))
    with pytest.raises(InputError, match="no key is known"):
        packs.load_layer(tmp_path / "b.tar.gz")
    assert signatures.trust([]) is None


@pytest.mark.parametrize(
    ("files", "error"),
    [
        ({**signed(), "pack.toml": b'name = "y"\n'}, "pack.toml was changed"),
        ({**signed(), "b.rego": b"package b\n"}, "about other files than are in it: b.rego"),
        ({**signed(), "README.md": b"x"}, "about other files than are in it: README.md"),
        ({name: data for name, data in signed().items() if name != "a.rego"}, "a.rego"),
        (signed(payload={"files": [*listed(FILES), *listed({"a.rego": b""})]}), "twice"),
        (signed(payload={"files": listed(FILES), "scope": "write"}), "scope 'write'"),
        (signed(payload={"files": listed(FILES, algorithm="MD5")}), "'MD5'"),
        (signed(payload={"files": listed(FILES, algorithm="sha256")}), "'sha256'"),
        (signed(payload={"files": listed(FILES, hash="ü")}), "was changed"),
        (signed(payload={"files": []}), "about other files"),
        (signed(payload={}), "files"),
        (signed(payload=[]), "Expected"),
        (signed(header={"alg": "none"}), "none of the trusted keys"),
        (signed(lambda _: b"", header={"alg": "none"}), "none of the trusted keys"),
        (signed(lambda _: b"\0" * 64), "none of the trusted keys"),
        (signed(lambda data: ecdsa(data)[:-1]), "none of the trusted keys"),
        (signed(ecdsa, header={"alg": "ES384"}), "none of the trusted keys"),
        (signed(header={"alg": "ES256", "crit": ["b64"], "b64": False}), "extensions"),
        (signed(header={"typ": "JWT"}), "alg"),
        # The public key taken for a secret, which everybody knows.
        (
            signed(lambda data: hmac.digest(pem(CURVE), data, "sha256"), header={"alg": "HS256"}),
            "none of the trusted keys",
        ),
        ({**FILES, ".signatures.json": b'{"signatures": []}'}, "more or less than one token"),
        ({**FILES, ".signatures.json": b'{"signatures": ["a.b.c", "a.b.c"]}'}, "more or less than one token"),
        ({**FILES, ".signatures.json": b'{"signatures": ["a.b"]}'}, "no compact token"),
        ({**FILES, ".signatures.json": b'{"signatures": ["?.?.?"]}'}, "base64url"),
        ({**FILES, ".signatures.json": b'{"signatures": ["\\u00fc.b.c"]}'}, "base64url"),
        ({**FILES, ".signatures.json": b"["}, "signatures.json"),
        ({**FILES, ".signatures.json": b"[" * 100_000}, "signatures.json"),
        ({**FILES, ".signatures.json": b""}, "signatures.json"),
    ],
)
def test_what_is_not_signed_as_it_is_does_not_get_in(
    tmp_path: Path, trust: Trust, files: dict[str, bytes], error: str
) -> None:
    """Another file, digest, algorithm, token or shape than what a trusted key signed is refused with the reason."""
    with pytest.raises(TidewaiterError, match=error) as raised:
        load(tmp_path, files, Trust(trust.keys[:2]))
    assert raised.value.exit_code in {1, 2}


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b"short", "32 bytes"),
        (b"", "32 bytes"),
        (b"x" * 100_000, "over"),
        (pem(ed25519.Ed25519PrivateKey.generate()), "another kind"),
        (pem(rsa.generate_private_key(65537, 1024)), "too short"),
        (pem(ec.generate_private_key(ec.SECP256K1())), "another kind"),
        (b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", "no public key"),
        (
            CURVE.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            ),
            "no public key",
        ),
    ],
)
def test_keys_that_prove_nothing_are_refused(tmp_path: Path, data: bytes, error: str) -> None:
    """A guessable secret, a weak or an unknown key, and a private one, which is never taken for a secret."""
    (tmp_path / "key").write_bytes(data)
    with pytest.raises(InputError, match=error):
        signatures.load_key(tmp_path / "key")
    with pytest.raises(NotFoundError):
        signatures.load_key(tmp_path / "none")


def layer(folder: Path, sign: Any = None) -> bytes:
    """A bundle of a layer with data that two programs write differently."""
    company = write(folder, TEAM_RULE, data=DATA, team=TEAM_REGO)
    return layers.write_layer(company, sign=sign)[0]


def ours(files: Any) -> bytes:
    """`.signatures.json` by our key."""
    return signatures.document(files, lambda data: CURVE.sign(data, ec.ECDSA(hashes.SHA256())), key_id="ours")


def test_what_we_sign_we_take(tmp_path: Path, trust: Trust) -> None:
    """Round trip, and one changed byte of the data is found; blanks in JSON are not of the data."""
    (tmp_path / "b.tar.gz").write_bytes(layer(tmp_path, ours))
    assert packs.load_layer(tmp_path / "b.tar.gz", trust) == packs.load_layer(tmp_path / "b.tar.gz", only(trust, 0))
    with tarfile.open(tmp_path / "b.tar.gz") as archive:
        files = {name: archive.extractfile(name).read() for name in archive.getnames()}  # type: ignore[union-attr]  # files
    load(tmp_path, {**files, "data.json": files["data.json"].replace(b", ", b",\n")}, trust)
    with pytest.raises(NotVerifiedError, match=r"data\.json was changed"):
        load(tmp_path, {**files, "data.json": files["data.json"].replace(b"1.50", b"1.5")}, trust)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["files", "name", "hash", "algorithm", "scope", "alg", "crit"]), inner, max_size=4
        )
    ),
    max_leaves=8,
)


@settings(max_examples=200, deadline=None)
@given(
    header=JSON | st.just({"alg": "HS256"}),
    payload=JSON.filter(lambda value: value is not None),
    document=st.none() | st.binary(max_size=60) | st.text(),
)
def test_any_signature_is_refused_in_order(header: Any, payload: Any, document: Any) -> None:
    """Whatever a token says, also one of a trusted key, and whatever stands in its place, gives one of our errors."""
    if isinstance(document, bytes):
        text = document
    elif isinstance(document, str):
        text = json.dumps({"signatures": [document]}).encode()
    else:
        text = signed(hs256, header=header, payload=payload)[".signatures.json"]
    trusted = Trust((signatures.Key(secret=SECRET), signatures.Key(public=CURVE.public_key())))
    with pytest.raises((InputError, NotVerifiedError)):
        signatures.check(text, FILES, trusted, source="b")


@pytest.mark.parametrize("text", [b'{"a": "\\ud800"}', b'{"a": NaN}', b'{"a": 1}x', b"\xff", b'\xef\xbb\xbf{"a": 1}'])
def test_data_that_has_no_digest_is_refused(tmp_path: Path, trust: Trust, text: bytes) -> None:
    """What is no JSON, or no Unicode, has no value that could be signed."""
    files = {**FILES, "data.json": text}
    with pytest.raises(InputError, match=r"data\.json is no JSON"):
        load(tmp_path, {**files, **signed(payload={"files": listed(files)}), "data.json": text}, trust)


def test_cannot_sign_what_has_no_digest() -> None:
    """The error is that of the pack, not of the encoder."""
    with pytest.raises(InputError):
        ours({"data.json": b"{"})


@pytest.mark.interop
@pytest.mark.parametrize("algorithm", ["ES256", "ES384", "ES512", "RS256", "RS512", "PS256", "PS384", "HS256", "HS512"])
def test_what_opa_signs_is_taken(tmp_path: Path, tool: Tool, algorithm: str) -> None:
    """`opa sign` on a bundle, its file put in: read with the public half, refused once a file differs."""
    curves: dict[str, ec.EllipticCurve] = {"ES256": ec.SECP256R1(), "ES384": ec.SECP384R1(), "ES512": ec.SECP521R1()}
    (tmp_path / "plain.tar.gz").write_bytes(layer(tmp_path))
    private = public = tmp_path / "secret"
    if algorithm.startswith("HS"):
        private.write_bytes(SECRET)
    else:
        key: Any = RSA if algorithm not in curves else ec.generate_private_key(curves[algorithm])
        private, public = tmp_path / "private.pem", tmp_path / "public.pem"
        form = serialization.PrivateFormat.TraditionalOpenSSL
        private.write_bytes(key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()))
        public.write_bytes(pem(key))
    words = ("sign", "--signing-key", private, "--signing-alg", algorithm, "--bundle", tmp_path / "plain.tar.gz")
    subprocess.run([tool("opa"), *words, "-o", tmp_path], check=True, capture_output=True)
    with tarfile.open(tmp_path / "plain.tar.gz") as archive:
        files = {name: archive.extractfile(name).read() for name in archive.getnames()}  # type: ignore[union-attr]  # files
    files[".signatures.json"] = (tmp_path / ".signatures.json").read_bytes()
    trusted = signatures.trust([public])
    assert trusted is not None
    assert load(tmp_path, files, trusted).rules
    with pytest.raises(NotVerifiedError, match="was changed"):
        load(tmp_path, {**files, "pack.toml": files["pack.toml"] + b"\n"}, trusted)


@pytest.mark.interop
def test_opa_takes_what_we_sign(tmp_path: Path, tool: Tool) -> None:
    """OPA reads our bundle with our public key, and refuses it with another or with a changed file."""
    (tmp_path / "b.tar.gz").write_bytes(layers.write_whole(packs.default_pack(), sign=ours))
    (tmp_path / "public.pem").write_bytes(pem(CURVE))
    (tmp_path / "other.pem").write_bytes(pem(ec.generate_private_key(ec.SECP256R1())))

    def taken(bundle: str, key: str) -> bool:
        words = ("build", "--bundle", tmp_path / bundle, "--verification-key", tmp_path / key)
        line: list[str | Path] = [tool("opa"), *words, "--signing-alg", "ES256", "-o", tmp_path / "out.tar.gz"]
        done = subprocess.run(line, check=False, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        assert done.returncode == 0 or "signature" in done.stdout or "mismatch" in done.stdout, done.stdout
        return done.returncode == 0

    assert taken("b.tar.gz", "public.pem")
    assert not taken("b.tar.gz", "other.pem")
    with tarfile.open(tmp_path / "b.tar.gz") as archive:
        files = {name: archive.extractfile(name).read() for name in archive.getnames()}  # type: ignore[union-attr]  # files
    files["data.json"] = files["data.json"].replace(b"0.5", b"0.9")
    (tmp_path / "changed.tar.gz").write_bytes(tarred(*files.items()))
    assert not taken("changed.tar.gz", "public.pem")
