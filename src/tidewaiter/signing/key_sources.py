"""Where a key that signs comes from: the home, a file, the environment, or a command or token that keeps it.

What the home knows of a key holds wherever its private half comes from: a revoked key is revoked.
"""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec

from tidewaiter.core import limits, settings
from tidewaiter.core.errors import InputError, NotFoundError
from tidewaiter.signing import key_hook, key_pkcs11, keyring, keys
from tidewaiter.signing.keyring import TrustedKey
from tidewaiter.signing.keys import PublicKey, Signer

ENVIRONMENT: Final = "env://"
HOOK: Final = "hook:"

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class SigningKey(msgspec.Struct, frozen=True):
    """A key that can sign, and how far it may: see `keyring.require_may_sign`."""

    signer: Signer
    trusted: TrustedKey


def open_key(text: str, directory: Path, password: Callable[[], bytes]) -> SigningKey:
    """The key that `text` names, from the folder of keys `directory` or elsewhere.

    - `NAME`: a key of the folder.
    - `env://VARIABLE`: cosign's PEM, in that variable.
    - `hook:COMMAND` or `hook:FILE.toml`: as `key_hook` says.
    - `pkcs11:…`: a key of a token, as `key_pkcs11` says.
    - anything with `/`, or that ends as a file of a key does: the path of cosign's `.key` file.

    A key that the folder does not know is the builder `local`'s and has no limits.

    Args:
        text: what the user wrote.
        directory: the home's folder of keys.
        password: called when a sealed key is opened.

    Raises:
        NotFoundError: there is no such key, file or variable.
        InputError: it is malformed, or (code `wrong_password`) the password does not open it.
        UndeterminedError: a hook or token did not answer.
    """
    signer: Signer
    if text.startswith(HOOK):
        signer = key_hook.HookSigner(key_hook.parse(text.removeprefix(HOOK)))
    elif text.startswith(key_pkcs11.SCHEME):
        signer = key_pkcs11.Pkcs11Signer(key_pkcs11.parse(text))
    elif text.startswith(ENVIRONMENT):
        signer = keys.open_sealed(_variable(text.removeprefix(ENVIRONMENT)), password(), source=text)
    elif keyring.is_name(text):
        key, sealed = keyring.read_private(directory, text)
        opened = keys.open_sealed(sealed, password(), source=f"the key {text}")
        if opened.public != key.public:
            raise InputError(
                f"the private half of {text} does not belong to {text}.pub", next_step="Restore both from one backup."
            )
        return SigningKey(signer=opened, trusted=key.trusted)
    else:
        signer = keys.load_private(Path(text), password())
    known = [key.trusted for key in keyring.read(directory) if key.public == signer.public]
    return SigningKey(signer=signer, trusted=known[0] if known else TrustedKey(public=signer.public, name=text))


def public_key(text: str) -> PublicKey:
    """The public key in the file at the path `text`, or of what `hook:…` or `pkcs11:…` keeps; raises as `open_key`."""
    if text.startswith(HOOK):
        return key_hook.HookSigner(key_hook.parse(text.removeprefix(HOOK))).public
    if text.startswith(key_pkcs11.SCHEME):
        return key_pkcs11.Pkcs11Signer(key_pkcs11.parse(text)).public
    return keys.load_public(Path(text))


def _variable(name: str) -> bytes:
    if not _VARIABLE.fullmatch(name):
        raise InputError(f"{name[:80]!r} is no variable", next_step="Write env://VARIABLE.")
    value = settings.key_variable(name)
    if value is None:
        raise NotFoundError(f"{name} is not set", next_step="Put the private key, in cosign's PEM, into it.")
    data = value.encode(errors="surrogateescape")
    if len(data) > limits.KEY_FILE_BYTES:
        raise InputError(f"{name} holds over {limits.KEY_FILE_BYTES} bytes", next_step="Put a key into it.")
    return data
