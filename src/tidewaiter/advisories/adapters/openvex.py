"""OpenVEX 0.2.0 documents (https://github.com/openvex/spec), and those of 0.0.x, in which products were texts."""

import datetime as dt
from typing import Any, get_args

import msgspec

from tidewaiter.advisories.adapters.reported import check, decode, refused
from tidewaiter.advisories.finding import VexStatus
from tidewaiter.core import clock, limits
from tidewaiter.oci import digest as digests
from tidewaiter.oci.digest import Digest
from tidewaiter.sbom.reading import bounded
from tidewaiter.sbom.reading.document import clean

_CONTEXT = "https://openvex.dev/ns"
JUSTIFICATIONS = frozenset(
    {
        "component_not_present",
        "vulnerable_code_not_present",
        "vulnerable_code_not_in_execute_path",
        "vulnerable_code_cannot_be_controlled_by_adversary",
        "inline_mitigations_already_exist",
    }
)


class Product(msgspec.Struct, frozen=True):
    """What a statement is about: texts that may be package URLs or name a digest, and parts inside it."""

    names: tuple[str, ...]
    sha256: str
    """Hexadecimal; empty when it is not said."""
    parts: tuple["Product", ...] = ()


class Statement(msgspec.Struct, frozen=True, kw_only=True):
    """One statement, with what it takes over from its document."""

    vulnerability: frozenset[str]
    """Every id of it."""
    products: tuple[Product, ...]
    status: VexStatus
    justification: str
    text: str
    at: dt.datetime | None
    """When it was made; None when neither it nor its document says."""
    author: str
    source: str
    document: Digest


class VexDocument(msgspec.Struct, frozen=True, kw_only=True):
    """One document."""

    where: str
    """Names it in notes."""
    statements: tuple[Statement, ...]


class _Identifiers(msgspec.Struct):
    purl: str = ""


class _Hashes(msgspec.Struct):
    sha256: str = msgspec.field(name="sha-256", default="")


class _Part(msgspec.Struct):
    id: str = msgspec.field(name="@id", default="")
    identifiers: _Identifiers | None = None
    hashes: _Hashes | None = None


class _Product(_Part):
    subcomponents: list[_Part | str] | None = None


class _Vulnerability(msgspec.Struct):
    id: str = msgspec.field(name="@id", default="")
    name: str = ""
    aliases: list[str] | None = None


class _Statement(msgspec.Struct):
    vulnerability: _Vulnerability | str
    status: str
    products: list[_Product | str] | None = None
    subcomponents: list[_Part | str] | None = None
    timestamp: str = ""
    last_updated: str = ""
    justification: str = ""
    impact_statement: str = ""
    status_notes: str = ""
    action_statement: str = ""


class _Document(msgspec.Struct):
    statements: list[_Statement]
    context: Any = msgspec.field(name="@context", default="")
    id: str = msgspec.field(name="@id", default="")
    author: str = ""
    timestamp: str = ""
    last_updated: str = ""


def _moment(text: str, where: str) -> dt.datetime | None:
    if not text:
        return None
    try:
        return clock.parse_rfc3339(text)
    except (ValueError, OverflowError) as error:
        raise refused(where, f"{clean(text, 40)!r} is no time as RFC 3339 writes them") from error


def _part(said: _Part | str) -> Product:
    if isinstance(said, str):
        return Product((said,), "")
    named = (said.id, said.identifiers.purl if said.identifiers else "")
    return Product(tuple(name for name in named if name), said.hashes.sha256.lower() if said.hashes else "")


def _product(said: _Product | str, parts: list[_Part | str]) -> Product:
    inside = [*parts, *((said.subcomponents or ()) if isinstance(said, _Product) else ())]
    return msgspec.structs.replace(_part(said), parts=tuple(map(_part, inside)))


def _vulnerability(said: _Vulnerability | str, where: str) -> frozenset[str]:
    if isinstance(said, str):
        said = _Vulnerability(name=said)
    if len(said.aliases or ()) > limits.REPORT_IDS:
        raise bounded.over(where, f"a vulnerability has more than {limits.REPORT_IDS} aliases")
    # The `@id` is an address that often ends with the id; only what is given as a name is one.
    found = frozenset(clean(name, 200) for name in (said.name or said.id, *(said.aliases or ()))) - {""}
    if not found:
        raise refused(where, "it has a statement about a vulnerability without a name")
    return found


def _status(said: _Statement, where: str) -> VexStatus:
    """The status; raises `InputError` for one that is not known, or that lacks the reason that it needs."""
    for known in get_args(VexStatus):
        if said.status == known:
            if known == "not_affected" and not (said.justification or said.impact_statement):
                raise refused(where, "a statement says not_affected without a justification or an impact_statement")
            return known  # type: ignore[no-any-return]  # get_args does not know that these are the literal's values
    raise refused(where, f"{clean(said.status, 40)!r} is no status of OpenVEX")


def read(data: bytes, where: str) -> VexDocument:
    """What the document says. `where` names it in errors.

    Raises:
        InputError: it is no OpenVEX document, or not what the format allows.
        LimitError: it is over a bound of `core.limits`.
    """
    check(data, where)
    document = decode(data, _Document, where)
    if not (isinstance(document.context, str) and document.context.startswith(_CONTEXT)):
        raise refused(where, "it is no OpenVEX document: its @context is another")
    if len(document.statements) > limits.VEX_STATEMENTS:
        raise bounded.over(where, f"it has more than {limits.VEX_STATEMENTS} statements")
    made = _moment(document.last_updated or document.timestamp, where)
    author, source, digest = clean(document.author, 200), clean(document.id, 500) or where, digests.of(data)
    statements, count = [], 0
    for said in document.statements:
        products = tuple(_product(one, said.subcomponents or []) for one in said.products or ())
        count += sum(1 + len(one.parts) for one in products)
        if count > limits.VEX_PRODUCTS:
            raise bounded.over(where, f"it names more than {limits.VEX_PRODUCTS} products")
        if said.justification and said.justification not in JUSTIFICATIONS:
            raise refused(where, f"{clean(said.justification, 60)!r} is no justification of OpenVEX")
        texts = (said.impact_statement, said.status_notes, said.action_statement)
        statements.append(
            Statement(
                vulnerability=_vulnerability(said.vulnerability, where),
                products=products,
                status=_status(said, where),
                justification=said.justification,
                text=clean(next((text for text in texts if text), ""), 1000),
                at=_moment(said.last_updated or said.timestamp, where) or made,
                author=author,
                source=source,
                document=digest,
            )
        )
    return VexDocument(where=where, statements=tuple(statements))
