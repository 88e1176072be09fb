"""`key`: who signs for this home, whom it trusts, since when, until when, and for what."""

import datetime as dt
from typing import Annotated

from tidewaiter.cli import console
from tidewaiter.cli.console import Format, emit, emit_json
from tidewaiter.cli.parameters import Parameter
from tidewaiter.cli.trust import password
from tidewaiter.cli.workshop import workshop
from tidewaiter.core import clock, moments, settings
from tidewaiter.core.errors import InputError
from tidewaiter.core.project import Environment
from tidewaiter.pipelines import trusting
from tidewaiter.pipelines.workshop import Workshop
from tidewaiter.signing import key_changes, key_sources, keyring, predicates
from tidewaiter.signing.key_changes import Terms
from tidewaiter.signing.keyring import HomeKey, Scope


def generate(
    name: str = trusting.KEY_NAME,
    /,
    *,
    builder: str = "local",
    valid_from: str = "",
    valid_until: str = "",
    days: int | None = None,
    repository: Annotated[tuple[str, ...], Parameter(negative="")] = (),
    environment: Annotated[tuple[Environment, ...], Parameter(negative="")] = (),
    predicate: Annotated[tuple[str, ...], Parameter(negative="")] = (),
    output: Annotated[Format, Parameter(name="--format")] = "text",
) -> int:
    """Make a key pair in cosign's format.

    The private key is encrypted with COSIGN_PASSWORD, or with a password asked for on the terminal.
    It signs only what its scope allows; without one, everything.

    Args:
        name: name of the key in this home.
        builder: who holds the key; production refuses what local signs.
        valid_from: first day on which it may sign (2027-01-01), or a moment; from now on when not given.
        valid_until: last day on which it may sign, or a moment; no end when not given.
        days: how many days it may sign, in the place of --valid-until.
        repository: pattern of HOST/REPO that it may sign for; may be given several times.
        environment: which one it may sign for; may be given several times.
        predicate: what it may sign: signature, spdx, cyclonedx, slsaprovenance1, vsa, vuln, openvex or a predicate
            type; may be given several times.
        output: text or json.
    """
    terms = _terms(builder, valid_from, valid_until, days, Scope(repository, environment, _predicates(predicate)))
    with workshop() as shop:
        folder = shop.settings.home.keys
        made = key_changes.generate(folder, name, _new_password(shop, name), terms)
        key = keyring.named(keyring.read(folder), name)
        _log(shop, "key.generate", key)
    if output == "json":
        emit_json({**_document(key), "private": str(made.private), "public": str(made.public)})
        return 0
    _print(key)
    emit(f"  private  {made.private}")
    emit(f"  public   {made.public}")
    return 0


def import_key(
    name: str,
    file: str,
    /,
    *,
    builder: str,
    valid_from: str = "",
    valid_until: str = "",
    days: int | None = None,
    repository: Annotated[tuple[str, ...], Parameter(negative="")] = (),
    environment: Annotated[tuple[Environment, ...], Parameter(negative="")] = (),
    predicate: Annotated[tuple[str, ...], Parameter(negative="")] = (),
    output: Annotated[Format, Parameter(name="--format")] = "text",
) -> int:
    """Trust a public key whose private half is elsewhere, on stated terms.

    What it signed within its term and its scope counts in this home from now on.

    Args:
        name: name that the key gets in this home.
        file: a public key in PEM, or hook:COMMAND or pkcs11:URI for a key that a command or a token keeps.
        builder: who holds the key.
        valid_from: first day on which it may sign (2027-01-01), or a moment; no beginning when not given.
        valid_until: last day on which it may sign, or a moment; no end when not given.
        days: how many days it may sign, in the place of --valid-until.
        repository: pattern of HOST/REPO that it may sign for; may be given several times.
        environment: which one it may sign for; may be given several times.
        predicate: what it may sign: signature, spdx, cyclonedx, slsaprovenance1, vsa, vuln, openvex or a predicate
            type; may be given several times.
        output: text or json.
    """
    terms = _terms(builder, valid_from, valid_until, days, Scope(repository, environment, _predicates(predicate)))
    with workshop() as shop:
        key = key_changes.bring_in(shop.settings.home.keys, name, key_sources.public_key(file), terms)
        _log(shop, "key.import", key)
    if output == "json":
        emit_json(_document(key))
    else:
        _print(key)
    return 0


def list_keys(*, output: Annotated[Format, Parameter(name="--format")] = "text") -> int:
    """List the keys of this home, with state, term and scope.

    Args:
        output: text or json.
    """
    ring = keyring.read(settings.load().home.keys)
    if output == "json":
        emit_json({"keys": [_document(key) for key in ring]})
        return 0
    now = clock.now()
    console.table(
        ("name", "state", "builder", "from", "until", "private", "scope", "fingerprint"),
        [
            (
                key.name,
                key.trusted.state(now).replace("_", " "),
                key.marks.builder,
                clock.rfc3339(key.marks.valid_from) if key.marks.valid_from else key.marks.created,
                clock.rfc3339(key.marks.valid_until) if key.marks.valid_until else "-",
                "here" if key.has_private else "not here",
                _scope(key),
                key.marks.fingerprint,
            )
            for key in ring
        ],
    )
    return 0


