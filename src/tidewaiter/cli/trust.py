"""`sign`, `attest`, `verify`: who vouches for an image, and for what."""

import getpass
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from tidewaiter.cli import console
from tidewaiter.cli.console import Format, emit, emit_json
from tidewaiter.cli.parameters import Parameter
from tidewaiter.cli.workshop import workshop
from tidewaiter.core import clock
from tidewaiter.core.errors import InputError
from tidewaiter.pipelines import trusting
from tidewaiter.pipelines.trusting import Place
from tidewaiter.pipelines.workshop import Workshop

if TYPE_CHECKING:
    from tidewaiter.pipelines.attachments.sending import Sent
    from tidewaiter.signing.keyless import Voucher
    from tidewaiter.signing.verify import Attested, Report


def password(shop: Workshop, prompt: str) -> bytes:
    """The key's password: `COSIGN_PASSWORD`, else asked for on a terminal, else an error."""
    if shop.settings.key_password is not None or not sys.stdin.isatty():
        return trusting.require_password(shop)
    try:
        return getpass.getpass(prompt).encode()
    except (EOFError, UnicodeError) as error:
        raise InputError("no password was given", next_step="Type it, or set COSIGN_PASSWORD.") from error


def asking(shop: Workshop, key: str) -> trusting.Password:
    """Hands over the password of the key `key` when it is needed."""
    return lambda: password(shop, f"Password of the key {key}: ")


