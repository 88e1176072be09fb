"""How values look on pages: sizes, ages, digests, and texts that come out of images.

Jinja escapes everything; what is here makes texts readable and harmless where escaping does not: characters that
nobody sees or that turn the reading direction are named, and endless ones are cut.
"""

import datetime as dt
import re
import unicodedata
from urllib.parse import quote, urlsplit

import msgspec
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from tidewaiter.core import clock
from tidewaiter.signing import predicates

_UNSEEN = {"Cc", "Cf", "Co", "Cs", "Zl", "Zp"}
_CODE = re.compile(r"`([^`]+)`")
TEXT_CHARACTERS = 240
DAYS_OLD = 7
"""Advisory data beyond this age is marked as old."""


def shown(text: object, limit: int = TEXT_CHARACTERS) -> str:
    """`text` with unseen characters named (`[U+202E]`) and cut to `limit` characters."""
    plain = str(text)
    cut = plain[:limit]
    if not (cut.isascii() and cut.isprintable()):
        cut = "".join(
            f"[U+{ord(character):04X}]" if unicodedata.category(character) in _UNSEEN else character
            for character in cut
        )
    return cut + (f"… ({len(plain):,} characters)" if len(plain) > limit else "")


def prose(text: str, limit: int = 600) -> Markup:
    """`text` with what stands between backticks set as code."""
    escaped = str(escape(shown(text, limit)))
    return Markup(_CODE.sub(r"<code>\1</code>", escaped))  # noqa: S704 - escaped in the line above


def size(amount: int) -> str:
    """Bytes in the decimal unit that leaves one to three digits before the point: `260.7 MB`."""
    number, unit = float(amount), "B"
    for larger in ("kB", "MB", "GB", "TB"):
        if number < 999.95:
            break
        number, unit = number / 1000, larger
    return f"{amount} B" if unit == "B" else f"{number:.1f} {unit}"


def digest(text: str, characters: int = 12) -> str:
    """The first characters of a digest, without the algorithm."""
    return text.partition(":")[2][:characters] or shown(text, characters)


def moment(when: dt.datetime) -> str:
    """`22 Nov 2026, 02:40 UTC`."""
    return f"{when.day} {when:%b %Y, %H:%M} UTC"


def day(when: dt.datetime) -> str:
    """`22 Nov 2026`."""
    return f"{when.day} {when:%b %Y}"


def age(when: dt.datetime) -> str:
    """How long ago, in the largest whole unit: `3 days ago`."""
    seconds = (clock.now() - when).total_seconds()
    for unit, length in (("day", 86400), ("hour", 3600), ("minute", 60)):
        number = int(seconds // length)
        if number >= 1:
            return f"{number:,} {unit}{'' if number == 1 else 's'} ago"
    return "just now" if seconds > -60 else "in the future"


def days_since(when: dt.datetime) -> int:
    """Whole days since `when`."""
    return (clock.now() - when).days


def seconds(number: float) -> str:
    """A duration: `47.6 s`, `12 min 5 s`."""
    if number < 60:
        return f"{number:.1f} s"
    return f"{int(number // 60)} min {int(number % 60)} s"


def counted(number: int, noun: str) -> str:
    """`1 layer`, `12 layers`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def json(value: object) -> str:
    """Compact JSON, for evidence that has no better form."""
    return shown(msgspec.json.encode(value).decode(), 2000)


def link(text: str) -> str | None:
    """`text` when it may be the target of a link: http or https, with a host."""
    try:
        parts = urlsplit(text)
    except ValueError:
        return None
    return text if parts.scheme in {"http", "https"} and parts.hostname and shown(text, 2000) == text else None


def image_path(name: str, digest_text: str) -> str:
    """Path of an image's page."""
    return f"/images/{quote(name)}@{quote(digest_text, safe=':')}"


def environment() -> Environment:
    """Jinja with these filters: autoescaping, and an unknown name is an error."""
    made = Environment(
        loader=PackageLoader("tidewaiter.web"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    for function in (shown, prose, size, digest, moment, day, age, days_since, seconds, counted, json, link):
        made.filters[function.__name__] = function
    made.filters["clock"] = lambda when: f"{when:%H:%M:%S}"
    made.filters["rfc3339"] = clock.rfc3339
    made.filters["predicate"] = predicates.short
    made.globals.update(image_path=image_path, now=clock.now, days_old=DAYS_OLD)
    return made
