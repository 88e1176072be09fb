"""Waivers: exceptions that somebody answers for, somebody else has read, and that end.

Nothing here reads a clock, and nothing decides: how a waiver counts is in `weighing`.
"""

import datetime as dt
import re
import unicodedata
from typing import Literal

import msgspec
from packageurl import PackageURL

from tidewaiter.core import clock, limits
from tidewaiter.core.errors import InputError, RefusedError
from tidewaiter.oci.digest import hexadecimal, of
from tidewaiter.policy.pack import Pack
from tidewaiter.policy.scope import ECOSYSTEMS, EVERYTHING, Scope, bounds, package, within

State = Literal["requested", "in_force", "expired", "revoked"]


class Waiver(msgspec.Struct, frozen=True, kw_only=True):
    """One exception. Times are UTC; what has not happened is None, or empty."""

    id: str
    """Names what was asked for, by whom and when."""
    scope: Scope
    owner: str
    """Who answers for it."""
    reason: str
    requested_by: str
    requested_at: dt.datetime
    expires_at: dt.datetime
    reviewer: str = ""
    approved_at: dt.datetime | None = None
    revoked_by: str = ""
    revoked_at: dt.datetime | None = None
    revocation: str = ""
    """Why it was revoked."""

    @property
    def subject(self) -> str:
        """The advisory or the rule."""
        return self.scope.advisory or self.scope.rule

    def state(self, at: dt.datetime) -> State:
        """What has become of it at a moment."""
        if self.revoked_at is not None:
            return "revoked"
        if self.expires_at <= at:
            return "expired"
        return "requested" if self.approved_at is None or self.approved_at > at else "in_force"


# Asking for one

_CVE = re.compile(r"CVE-[0-9]{4}-[0-9]{4,19}")
_GHSA = re.compile(r"GHSA(?:-[23456789cfghjmpqrvwx]{4}){3}")
_ADVISORY = re.compile(r"[A-Z][A-Z0-9]{1,19}(?:-[A-Za-z0-9.:_]{1,60}){1,6}")
_PATTERN = re.compile(r"[a-z0-9._/*-]{1,255}")
_NEXT = "See `tidewaiter waiver request --help`."


def _text(text: str, what: str, longest: int) -> str:
    """`text` without blanks around it; empty, too long or with characters that nobody sees, it is an `InputError`."""
    clean = text.strip()
    if not clean or len(clean) > longest or not clean.isprintable():
        raise InputError(
            f"{what} is {'empty' if not clean else 'over ' + str(longest) + ' characters or has unprintable ones'}",
            next_step=f"Give {what} in one line.",
        )
    return clean


_ALIKE = str.maketrans(
    "\u0430\u0432\u0435\u0456\u0458\u043a\u043c\u043d\u043e\u0440\u0441\u0442\u0443\u0445\u0455\u0501\u04bb\u051b\u051d"
    "\u03b1\u03b2\u03b5\u03b7\u03b9\u03ba\u03bc\u03bd\u03bf\u03c1\u03c4\u03c5\u03c7\u03b6\u0131",
    "abeijkmhopctyxsdhqwabehikmvoptuxzi",
)
"""Letters of Cyrillic and Greek, small or capital, that look like Latin ones."""
_UNSEEN = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]"
)
"""Characters that count as printable and are not seen."""


def person(text: str) -> str:
    """`text` as a person's name; raises `InputError`."""
    name = _text(text, "the name of a person", 100)
    if _UNSEEN.search(name) or not any(map(str.isalnum, name)):
        raise InputError(
            "the name of a person has characters that are not seen, or no letter", next_step="Give it in letters."
        )
    return name


def same_person(one: str, other: str) -> bool:
    """Whether two names look like one: whatever their case, width, blanks, accents, and the alphabet of a letter."""

    def key(name: str) -> str:
        letters = unicodedata.normalize("NFKD", unicodedata.normalize("NFKC", name).casefold())
        shown = _UNSEEN.sub("", letters).translate(_ALIKE)
        return "".join(letter for letter in shown if not unicodedata.combining(letter) and not letter.isspace())

    return key(one) == key(other)


def request(
    scope: Scope,
    pack: Pack,
    *,
    owner: str,
    reason: str,
    requested_by: str,
    at: dt.datetime,
    expires_at: dt.datetime,
    longest: dt.timedelta,
) -> Waiver:
    """A waiver that somebody still has to approve.

    Args:
        scope: what it is about.
        pack: knows the rules.
        owner: who answers for it.
        reason: why.
        requested_by: who asks.
        at: when.
        expires_at: when it ends.
        longest: how long after `at` one for production may end.

    Raises:
        InputError: the scope names nothing that exists, a text is empty, or the end is past or too far away.
        RefusedError: the rule can never be waived.
    """
    _check_subject(scope, pack)
    _check_package(scope)
    _check_image(scope)
    bound = longest if "production" in scope.environments else dt.timedelta(days=limits.WAIVER_DAYS)
    if not at < expires_at <= at + bound:
        raise InputError(
            f"a waiver that ends at {clock.rfc3339(expires_at)} would be over or last too long",
            next_step=f"Here it may end until {clock.rfc3339(at + bound)}; ask again when it ends.",
        )
    asked = Waiver(
        id="",
        scope=scope,
        owner=person(owner),
        reason=_text(reason, "the reason", limits.WAIVER_REASON_CHARACTERS),
        requested_by=person(requested_by),
        requested_at=at,
        expires_at=expires_at,
    )
    name = hexadecimal(of(msgspec.json.encode(asked, order="sorted")))[:16]
    return msgspec.structs.replace(asked, id=f"W-{name}")


