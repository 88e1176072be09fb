"""Changes of a folder of keys: make, bring in, rotate, revoke. Each happens whole or not at all, and durably.

Each reads and writes under the folder's lock, so that two at once do not undo each other.
"""

import datetime as dt
import itertools
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import msgspec

from tidewaiter.core import clock, limits
from tidewaiter.core.errors import InputError
from tidewaiter.oci.digest import Digest
from tidewaiter.signing import key_folder, keyring, keys
from tidewaiter.signing.key_folder import Change
from tidewaiter.signing.keyring import HomeKey, Marks, Scope
from tidewaiter.signing.keys import PublicKey

OVERLAP_DAYS: Final = 7
"""How long the old key stays in force after a rotation when nobody says otherwise."""


class Terms(msgspec.Struct, frozen=True, kw_only=True):
    """Who holds a key, when it is in force, and for what."""

    builder: str = "local"
    valid_from: dt.datetime | None = None
    valid_until: dt.datetime | None = None
    scope: Scope = keyring.EVERYTHING


LOCAL: Final = Terms()
"""Of a developer's own key, in force from now on and for everything."""


class KeyFiles(msgspec.Struct, frozen=True):
    """Where the files of one key pair lie, and the fingerprint of its public key."""

    private: Path
    public: Path
    marks: Path
    fingerprint: Digest


class Rotated(msgspec.Struct, frozen=True):
    """Both keys after a rotation."""

    new: HomeKey
    old: HomeKey
    """Under the name that it has now."""


def generate(directory: Path, name: str, password: bytes, terms: Terms = LOCAL) -> KeyFiles:
    """Make a key pair and write it; the private file is readable by its owner only.

    Raises:
        InputError: there is such a key already (code `key_exists`; it stays as it is), or the terms make no sense.
        StorageError: the disk refused.
    """
    private, public, about = keyring.files(directory, name)
    _require_sense(terms)
    with key_folder.changing(directory):
        _require_free(directory, name)
        key = keys.create()
        marks = _marks(key.public, terms)
        key_folder.commit(directory, {**_public_half(name, key.public, marks), private.name: key.seal(password)})
    return KeyFiles(private=private, public=public, marks=about, fingerprint=marks.fingerprint)


def bring_in(directory: Path, name: str, public: PublicKey, terms: Terms) -> HomeKey:
    """Trust a public key whose private half is elsewhere, on these terms.

    Raises:
        InputError: the name or the key is in the folder already (code `key_exists`), or the terms make no sense.
        StorageError: the disk refused.
    """
    keyring.files(directory, name)
    _require_sense(terms)
    with key_folder.changing(directory):
        _require_free(directory, name)
        ring = keyring.read(directory)
        for key in ring:
            if key.public == public:
                raise InputError(
                    f"this key is in the home already: {key.name}",
                    next_step="Use it under that name. To trust it on other terms, move its files away first.",
                    code="key_exists",
                )
        marks = _marks(public, terms)
        key_folder.commit(directory, {**_public_half(name, public, marks), **_worn_out(ring)})
    return HomeKey(name=name, public=public, marks=marks, has_private=False)


def rotate(directory: Path, name: str, password: bytes, *, overlap: dt.timedelta, keep_private: bool = True) -> Rotated:
    """Put a new key pair in the place of `name`, on the same terms; the old key becomes `NAME.1`, `NAME.2`, ….

    The old one stays in force for `overlap`, if it has not ended before, and what it signed verifies ever after. Its
    private half is kept for as long, or goes at once without `keep_private`. A key whose time is limited gets a
    successor whose time is as long.

    Raises:
        NotFoundError: there is no such key, or its private half is elsewhere.
        InputError: it was rotated already, or `overlap` makes no sense.
        StorageError: the disk refused.
    """
    if overlap < dt.timedelta():
        raise InputError("an overlap cannot be negative", next_step="Give a number of days, or 0 for none.")
    with key_folder.changing(directory):
        old, sealed = keyring.read_private(directory, name)
        ring = keyring.read(directory)
        if old.marks.retired:
            raise InputError(f"the key {name} was rotated already", next_step="Rotate the one that took its place.")
        now = clock.now()
        retired_name = _retired_name(directory, name)
        marks = msgspec.structs.replace(old.marks, retired=True, valid_until=_ended(old.marks, now, overlap))
        key = keys.create()
        terms = Terms(builder=marks.builder, valid_until=_as_long(old.marks, now), scope=marks.scope)
        new = HomeKey(name=name, public=key.public, marks=_marks(key.public, terms), has_private=True)
        retired = HomeKey(name=retired_name, public=old.public, marks=marks, has_private=False)
        change = {**_worn_out(ring), **_public_half(retired_name, old.public, marks)}
        if keep_private and retired.trusted.state(now) == "in_force":
            change[f"{retired_name}.key"] = sealed
            retired = msgspec.structs.replace(retired, has_private=True)
        change |= {**_public_half(name, key.public, new.marks), f"{name}.key": key.seal(password)}
        key_folder.commit(directory, change)
    return Rotated(new=new, old=retired)


