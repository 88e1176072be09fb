"""JSON Web Tokens of other issuers (RFC 7519), read as strictly as RFC 8725 recommends.

1. The token is short, of three parts, and its header is plain: an algorithm of the list, a key's name, no extension.
2. Its issuer is one of those asked for, to the letter.
3. The key is the issuer's of that name, and of the kind that the algorithm wants.
4. The signature holds.
5. It is for us, and now: audience, end, beginning, time of issue.

What a token says is not believed before the fourth step, but for whose keys are to be asked.
"""

from collections.abc import Collection, Mapping
from typing import Any

from joserfc import jws
from joserfc.errors import JoseError

from tidewaiter.access.issuers import ALGORITHMS, Issuers
from tidewaiter.core import clock, limits
from tidewaiter.core.errors import InputError, UnauthenticatedError
from tidewaiter.signing import strict_base64, strict_json

_HEADER = frozenset({"alg", "kid", "typ", "x5t", "x5t#S256"})
"""What a header may hold. Addresses and keys in it would be the sender's own."""


def verified(token: str, accepted: Mapping[str, Collection[str]], issuers: Issuers) -> Mapping[str, Any]:
    """What the token says.

    Args:
        token: as it was sent.
        accepted: issuer to audiences, of which it has to name one.
        issuers: whose keys are asked.

    Raises:
        UnauthenticatedError: it does not hold; says why.
        UndeterminedError: the issuer's keys cannot be had.
    """
    # 1
    header, claims = _parts(token)
    algorithm, kid = header.get("alg"), header.get("kid")
    if not isinstance(algorithm, str) or algorithm not in ALGORITHMS:
        raise _refused(f"it is signed with {str(algorithm)[:20]!a}, not with one of {', '.join(ALGORITHMS)}")
    if not isinstance(kid, str) or not kid or not set(header) <= _HEADER:
        raise _refused("its header names no key, or says more than it may")
    if str(header.get("typ", "JWT")).upper() != "JWT":
        raise _refused("its header calls it something else")
    # 2
    issuer = claims.get("iss")
    if not isinstance(issuer, str) or issuer not in accepted:
        raise _refused(f"its issuer {str(issuer)[:80]!a} is not one of this server's settings")
    # 3
    key = issuers.key(issuer, kid, algorithm)
    # 4
    try:
        jws.deserialize_compact(token, key, algorithms=[algorithm])
    except (JoseError, ValueError) as error:
        raise _refused("its signature does not hold") from error
    # 5
    _require_ours(claims, accepted[issuer])
    _require_now(claims)
    return claims


def _parts(token: str) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    parts = token.split(".")
    if len(token) > limits.CREDENTIAL_CHARACTERS or len(parts) != 3 or not token.isascii():
        raise _refused("it has not three parts, or is too long")
    try:
        header, claims = (
            strict_json.loads(strict_base64.decode(part + "=" * (-len(part) % 4), "a part of it", url_safe=True))
            for part in parts[:2]
        )
    except InputError as error:
        raise _refused(error.message) from error
    return header, claims


def _require_ours(claims: Mapping[str, Any], audiences: Collection[str]) -> None:
    given = claims.get("aud")
    named = given if isinstance(given, list) else [given]
    if not any(isinstance(one, str) and one in audiences for one in named):
        raise _refused(f"it is for {str(given)[:80]!a}, not for this server")


def _require_now(claims: Mapping[str, Any]) -> None:
    now, leeway = clock.now().timestamp(), limits.CLOCK_LEEWAY_SECONDS
    if not _is_time(claims.get("exp")) or claims["exp"] <= now - leeway:
        raise _refused("its time is over")
    if "nbf" in claims and (not _is_time(claims["nbf"]) or claims["nbf"] > now + leeway):
        raise _refused("its time has not come")
    if not _is_time(claims.get("iat")) or claims["iat"] > now + leeway:
        raise _refused("it was issued in the future, or nobody knows when")


def _is_time(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 2**53


def _refused(why: str) -> UnauthenticatedError:
    return UnauthenticatedError(f"this token does not hold: {why}", next_step="Get a new token and send it unchanged.")
