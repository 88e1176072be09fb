"""The child process in which a PKCS#11 module is loaded: the vendor's code, which may hang, crash or print anything.

One request, one answer, each a frame as `core.confined` has them. It is not confined: a module opens devices, sockets
and files of its own.
"""

import resource
import sys
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TYPE_CHECKING

import msgspec

from tidewaiter.core import confined

if TYPE_CHECKING:
    from pkcs11 import Object, Session, Slot, Token

_SLOTS = 100


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """Which key, and what it is to sign."""

    module: str
    token: dict[str, str]
    """What is to be so of the token: of `label`, `serial`, `manufacturer` and `model`."""
    label: str | None
    """Of the key."""
    id: bytes | None
    pin: str | None
    digest: bytes | None
    """32 bytes to be signed; None when only the public key is wanted."""


class Answer(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """What the token said; `error` when it said no."""

    parameters: bytes = b""
    """CKA_EC_PARAMS of the public key."""
    point: bytes = b""
    """CKA_EC_POINT."""
    signature: bytes = b""
    """r and s, 32 bytes each."""
    error: str = ""


class _Unusable(Exception):  # noqa: N818  # it is an answer, not a failure of this process
    """There is not the one key that was asked for."""


def _tokens(slots: "Iterable[Slot]", wanted: dict[str, str]) -> "Iterator[Token]":
    from pkcs11 import exceptions

    for slot in islice(slots, _SLOTS):
        try:
            token = slot.get_token()
        except (exceptions.TokenNotPresent, exceptions.TokenNotRecognised):
            continue
        found = {
            "label": token.label,
            "serial": token.serial.decode(errors="replace"),
            "manufacturer": token.manufacturer_id,
            "model": token.model,
        }
        if all(found[name].strip() == value for name, value in wanted.items()):
            yield token


def _objects(session: "Session", asked: Request, kind: str) -> "list[Object]":
    """At most two EC keys of this kind that the request describes."""
    from pkcs11 import Attribute, KeyType, ObjectClass

    template: dict[Attribute, object] = {Attribute.CLASS: ObjectClass[kind], Attribute.KEY_TYPE: KeyType.EC}
    if asked.label is not None:
        template[Attribute.LABEL] = asked.label
    if asked.id is not None:
        template[Attribute.ID] = asked.id
    return list(islice(session.get_objects(template), 2))


def _one(found: "list[Object]", what: str) -> "Object":
    if len(found) != 1:
        raise _Unusable(
            f"several {what}s on the token fit the URI" if found else f"no {what} on the token fits the URI"
        )
    return found[0]


def _answer(asked: Request) -> Answer:
    import pkcs11
    from pkcs11 import Attribute, Mechanism, SignMixin

    tokens = list(islice(_tokens(pkcs11.lib(asked.module).get_slots(token_present=True), asked.token), 2))
    if len(tokens) != 1:
        raise _Unusable("several tokens fit the URI" if tokens else "no token fits the URI")
    # A wrong PIN is tried once: tokens lock themselves after a few.
    with tokens[0].open(user_pin=asked.pin) as session:
        public = _one(_objects(session, asked, "PUBLIC_KEY"), "public EC key")
        signature = b""
        if asked.digest is not None:
            private = _one(_objects(session, asked, "PRIVATE_KEY"), "private EC key")
            if not isinstance(private, SignMixin):
                raise _Unusable("the private key may not sign")
            signature = private.sign(asked.digest, mechanism=Mechanism.ECDSA)
        return Answer(
            parameters=public[Attribute.EC_PARAMS], point=public[Attribute.EC_POINT], signature=bytes(signature)
        )


def main() -> None:
    """Answer one request."""
    # The PIN is in this memory.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    confined.end_with_parent()
    out = confined.answers()
    data = confined.receive(int(sys.argv[1]))
    if data is None:
        return
    try:
        answer = _answer(msgspec.json.decode(data, type=Request))
    except _Unusable as error:
        answer = Answer(error=str(error))
    except Exception as error:  # noqa: BLE001  # the library has many, most without words, and none knows the PIN
        answer = Answer(error=f"the module said {type(error).__name__}")
    confined.send(out, msgspec.json.encode(answer))


if __name__ == "__main__":
    main()