def _check_subject(scope: Scope, pack: Pack) -> None:
    if bool(scope.advisory) == bool(scope.rule):
        raise InputError("a waiver is about one advisory or about one rule", next_step="Give --advisory or --rule.")
    if not scope.environments:
        raise InputError("a waiver names the environments that it is for", next_step="Give --environment.")
    if scope.rule:
        rule = pack.rule(scope.rule)
        if rule is None:
            known = ", ".join(one.id for one in pack.rules)
            raise InputError(f"the policy has no rule {scope.rule[:100]!r}", next_step=f"Its rules: {known}.")
        if not rule.waivable:
            raise RefusedError(f"the rule {rule.id} cannot be waived", next_step="Satisfy it.")
        return
    kinds = {"CVE-": _CVE, "GHSA-": _GHSA}
    form = next((form for start, form in kinds.items() if scope.advisory.upper().startswith(start)), _ADVISORY)
    if form.fullmatch(scope.advisory) is None:
        raise InputError(
            f"{scope.advisory[:100]!r} is no id of an advisory",
            next_step="Write it as `tidewaiter scan` shows it, for example CVE-2024-34069.",
        )


def _check_package(scope: Scope) -> None:
    if not scope.package:
        if scope.versions:
            raise InputError("versions are those of a package, and none is named", next_step="Give --package.")
        return
    try:
        kind, _, _ = package(scope.package)
        parsed = PackageURL.from_string(scope.package)
    except ValueError as error:
        raise InputError(f"the package is no package URL: {error}", next_step="Write pkg:pypi/NAME.") from error
    if parsed.version or parsed.qualifiers or parsed.subpath:
        raise InputError(
            f"{scope.package[:200]} says more than type and name",
            next_step="Write pkg:TYPE/NAME, and the versions with --versions.",
        )
    if scope.rule and (scope.rule.startswith("advisories.") or kind not in {"pypi", "deb"}):
        raise InputError(
            f"a waiver of the rule {scope.rule} cannot be narrowed to {scope.package}",
            next_step="Name the advisories in the place of the rule; other rules take packages of PyPI and Debian.",
        )
    if scope.versions:
        try:
            for _, version in bounds(scope.versions):
                within(version, scope.versions, ECOSYSTEMS.get(kind, ""))
        except ValueError as error:
            raise InputError(
                f"the versions {scope.versions[:100]!r} cannot be used: {error}",
                next_step="Write bounds like >=2.10,<2.12 with versions of that package.",
            ) from error


def _check_image(scope: Scope) -> None:
    pattern = scope.image
    words = f"{pattern[:100]!r} is no pattern of repository names"
    if _PATTERN.fullmatch(pattern) is None or "***" in pattern:
        raise InputError(words, next_step="Write it like vision/* or vision/**, without host and tag.")
    if "production" in scope.environments and pattern != EVERYTHING and not pattern.strip("*/._-"):
        raise InputError(
            f"{pattern[:100]!r} names no image, and the waiver is for production",
            next_step=f"Name images, or write {EVERYTHING} when every image is meant.",
        )


# Approving and revoking


def approve(waiver: Waiver, reviewer: str, at: dt.datetime) -> Waiver:
    """The waiver, approved. Raises `RefusedError` when the reviewer may not, or there is nothing to approve."""
    name = person(reviewer)
    if waiver.state(at) != "requested" or waiver.approved_at is not None:
        state = "approved" if waiver.state(at) in {"requested", "in_force"} else waiver.state(at)
        raise RefusedError(
            f"the waiver {waiver.id} is {state} already",
            next_step="Ask for a new one with `tidewaiter waiver request` where it is still needed.",
        )
    approved = msgspec.structs.replace(waiver, reviewer=name, approved_at=at)
    if "production" in waiver.scope.environments and not two_people(approved):
        raise RefusedError(
            f"{name} asked for the waiver {waiver.id} or answers for it, and it is for production",
            next_step="Let somebody else review it.",
        )
    return approved


def revoke(waiver: Waiver, who: str, why: str, at: dt.datetime) -> Waiver:
    """The waiver, revoked, which lasts. Raises `RefusedError` when it is revoked already."""
    if waiver.revoked_at is not None:
        raise RefusedError(
            f"{waiver.revoked_by} revoked the waiver {waiver.id} already", next_step="There is nothing left to do."
        )
    return msgspec.structs.replace(
        waiver,
        revoked_by=person(who),
        revoked_at=at,
        revocation=_text(why, "the reason", limits.WAIVER_REASON_CHARACTERS),
    )


def two_people(waiver: Waiver) -> bool:
    return not any(same_person(waiver.reviewer, one) for one in (waiver.owner, waiver.requested_by))