def _annotations(words: Sequence[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals or not name or name in found:
            raise InputError(f"{word[:100]!r} is no annotation, or one given twice", next_step="Write -a NAME=VALUE.")
        found[name] = value
    return found


def sign(
    image: str,
    /,
    *,
    key: str = trusting.KEY_NAME,
    annotation: Annotated[tuple[str, ...], Parameter(name=("--annotation", "-a"))] = (),
    output: Annotated[Format, Parameter(name="--format")] = "text",
) -> int:
    """Sign an image of the store or of a registry in cosign's formats.

    A second signature is added, it never replaces the first. What a key signed of late is not signed again.

    Args:
        image: a store name (NAME:TAG) or HOST/REPO:TAG.
        key: name of a key of this home, path of a key file, env://VARIABLE, hook:COMMAND or pkcs11:URI that signs.
        annotation: NAME=VALUE that the signature shall say. Repeatable.
        output: text or json.
    """
    said = _annotations(annotation)
    with workshop() as shop:
        place = trusting.place(shop, image)
        signer = trusting.open_key(shop, key, asking(shop, key))
        written = trusting.sign(shop, place, signer, said)
    fingerprint = signer.signer.public.fingerprint
    if output == "json":
        emit_json({"digest": place.image.digest, "signature": written, "fingerprint": fingerprint})
        return 0
    emit(f"signed {place.name}@{place.image.digest}")
    emit(f"  key        {fingerprint} (builder {signer.trusted.builder})")
    emit(f"  signature  {written}")
    return 0


def attest(
    image: str,
    /,
    *,
    type_: str,
    predicate: Path,
    key: str = trusting.KEY_NAME,
    output: Annotated[Format, Parameter(name="--format")] = "text",
) -> int:
    """Attest something of an image of the store or of a registry: a JSON document, signed and attached.

    Args:
        image: a store name (NAME:TAG) or HOST/REPO:TAG.
        type_: type of the predicate: its URI, or spdx, cyclonedx, slsaprovenance1, vuln, openvex, vsa.
        predicate: file that holds it, one JSON object.
        key: name of a key of this home, path of a key file, env://VARIABLE, hook:COMMAND or pkcs11:URI that signs.
        output: text or json.
    """
    from tidewaiter.pipelines.attachments import attesting
    from tidewaiter.signing import predicates

    kind = predicates.named(type_)
    with workshop() as shop:
        said = attesting.read_predicate(predicate, kind)
        place = trusting.place(shop, image)
        signer = trusting.open_key(shop, key, asking(shop, key))
        blob = attesting.attest_one(shop, place, kind, said, signer)
    fingerprint = signer.signer.public.fingerprint
    if output == "json":
        emit_json(
            {
                "digest": place.image.digest,
                "predicate_type": kind,
                "attestation": blob,
                "fingerprint": fingerprint,
            }
        )
        return 0
    emit(f"attested {place.name}@{place.image.digest}")
    emit(f"  type         {kind}")
    emit(f"  key          {fingerprint} (builder {signer.trusted.builder})")
    emit(f"  attestation  {blob}")
    return 0


def verify(
    image: str,
    /,
    *,
    key: Annotated[tuple[Path, ...], Parameter(name="--key", negative="")] = (),
    certificate_identity: str = "",
    certificate_oidc_issuer: str = "",
    trusted_root: Path | None = None,
    type_: tuple[str, ...] = (),
    policy: str | None = None,
    repair: Annotated[bool, Parameter(negative="")] = False,
    output: Annotated[Format, Parameter(name="--format")] = "text",
) -> int:
    """Check the signature of an image, what is attested of it, or all that a trust policy demands.

    Exits with 1 when it does not hold, with 3 when that could not be found out. Only the image's registry is asked.

    Args:
        image: a store name (NAME:TAG) or HOST/REPO:TAG.
        key: a public key that is trusted; may be given several times. Default: all keys of this home.
        certificate_identity: instead of a key, who is trusted to sign with certificates (keyless): the whole URI or
            e-mail address that they name. Needs the extra `keyless`.
        certificate_oidc_issuer: the URL of the OIDC issuer that vouched for that identity, whole.
        trusted_root: `trusted_root.json` of the Sigstore service that issued the certificates. Default: that of the
            public service, from the package `sigstore`.
        type_: check attestations of this type instead of the signature: a URI, or spdx, cyclonedx, slsaprovenance1,
            vuln, openvex, vsa. Repeatable; each must be there.
        policy: check the whole chain, step by step: a trust policy file, or research, staging or production.
        repair: first put back what this home attached to the image, and its registry lost.
        output: text or json.
    """
    if policy is not None and type_:
        raise InputError(
            "--policy says itself which types are demanded", next_step="Leave out --type, or --policy.", code="usage"
        )
    by_identity = bool(certificate_identity or certificate_oidc_issuer or trusted_root)
    if by_identity and (policy is not None or key):
        raise InputError(
            "--certificate-identity goes with neither --key nor --policy",
            next_step="Trust one or the other, or write a trust policy with [[key]] and [[identity]].",
            code="usage",
        )
    with workshop(looking=not repair) as shop:
        trusted = trusting.policy(shop, policy, key) if policy is not None else None
        ring: Sequence[Voucher] = ()
        if by_identity:
            ring = (trusting.identity(certificate_identity, certificate_oidc_issuer, trusted_root, type_),)
        elif trusted is None:
            ring = trusting.ring(shop, key)
        if repair:
            _tell(trusting.repair(shop, image))
        found = trusting.place(shop, image)
        report = trusting.verify_chain(shop, found, trusted) if trusted is not None else None
    if report is not None:
        return _chain(image, report, output)
    return _attestations(image, found, ring, type_, output) if type_ else _signature(image, found, ring, output)


def _tell(sent: "Sent") -> None:
    console.tell(
        f"put back: {sent.signatures} signatures, {sent.attestations} attestations, {len(sent.referrers)} bundles"
        if sent.anything
        else "nothing was lost that this home attached"
    )


def _signature(image: str, found: Place, ring: "Sequence[Voucher]", output: Format) -> int:
    verified = trusting.verify_image(found, ring)
    if output == "json":
        emit_json(
            {
                "reference": image,
                "digest": found.image.digest,
                "verified": True,
                "fingerprint": verified.fingerprint,
                **_certificate(verified.key),
                "identity": verified.docker_reference,
                "annotations": dict(verified.annotations),
                "signature_format": verified.format,
            }
        )
        return 0
    emit(f"verified {image}")
    emit(f"  digest    {found.image.digest}")
    emit(f"  key       {verified.fingerprint or f'certificate of {verified.key.name}'}")
    emit(f"  identity  {verified.docker_reference}")
    for name, value in sorted(verified.annotations.items()):
        emit(f"  {name}  {value}")
    return 0


def _attestations(image: str, found: Place, ring: "Sequence[Voucher]", types: Sequence[str], output: Format) -> int:
    from tidewaiter.signing import predicates

    kinds = dict.fromkeys(map(predicates.named, types))
    held = [one for kind in kinds for one in trusting.verify_attestations(found, ring, kind)]
    if output == "json":
        attestations = [_attestation(one) for one in held]
        emit_json({"reference": image, "digest": found.image.digest, "verified": True, "attestations": attestations})
        return 0
    emit(f"verified {image}")
    emit(f"  digest    {found.image.digest}")
    for one in held:
        moment = "" if one.signed_at is None else f", {clock.rfc3339(one.signed_at)}"
        kind = predicates.short(one.statement.predicate_type)
        emit(f"  {kind}  by {one.key.name} ({one.key.builder}){moment}, {one.format} format")
    return 0


def _attestation(one: "Attested") -> dict[str, Any]:
    return {
        "predicate_type": one.statement.predicate_type,
        "fingerprint": one.key.fingerprint,
        **_certificate(one.key),
        "signature_format": one.format,
        "attestation": one.blob,
        "signed_at": None if one.signed_at is None else clock.rfc3339(one.signed_at),
        "predicate": one.statement.predicate,
    }


def _certificate(voucher: "Voucher") -> dict[str, str | None]:
    """Whom the certificate names, if there is one."""
    from tidewaiter.signing.keyless import TrustedIdentity

    san, issuer = voucher.who if isinstance(voucher, TrustedIdentity) else (None, None)
    return {"certificate_identity": san, "certificate_oidc_issuer": issuer}


def _chain(image: str, report: "Report", output: Format) -> int:
    error = report.error()
    if output == "json":
        emit_json(
            {
                "reference": image,
                "digest": report.image,
                "environment": report.environment,
                "verified": report.holds,
                "steps": report.steps,
            }
        )
    else:
        emit(f"{image}  {report.image}")
        for step in report.steps:
            emit(f"  {step.number}. {step.name}: {step.outcome.replace('_', ' ')}")
            if step.detail and step.outcome != "not_asked":
                emit(f"     {step.detail}")
        emit(f"{'trusted' if report.holds else 'not trusted'} for {report.environment}")
    return 0 if error is None else error.exit_code
