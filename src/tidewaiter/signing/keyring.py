"""Keys that somebody trusts: each since when, until when, and for what.

In a folder of keys `NAME.pub` is the public half, `NAME.key` the sealed private one, if it is here, and `NAME.json`
the marks: who holds the key, and how far it is trusted. A key without marks is not trusted.
"""

import datetime as dt
import fnmatch
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, ClassVar, Final, Literal

import msgspec

from tidewaiter.core import clock
from tidewaiter.core.errors import InputError, NotFoundError, RefusedError
from tidewaiter.oci.digest import Digest
from tidewaiter.signing import key_folder, keys, predicates
from tidewaiter.signing.keys import PublicKey

State = Literal["in_force", "not_yet", "expired", "revoked"]
Moment = Annotated[dt.datetime, msgspec.Meta(tz=True)]

NOT_IN_FORCE = "key_not_in_force"
OUT_OF_SCOPE = "key_out_of_scope"

NAME_CHARACTERS: Final = 64
_NAME = re.compile(rf"[a-z0-9][a-z0-9._-]{{0,{NAME_CHARACTERS - 1}}}")
_RESERVED = "audit"  # `audit.key` is that of the audit log
_ENDINGS = (".key", ".pub", ".json", ".pem", ".toml")


class Scope(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What a key may vouch for. An empty list means no limit."""

    repositories: tuple[str, ...] = ()
    """Patterns of `HOST/REPO`, `*` stands for anything."""
    environments: tuple[str, ...] = ()
    predicates: tuple[str, ...] = ()
    """Predicate types; `predicates.SIGNATURE` stands for image signatures of either format."""


EVERYTHING: Final = Scope()

LOCAL: Final = "local"
"""The builder of a developer's own machine."""


class Trusted(msgspec.Struct, frozen=True, kw_only=True):
    """How far a key, or an identity (`keyless.TrustedIdentity`), is trusted."""

    kind: ClassVar[str]
    """What reasons call it."""

    name: str
    builder: str = LOCAL
    """Who holds it; production refuses `LOCAL`."""
    valid_from: dt.datetime | None = None
    valid_until: dt.datetime | None = None
    """The first moment at which it is no longer in force; what it signed before still stands."""
    revoked_at: dt.datetime | None = None
    """Since when nothing that it signed counts, whenever that says it was signed: it fell into other hands."""
    scope: Scope = EVERYTHING

    def state(self, at: dt.datetime) -> State:
        """How the key stands at the moment `at`."""
        if self.revoked_at is not None:
            return "revoked"
        if self.valid_from is not None and at < self.valid_from:
            return "not_yet"
        if self.valid_until is not None and at >= self.valid_until:
            return "expired"
        return "in_force"

    def not_in_force(self, at: dt.datetime) -> str:
        """Why the key could not sign at the moment `at`; empty when it could."""
        if self.revoked_at is not None:
            return f"the {self.kind} {self.name} is revoked since {clock.rfc3339(self.revoked_at)}"
        if self.valid_from is not None and at < self.valid_from:
            return f"the {self.kind} {self.name} is in force only from {clock.rfc3339(self.valid_from)} on"
        if self.valid_until is not None and at >= self.valid_until:
            return f"the {self.kind} {self.name} is in force only until {clock.rfc3339(self.valid_until)}"
        return ""

    def out_of_scope(self, predicate: str, *, repository: str = "", environment: str = "") -> str:
        """Why the key may not vouch for this; empty when it may. What is not named (empty) is not compared.

        Whoever builds does not grade what was built: any key but a local one signs verdicts only where its scope names
        them.
        """
        scope = self.scope
        if predicate == predicates.VERDICT and self.builder != LOCAL and predicate not in scope.predicates:
            return f"the {self.kind} {self.name} may not sign verdicts: its scope does not name them"
        if scope.predicates and predicate not in scope.predicates:
            return f"the {self.kind} {self.name} may not sign {predicates.short(predicate)}"
        if scope.repositories and repository and not _any(repository, scope.repositories):
            return f"the {self.kind} {self.name} may not sign for {repository}"
        if scope.environments and environment and environment not in scope.environments:
            return f"the {self.kind} {self.name} may not sign for the environment {environment}"
        return ""


class TrustedKey(Trusted, frozen=True, kw_only=True):
    """A public key and how far it is trusted."""

    kind: ClassVar[str] = "key"

    public: PublicKey

    @property
    def who(self) -> PublicKey:
        """Whose signature it is, under whatever name."""
        return self.public

    @property
    def fingerprint(self) -> Digest:
        """Of the public key."""
        return self.public.fingerprint


class Marks(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """`NAME.json`: what is known of a key besides its bits. A field that is not known here may be a limit: refused."""

    builder: str
    """Who may use it; `local` is a developer's own machine, which production refuses."""
    created: str
    """RFC 3339; of an imported key the moment of its import."""
    fingerprint: Digest
    valid_from: Moment | None = None
    valid_until: Moment | None = None
    revoked_at: Moment | None = None
    reason: str = ""
    """Why it is revoked."""
    retired: bool = False
    """Another key took its name, and its private half goes when it is no longer in force."""
    scope: Scope = EVERYTHING


class HomeKey(msgspec.Struct, frozen=True):
    """A key of a folder of keys."""

    name: str
    public: PublicKey
    marks: Marks
    has_private: bool
    """Whether its private half lies there too."""

    @property
    def trusted(self) -> TrustedKey:
        """What a verifier needs of it."""
        return _trusted(self.name, self.public, self.marks)


def _any(name: str, patterns: Iterable[str]) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def _trusted(name: str, public: PublicKey, marks: Marks) -> TrustedKey:
    return TrustedKey(
        public=public,
        name=name,
        builder=marks.builder,
        valid_from=marks.valid_from,
        valid_until=marks.valid_until,
        revoked_at=marks.revoked_at,
        scope=marks.scope,
    )


def is_name(text: str) -> bool:
    """Whether a key may be called so."""
    return _NAME.fullmatch(text) is not None and text != _RESERVED and not text.endswith(_ENDINGS)


def files(directory: Path, name: str) -> tuple[Path, Path, Path]:
    """Where private key, public key and marks of `name` lie; raises `InputError` for an unsafe name."""
    if not is_name(name):
        raise InputError(
            f"{name[:80]!r} is not a key name",
            next_step="Use up to 64 lower-case letters, digits, `.`, `_` and `-`; not `audit`, no ending of a file.",
        )
    return directory / f"{name}.key", directory / f"{name}.pub", directory / f"{name}.json"


def parse_marks(data: bytes, *, source: str) -> Marks:
    """The marks in `data`; raises `InputError`."""
    try:
        return msgspec.json.decode(data, type=Marks)
    except (ValueError, RecursionError) as error:
        raise InputError(
            f"{source} is malformed: {error}", next_step="Restore it from a backup, or bring the key in anew."
        ) from error


def load_marks(path: Path) -> Marks:
    """The marks in the file at `path`; raises `NotFoundError` or `InputError`."""
    return parse_marks(key_folder.read_file(path), source=str(path))


def read(directory: Path) -> tuple[HomeKey, ...]:
    """All keys of the folder `directory`, by name.

    Raises:
        InputError: a file is malformed, a public key has no marks or those of another key, or two are the same.
        StorageError: the folder could not be read as it was at one moment.
    """
    found = key_folder.snapshot(directory, suffixes=(".pub", ".json"))
    return _home_keys(directory, found)


def read_private(directory: Path, name: str) -> tuple[HomeKey, bytes]:
    """The key `name` of the folder, and its sealed private half.

    Raises:
        NotFoundError: there is no such key, or only its public half.
        InputError, StorageError: as `read`.
    """
    private = files(directory, name)[0]
    found = key_folder.snapshot(directory, suffixes=(".pub", ".json"), also=private.name)
    key = named(_home_keys(directory, found), name)
    if private.name not in found.files:
        raise NotFoundError(
            f"the private half of the key {name!r} is not in this home",
            next_step="Sign with it where it is kept, or with another key.",
        )
    return key, found.files[private.name]


def named(ring: Iterable[HomeKey], name: str) -> HomeKey:
    """The key called `name`; raises `NotFoundError`."""
    for key in ring:
        if key.name == name:
            return key
    raise NotFoundError(
        f"there is no key {name!r}",
        next_step="`tidewaiter key list` shows those of this home, `tidewaiter key generate` makes one.",
    )


def _home_keys(directory: Path, found: key_folder.Snapshot) -> tuple[HomeKey, ...]:
    result: dict[PublicKey, HomeKey] = {}
    for name in sorted(file.removesuffix(".pub") for file in found.files if file.endswith(".pub")):
        private, path, about = files(directory, name)
        public = keys.parse_public(found.files[path.name], source=str(path))
        if about.name not in found.files:
            raise InputError(
                f"{path} has no marks, which say who holds it and what it may sign",
                next_step="Move it elsewhere and bring it in with `tidewaiter key import NAME FILE`.",
            )
        marks = parse_marks(found.files[about.name], source=str(about))
        if marks.fingerprint != public.fingerprint:
            raise InputError(
                f"{about} belongs to another key than {path.name}", next_step="Restore both from one backup."
            )
        if public in result:
            # One of them may be revoked, or say more than the other.
            raise InputError(
                f"{path} is the same key as {result[public].name}.pub", next_step="Move one of them elsewhere."
            )
        result[public] = HomeKey(name=name, public=public, marks=marks, has_private=private.name in found.names)
    return tuple(result.values())


def home(directory: Path) -> tuple[TrustedKey, ...]:
    """All keys of the folder `directory`, also those that are no longer in force; raises as `read`."""
    return tuple(key.trusted for key in read(directory))


def of_files(paths: Iterable[Path]) -> tuple[TrustedKey, ...]:
    """The public keys in the files at `paths`, each once, with the marks that lie beside them, if any do.

    Raises:
        NotFoundError: there is no such file.
        InputError: one is no public key, what lies beside it as `NAME.json` are not its marks, or two have it with
            different ones.
    """
    result: dict[PublicKey, TrustedKey] = {}
    marked: dict[PublicKey, tuple[Path, Marks]] = {}
    for path in paths:
        public = keys.load_public(path)
        beside = path.with_suffix(".json")
        if not beside.exists():
            result.setdefault(public, TrustedKey(public=public, name=path.stem))
            continue
        marks = load_marks(beside)
        if marks.fingerprint != public.fingerprint:
            raise InputError(
                f"{beside} are not the marks of {path.name}", next_step="Restore both from one backup, or move it away."
            )
        other, known = marked.setdefault(public, (path, marks))
        if known != marks:
            # One of them may be revoked, or say more than the other.
            raise InputError(
                f"{path} is the same key as {other}, with other marks", next_step="Leave out what is not up to date."
            )
        result[public] = _trusted(path.stem, public, marks)
    return tuple(result.values())


def require_may_sign(
    key: TrustedKey, predicate: str, *, at: dt.datetime, repository: str = "", environment: str = ""
) -> None:
    """Make sure that `key` may sign `predicate` (a type of `predicates`) at the moment `at`.

    Raises:
        RefusedError: it may not; code `key_not_in_force` or `key_out_of_scope`.
    """
    reason = key.not_in_force(at)
    if reason:
        raise RefusedError(
            reason,
            next_step="Sign with another key, or make a new one with `tidewaiter key rotate`.",
            code=NOT_IN_FORCE,
        )
    reason = key.out_of_scope(predicate, repository=repository, environment=environment)
    if reason:
        raise RefusedError(
            reason, next_step="Sign with a key that is meant for this; see `tidewaiter key list`.", code=OUT_OF_SCOPE
        )