def rotate(
    name: str = trusting.KEY_NAME,
    /,
    *,
    overlap: int = key_changes.OVERLAP_DAYS,
    discard: Annotated[bool, Parameter(negative="")] = False,
    output: Annotated[Format, Parameter(name="--format")] = "text",
) -> int:
    """Put a new key pair in the place of a key; what the old one signed stands.

    The old key gets the name NAME.1, NAME.2, … and stays in force for the overlap. Its private half is removed when
    that is over and keys are changed again; without an overlap at once.

    Args:
        name: name of the key in this home; the new key has it afterwards.
        overlap: how many days the old key may go on signing.
        discard: remove the private half of the old key at once; a copy elsewhere may go on for the overlap.
        output: text or json.
    """
    with workshop() as shop:
        folder = shop.settings.home.keys
        keyring.read_private(folder, name)  # so that nobody is asked for a password in vain
        secret = _new_password(shop, name)
        done = key_changes.rotate(folder, name, secret, overlap=_span(overlap), keep_private=not discard)
        _log(shop, "key.rotate", done.new, old=done.old.marks.fingerprint, renamed=done.old.name)
    if output == "json":
        emit_json({"new": _document(done.new), "old": _document(done.old)})
        return 0
    _print(done.new)
    _print(done.old)
    return 0


def revoke(name: str, /, *, reason: str, output: Annotated[Format, Parameter(name="--format")] = "text") -> int:
    """Revoke a key: nothing that it ever signed counts any more.

    That cannot be taken back. Sign again, with another key, what shall stand.

    Args:
        name: name of the key in this home.
        reason: why.
        output: text or json.
    """
    with workshop() as shop:
        key = key_changes.revoke(shop.settings.home.keys, name, reason)
        _log(shop, "key.revoke", key, reason=reason)
    if output == "json":
        emit_json(_document(key))
    else:
        _print(key)
    return 0


def _log(shop: Workshop, action: str, key: HomeKey, **detail: str) -> None:
    """Say in the audit log what became of a key."""
    shop.catalog.log(action, key.marks.fingerprint, {"name": key.name, "builder": key.marks.builder, **detail})


def _new_password(shop: Workshop, name: str) -> bytes:
    """As `password`; on a terminal it is asked for twice, since nobody sees what was typed."""
    given = password(shop, f"Password for the new key {name}: ")
    if shop.settings.key_password is None and password(shop, "The same again: ") != given:
        raise InputError("the two passwords differ", next_step="Run the command again; no key was made.")
    return given


def _span(days: int) -> dt.timedelta:
    try:
        return dt.timedelta(days=days)
    except OverflowError as error:
        raise InputError(f"{days} days are too many", next_step="Give fewer.") from error


def _terms(builder: str, valid_from: str, valid_until: str, days: int | None, scope: Scope) -> Terms:
    begins = moments.begin(valid_from) if valid_from else None
    ends = moments.end(valid_until) if valid_until else None
    if days is not None:
        if ends is not None:
            raise InputError("--days and --valid-until both say when the key ends", next_step="Give one of them.")
        try:
            ends = (begins or clock.now()) + _span(days)
        except OverflowError as error:
            raise InputError(f"{days} days are too many", next_step="Give fewer.") from error
    return Terms(builder=builder, valid_from=begins, valid_until=ends, scope=scope)


def _predicates(given: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(predicates.named(text) for text in given))


def _document(key: HomeKey) -> dict[str, object]:
    marks = key.marks
    return {
        "name": key.name,
        "state": key.trusted.state(clock.now()),
        "builder": marks.builder,
        "created": marks.created,
        "fingerprint": marks.fingerprint,
        "has_private": key.has_private,
        "retired": marks.retired,
        "valid_from": marks.valid_from,
        "valid_until": marks.valid_until,
        "revoked_at": marks.revoked_at,
        "reason": marks.reason,
        "scope": {
            "repositories": marks.scope.repositories,
            "environments": marks.scope.environments,
            "predicates": marks.scope.predicates,
        },
    }


def _scope(key: HomeKey) -> str:
    scope = key.marks.scope
    words = (*scope.repositories, *scope.environments, *map(predicates.short, scope.predicates))
    return ", ".join(words) or "everything"


def _print(key: HomeKey) -> None:
    marks = key.marks
    emit(f"{key.name}  {marks.fingerprint}  builder {marks.builder}")
    rows = [("state", key.trusted.state(clock.now()).replace("_", " "))]
    if marks.valid_from is not None:
        rows.append(("from", clock.rfc3339(marks.valid_from)))
    if marks.valid_until is not None:
        rows.append(("until", clock.rfc3339(marks.valid_until)))
    if marks.revoked_at is not None:
        rows.append(("revoked", f"{clock.rfc3339(marks.revoked_at)}: {marks.reason}"))
    rows.append(("scope", _scope(key)))
    for name, value in rows:
        emit(f"  {name.ljust(7)}  {value}")
