"""What must hold before an image is trusted for an environment, and by whose word: a trust policy.

It is a TOML file that whoever runs images keeps, or is made from an environment's name and a ring of keys. What it
does not demand is not asked; a policy that demands nothing, or trusts nobody, is refused.
"""

import datetime as dt
import fnmatch
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec

from tidewaiter.core import limits
from tidewaiter.core.errors import InputError, NotFoundError
from tidewaiter.core.files import open_regular
from tidewaiter.core.project import Environment
from tidewaiter.oci.digest import Digest, WireDigest
from tidewaiter.signing import keyless, keyring, keys, predicates
from tidewaiter.signing.keyless import Root, TrustedIdentity, Voucher
from tidewaiter.signing.keyring import Scope, TrustedKey

LOCAL: Final = keyring.LOCAL

_WHOLE: Final = (
    predicates.SIGNATURE,
    predicates.SPDX,
    predicates.CYCLONEDX,
    predicates.PROVENANCE,
    predicates.VERDICT,
)
DEMANDED: Final[dict[Environment, tuple[str, ...]]] = {
    "research": (predicates.SIGNATURE,),
    "staging": _WHOLE,
    "production": _WHOLE,
}
"""Predicate types that an environment demands when no file says otherwise."""


def refuses_local(environment: str) -> bool:
    """Whether keys of the builder `local` vouch for nothing there."""
    return environment == "production"


class Trust(msgspec.Struct, frozen=True, kw_only=True):
    """What must hold, and by whose word. An empty list of `sources`, `builders` or `revisions` means any."""

    environment: Environment
    ring: tuple[Voucher, ...]
    demanded: tuple[str, ...]
    """Predicate types; `predicates.SIGNATURE` stands for an image signature of either format."""
    sources: tuple[str, ...] = ()
    """Patterns of source repositories' URLs, `*` stands for anything."""
    builders: tuple[str, ...] = ()
    """Who may have built, as their keys and identities are registered (`Trusted.builder`)."""
    revisions: tuple[Digest, ...] = ()
    """Policy revisions that a verdict may come from."""
    origin: str = ""
    """URI below which the policies of verdicts must lie; empty accepts any."""
    verdict_seconds: int = limits.VERDICT_SECONDS
    """How old a verdict may be."""

    @property
    def counting(self) -> tuple[Voucher, ...]:
        """The keys and identities that may count."""
        return tuple(key for key in self.ring if not (key.builder == LOCAL and refuses_local(self.environment)))

    def allows_source(self, url: str) -> bool:
        """Whether the repository `url` may be the source."""
        return not self.sources or any(fnmatch.fnmatchcase(url, pattern) for pattern in self.sources)


def for_environment(
    environment: Environment,
    ring: Sequence[Voucher],
    *,
    sources: Sequence[str] = (),
    builders: Sequence[str] = (),
) -> Trust:
    """What `environment` demands (`DEMANDED`) of what the keys of `ring` vouch for."""
    return Trust(
        environment=environment,
        ring=tuple(ring),
        demanded=DEMANDED[environment],
        sources=tuple(sources),
        builders=tuple(builders),
    )


_Moment = Annotated[dt.datetime, msgspec.Meta(tz=True)]
_Text = Annotated[str, msgspec.Meta(min_length=1)]


