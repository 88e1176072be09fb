"""`signing.keys`: cosign's key files, and what is refused of them."""

import base64
import json
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tidewaiter.core import limits
from tidewaiter.core.errors import InputError, NotFoundError
from tidewaiter.signing import key_changes, keys
from tidewaiter.signing.key_changes import KeyFiles


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> KeyFiles:
    return key_changes.generate(tmp_path_factory.mktemp("keys"), "release", b"pass")


def resealed(pair: KeyFiles, tmp_path: Path, **changes: object) -> Path:
    """A copy of the private key with fields of its JSON replaced; names like `kdf.params.N`, dots as `__`."""
    text = pair.private.read_text()
    body = json.loads(base64.b64decode("".join(text.splitlines()[1:-1])))
    for name, value in changes.items():
        *parents, last = name.split("__")
        place = body
        for parent in parents:
            place = place[parent]
        place[last] = value
    path = tmp_path / "changed.key"
    encoded = base64.b64encode(json.dumps(body).encode()).decode()
    path.write_text(f"{text.splitlines()[0]}\n{encoded}\n{text.splitlines()[-1]}\n")
    return path


def test_a_pair_is_written_and_read_back(pair: KeyFiles) -> None:
    """What the private file signs, the public file verifies."""
    private = keys.load_private(pair.private, b"pass")
    public = keys.load_public(pair.public)
    signature = private.sign(b"data")
    assert public == private.public
    assert public.holds(signature, b"data")
    assert not public.holds(signature, b"datum")
    assert not public.holds(b"", b"data")
    assert not public.holds(signature + b"\0", b"data")
    assert pair.fingerprint == public.fingerprint


def test_a_wrong_password_has_its_own_code(pair: KeyFiles) -> None:
    """A wrong password is told apart from a broken file."""
    with pytest.raises(InputError) as caught:
        keys.load_private(pair.private, b"wrong")
    assert caught.value.code == "wrong_password"


def test_an_old_label_is_read(pair: KeyFiles, tmp_path: Path) -> None:
    """`ENCRYPTED COSIGN PRIVATE KEY`, as cosign 1 wrote it, opens too; mixed labels do not."""
    old = tmp_path / "old.key"
    old.write_bytes(pair.private.read_bytes().replace(b"SIGSTORE", b"COSIGN"))
    assert keys.load_private(old, b"pass").public.fingerprint == pair.fingerprint
    old.write_bytes(pair.private.read_bytes().replace(b"SIGSTORE", b"COSIGN", 1))
    with pytest.raises(InputError):
        keys.load_private(old, b"pass")


@pytest.mark.parametrize("cost", [1, 16384, 65537, 262144, 2**40, -1])
def test_unusual_scrypt_costs_are_refused(pair: KeyFiles, tmp_path: Path, cost: int) -> None:
    """A file cannot make us weaker, or busy for hours."""
    with pytest.raises(InputError, match="not accepted"):
        keys.load_private(resealed(pair, tmp_path, kdf__params__N=cost), b"pass")


@pytest.mark.parametrize("cost", [32768, 131072])
def test_usual_scrypt_costs_are_tried(pair: KeyFiles, tmp_path: Path, cost: int) -> None:
    """The other two accepted costs derive another key, so the password does not fit; they are not refused as such."""
    with pytest.raises(InputError) as caught:
        keys.load_private(resealed(pair, tmp_path, kdf__params__N=cost), b"pass")
    assert caught.value.code == "wrong_password"


@pytest.mark.parametrize(
    "changes",
    [
        {"kdf__params__r": 9},
        {"kdf__params__p": 2},
        {"kdf__name": "pbkdf2"},
        {"cipher__name": "aes"},
        {"cipher__nonce": "AAAA"},
        {"kdf__salt": ""},
        {"ciphertext": ""},
        {"ciphertext": 7},
        {"kdf": None},
    ],
)
def test_malformed_key_files_are_bad_input(pair: KeyFiles, tmp_path: Path, changes: dict[str, object]) -> None:
    """Anything but cosign's own shape is refused with an error, never a crash."""
    with pytest.raises(InputError):
        keys.load_private(resealed(pair, tmp_path, **changes), b"pass")


def test_a_file_that_is_no_key_is_bad_input(pair: KeyFiles, tmp_path: Path) -> None:
    """A public key in place of a private one, an empty file, a huge one, a folder, and none at all."""
    with pytest.raises(InputError):
        keys.load_private(pair.public, b"")
    with pytest.raises(InputError):
        keys.load_public(pair.private)
    (tmp_path / "empty").touch()
    with pytest.raises(InputError):
        keys.load_public(tmp_path / "empty")
    with pytest.raises(InputError):
        keys.load_public(tmp_path)
    with pytest.raises(NotFoundError):
        keys.load_public(tmp_path / "none")
    padded = pair.public.read_bytes()
    (tmp_path / "limit").write_bytes(padded.ljust(limits.KEY_FILE_BYTES, b"\n"))
    assert keys.load_public(tmp_path / "limit").fingerprint == pair.fingerprint
    (tmp_path / "over").write_bytes(padded.ljust(limits.KEY_FILE_BYTES + 1, b"\n"))
    with pytest.raises(InputError):
        keys.load_public(tmp_path / "over")


def test_other_curves_are_refused(tmp_path: Path) -> None:
    """Only P-256 is a key, for public and private files alike."""
    other = ec.generate_private_key(ec.SECP384R1())
    public = other.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    with pytest.raises(InputError, match="P-256"):
        keys.parse_public(public, source="test")
    sealed = keys.PrivateKey(other).seal(b"")
    with pytest.raises(InputError, match="P-256"):
        keys.open_sealed(sealed, b"", source="test")


def test_secrets_are_not_shown(pair: KeyFiles) -> None:
    """A key that lands in a log shows its fingerprint only."""
    assert repr(keys.load_private(pair.private, b"pass")) == f"PrivateKey({pair.fingerprint})"