def revoke(directory: Path, name: str, reason: str) -> HomeKey:
    """Say that nothing that the key `name` ever signed counts any more. A revoked one stays as it is.

    Raises:
        NotFoundError: there is no such key.
        InputError: there is no reason, or a very long one.
        StorageError: the disk refused.
    """
    reason = reason.strip()
    if not reason or len(reason) > limits.KEY_TEXT_CHARACTERS:
        raise InputError(
            "a key is revoked for a reason", next_step=f"Say why in 1 to {limits.KEY_TEXT_CHARACTERS} characters."
        )
    keyring.files(directory, name)
    with key_folder.changing(directory):
        ring = keyring.read(directory)
        key = keyring.named(ring, name)
        if key.marks.revoked_at is not None:
            return key
        marks = msgspec.structs.replace(key.marks, revoked_at=clock.now(), reason=reason)
        key_folder.commit(directory, {f"{name}.json": _encoded(marks), **_worn_out(ring)})
    return msgspec.structs.replace(key, marks=marks)


def _require_sense(terms: Terms) -> None:
    scope = terms.scope
    lists = (scope.repositories, scope.environments, scope.predicates)
    if any(len(entries) > limits.KEY_SCOPE_ENTRIES for entries in lists):
        raise InputError(
            f"the scope of a key has over {limits.KEY_SCOPE_ENTRIES} entries",
            next_step="Use patterns, or several keys.",
        )
    for text in (terms.builder, *(entry for entries in lists for entry in entries)):
        if not text.strip() or not text.isprintable() or len(text) > limits.KEY_TEXT_CHARACTERS:
            raise InputError(
                f"{text[:60]!r} cannot stand in the marks of a key",
                next_step=f"Write 1 to {limits.KEY_TEXT_CHARACTERS} printable characters.",
            )
    if terms.valid_until is not None and terms.valid_until <= (terms.valid_from or clock.now()):
        raise InputError(
            "the key would never be in force", next_step="Give an end in the future, and after its beginning."
        )


def _require_free(directory: Path, name: str) -> None:
    for path in keyring.files(directory, name):
        if path.exists():
            raise InputError(
                f"{path} exists and is not replaced",
                next_step="Choose another name, or `tidewaiter key rotate`: what it signed needs its public half.",
                code="key_exists",
            )


def _retired_name(directory: Path, name: str) -> str:
    for number in itertools.count(1):
        ending = f".{number}"
        retired = f"{name[: keyring.NAME_CHARACTERS - len(ending)]}{ending}"
        if not any(path.exists() for path in keyring.files(directory, retired)):
            break
    return retired


def _ended(marks: Marks, now: dt.datetime, overlap: dt.timedelta) -> dt.datetime:
    """When the old key of a rotation is no longer in force."""
    try:
        end = now + overlap
    except OverflowError as error:
        raise InputError(f"an overlap of {overlap.days} days has no end", next_step="Give fewer days.") from error
    return end if marks.valid_until is None else min(marks.valid_until, end)


def _as_long(marks: Marks, now: dt.datetime) -> dt.datetime | None:
    """The end of a key that begins now and is in force for as long as that with `marks`; None for no end."""
    if marks.valid_until is None:
        return None
    try:
        return now + (marks.valid_until - (marks.valid_from or clock.parse_rfc3339(marks.created)))
    except (ValueError, OverflowError) as error:
        raise InputError(f"the marks of the key hold no time: {error}", next_step="Restore them.") from error


def _marks(public: PublicKey, terms: Terms) -> Marks:
    return Marks(
        builder=terms.builder,
        created=clock.rfc3339(clock.now()),
        fingerprint=public.fingerprint,
        valid_from=terms.valid_from,
        valid_until=terms.valid_until,
        scope=terms.scope,
    )


def _encoded(marks: Marks) -> bytes:
    return msgspec.json.format(msgspec.json.encode(marks)) + b"\n"


def _public_half(name: str, public: PublicKey, marks: Marks) -> dict[str, bytes | None]:
    # Marks first: a reader of an interrupted change without the journal finds no key without limits.
    return {f"{name}.json": _encoded(marks), f"{name}.pub": public.pem}


def _worn_out(ring: Iterable[HomeKey]) -> Change:
    """Removes private halves that a rotation kept and that cannot sign any more."""
    now = clock.now()
    worn = (key for key in ring if key.marks.retired and key.has_private and key.trusted.state(now) != "in_force")
    return {f"{key.name}.key": None for key in worn}