class _Strict(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    pass


class KeySection(_Strict, frozen=True):
    """`[[key]]`: a public key and how far it is trusted."""

    name: _Text
    path: _Text | None = None
    """Of a `.pub` file, relative to the policy's folder."""
    pem: _Text | None = None
    """Instead of `path`: the key itself."""
    builder: _Text = LOCAL
    valid_from: _Moment | None = None
    valid_until: _Moment | None = None
    revoked_at: _Moment | None = None
    repositories: tuple[_Text, ...] = ()
    environments: tuple[Environment, ...] = ()
    predicates: tuple[str, ...] = ()


class IdentitySection(_Strict, frozen=True):
    """`[[identity]]`: who may sign with short-lived certificates (keyless), and how far that is trusted."""

    name: _Text
    san: _Text
    """Subject alternative name of the certificates, whole."""
    issuer: _Text
    """OIDC issuer, whole."""
    builder: _Text
    trusted_root: _Text | None = None
    """`trusted_root.json` of the Sigstore service, relative to the policy's folder; None: the public one's."""
    valid_from: _Moment | None = None
    valid_until: _Moment | None = None
    revoked_at: _Moment | None = None
    repositories: tuple[_Text, ...] = ()
    environments: tuple[Environment, ...] = ()
    predicates: tuple[str, ...] = ()


class PolicyFile(_Strict, frozen=True):
    """The whole of a trust policy file."""

    environment: Environment
    require: tuple[str, ...]
    key: tuple[KeySection, ...] = ()
    identity: tuple[IdentitySection, ...] = ()
    sources: tuple[_Text, ...] = ()
    builders: tuple[_Text, ...] = ()
    revisions: tuple[WireDigest, ...] = ()
    origin: str = ""
    verdict_hours: Annotated[int, msgspec.Meta(ge=1, le=limits.VERDICT_SECONDS // 3600)] = 24


def load(path: Path) -> Trust:
    """The trust policy in the file at `path`.

    Raises:
        NotFoundError: there is no such file, or no key file that it names.
        InputError: it is malformed, has unknown keys, demands nothing or trusts nobody.
        MissingToolError: it trusts identities, and the extra `keyless` is not installed.
    """
    try:
        with open_regular(path) as file:
            data = file.read(limits.TRUST_POLICY_BYTES + 1)
    except FileNotFoundError as error:
        raise NotFoundError(f"there is no trust policy {path}", next_step="Name a file that exists.") from error
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}", next_step="Check its permissions.") from error
    return parse(data, source=str(path), directory=path.parent)


def parse(data: bytes, *, source: str, directory: Path) -> Trust:
    """The trust policy in `data`, which errors call `source`; key files lie below `directory`. Errors as in `load`."""
    if len(data) > limits.TRUST_POLICY_BYTES:
        raise _wrong(source, f"it has over {limits.TRUST_POLICY_BYTES} bytes")
    try:
        document: dict[str, Any] = tomllib.loads(data.decode())
        file = msgspec.convert(document, PolicyFile)
    except (ValueError, RecursionError) as error:
        raise _wrong(source, str(error)) from error
    if not file.require:
        raise _wrong(source, "it demands nothing, so it would trust everything")
    count = len(file.key) + len(file.identity)
    if not count:
        raise _wrong(source, "it trusts no key and no identity, so nothing could ever hold")
    if count > limits.TRUSTED_KEYS:
        raise _wrong(source, f"it has {count} keys, over {limits.TRUSTED_KEYS}")
    ring: tuple[Voucher, ...] = (
        *(_key(section, source, directory) for section in file.key),
        *_identities(file.identity, source, directory),
    )
    for what, distinct in (("name", {one.name for one in ring}), ("key or identity", {one.who for one in ring})):
        if len(distinct) != len(ring):
            raise _wrong(source, f"the same {what} stands there twice, so that it is not clear which counts")
    return Trust(
        environment=file.environment,
        ring=ring,
        demanded=_types(file.require, source),
        sources=file.sources,
        builders=file.builders,
        revisions=file.revisions,
        origin=file.origin.rstrip("/"),
        verdict_seconds=file.verdict_hours * 3600,
    )


def _key(section: KeySection, source: str, directory: Path) -> TrustedKey:
    if (section.path is None) == (section.pem is None):
        raise _wrong(source, f"[[key]] {section.name!r} needs either `path` or `pem`")
    if section.path is not None:
        public = keys.load_public(directory / section.path)
    else:
        public = keys.parse_public((section.pem or "").encode(), source=f"{source}: [[key]] {section.name!r}")
    return TrustedKey(
        public=public,
        name=section.name,
        builder=section.builder,
        valid_from=_utc(section.valid_from, source),
        valid_until=_utc(section.valid_until, source),
        revoked_at=_utc(section.revoked_at, source),
        scope=_scope(section, source),
    )


def _identities(sections: Sequence[IdentitySection], source: str, directory: Path) -> list[TrustedIdentity]:
    named = {section.trusted_root for section in sections}
    roots = {name: keyless.open_root(None if name is None else directory / name) for name in named}
    return [_identity(section, source, roots[section.trusted_root]) for section in sections]


def _identity(section: IdentitySection, source: str, root: Root) -> TrustedIdentity:
    return TrustedIdentity(
        san=section.san,
        issuer=section.issuer,
        root=root,
        name=section.name,
        builder=section.builder,
        valid_from=_utc(section.valid_from, source),
        valid_until=_utc(section.valid_until, source),
        revoked_at=_utc(section.revoked_at, source),
        scope=_scope(section, source),
    )


def _scope(section: KeySection | IdentitySection, source: str) -> Scope:
    return Scope(
        repositories=section.repositories,
        environments=section.environments,
        predicates=_types(section.predicates, source),
    )


def _utc(moment: dt.datetime | None, source: str) -> dt.datetime | None:
    try:
        return None if moment is None else moment.astimezone(dt.UTC)
    except OverflowError as error:
        raise _wrong(source, f"{moment} lies before all times, or after") from error


def _types(names: Sequence[str], source: str) -> tuple[str, ...]:
    try:
        return tuple(dict.fromkeys(map(predicates.named, names)))
    except InputError as error:
        raise _wrong(source, error.message) from error


def _wrong(source: str, reason: str) -> InputError:
    return InputError(
        f"{source} is no trust policy: {reason}",
        next_step="See the reference page of trust policies for every key.",
        code="bad_trust_policy",
    )
