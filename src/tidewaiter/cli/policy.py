"""`policy …`: test rules, hand them on as OPA bundles, and show how they answer about an image."""

from pathlib import Path
from typing import Annotated

import msgspec

from tidewaiter.cli import console
from tidewaiter.cli.console import Format, emit, emit_json
from tidewaiter.cli.parameters import Parameter
from tidewaiter.cli.trust import asking
from tidewaiter.cli.workshop import workshop
from tidewaiter.core import durable, settings
from tidewaiter.core.errors import InputError
from tidewaiter.core.project import Environment
from tidewaiter.oci import reference as references
from tidewaiter.oci.reference import ArchiveReference, LayoutReference
from tidewaiter.pipelines import deciding, explaining, images, trusting
from tidewaiter.policy import layers, signatures, testing
from tidewaiter.policy.bundle import Signer
from tidewaiter.policy.engine import EmbeddedEngine
from tidewaiter.policy.pack import default_pack
from tidewaiter.policy.reasons import Reason
from tidewaiter.policy.testing import TestResult


def _below(source: Path) -> tuple[Path, ...]:
    """The layers of the settings up to `source`; all of them, and it on top, when it is none of them."""
    configured = settings.load().policy
    places = [path.resolve() for path in configured]
    if source.resolve() in places:
        return configured[: places.index(source.resolve()) + 1]
    return (*configured, source)


def _trusted() -> signatures.Trust | None:
    """Trust in the keys of the settings; what is not signed may still be tested and signed."""
    return signatures.trust(settings.load().policy_keys, required=False)


def _tests(source: str | None) -> tuple[TestResult, ...]:
    if source is not None:
        stacked = layers.effective(_below(Path(source)), _trusted())
        return testing.run_tests(stacked, inside=stacked.layers[-1])
    results = list(testing.run_tests(default_pack()))
    configured = settings.load().policy
    for height in range(len(configured)):
        stacked = layers.effective(configured[: height + 1], _trusted())
        results += testing.run_tests(stacked, inside=stacked.layers[-1])
    return tuple(results)


def run_tests(pack: str | None = None, /, *, output: Annotated[Format, Parameter(name="--format")] = "text") -> int:
    """Run the tests that lie beside the rules.

    They run in the embedded engine, those of a layer with everything below it.

    Args:
        pack: folder or bundle of a layer whose tests to run; without it those of the pack that ships and of every
            layer in TIDEWAITER_POLICY.
        output: text or json.
    """
    results = _tests(pack)
    bad = [one for one in results if one.status in {"fail", "error"}]
    if output == "json":
        emit_json({"tests": msgspec.to_builtins(results), "failed": len(bad)})
        return 1 if bad else 0
    console.table(("status", "test", "file"), [(one.status, one.name, one.file) for one in results])
    for one in bad:
        emit(f"{one.file}: {one.name}: {one.reason}")
    emit(f"{len(results) - len(bad)} passed, {len(bad)} failed")
    return 1 if bad else 0


def write_bundle(
    pack: str | None = None,
    /,
    *,
    file: Annotated[str, Parameter(name=["--output", "-o"])],
    key: str | None = None,
) -> int:
    """Write a policy pack as an OPA bundle.

    It is checked first, and without --key the same pack gives the same bytes. A bundle of one layer can stand in
    TIDEWAITER_POLICY. Without PACK the whole policy is written, all layers in one, for an Open Policy Agent elsewhere.

    Args:
        pack: folder of a layer.
        file: where to write.
        key: what signs, by ES256: name of a key of this home, path of a key file, env://VARIABLE, hook:COMMAND or
            pkcs11:URI.
    """
    sign = None if key is None else _signer(key)
    if pack is None:
        whole = deciding.policy_of(settings.load())
        with EmbeddedEngine(whole):
            data = layers.write_whole(whole, sign=sign)
        revision = whole.revision
    else:
        with EmbeddedEngine(layers.effective(_below(Path(pack)), _trusted())):
            data, revision = layers.write_layer(Path(pack), _trusted(), sign=sign)
    durable.write_atomically(Path(file), data)
    emit(f"{file}  {revision}")
    return 0


def _signer(name: str) -> Signer:
    """Signs the files of a bundle with the key of that name."""
    with workshop() as shop:
        opened = trusting.open_key(shop, name, asking(shop, name))
    return lambda files: signatures.document(files, opened.signer.sign, key_id=opened.trusted.name)


def explain_image(
    image: str,
    /,
    *,
    environment: Environment,
    rule: str | None = None,
    output: Annotated[Format, Parameter(name="--format")] = "text",
) -> int:
    """Show how each rule answers about an image: where it stands, and on which values.

    Findings that a waiver covers are passed over as `check` does, and the waiver is named; nothing is recorded.
    Exits with 0 also when rules fail.

    Args:
        image: a store name (NAME:TAG), oci:PATH[:TAG], an archive, or HOST/REPO:TAG.
        environment: research, staging or production.
        rule: only this rule.
        output: text or json.
    """
    with workshop(looking=True) as shop:
        given = references.parse(image)
        named = images.open_named(shop, image)
        pack, found = explaining.explain(
            shop,
            named,
            environment,
            given=given if isinstance(given, LayoutReference | ArchiveReference) else None,
        )
    if rule is not None:
        found = tuple(one for one in found if one.rule == rule)
        if not found:
            known = ", ".join(one.id for one in pack.rules)
            raise InputError(f"the policy has no rule {rule!r}", next_step=f"Its rules: {known}.")
    if output == "json":
        emit_json({"environment": environment, "policy_revision": pack.revision, "rules": found})
        return 0
    emit(f"{named.reference}  {named.image.digest}")
    for one in found:
        _show(one)
    return 0


def _show(one: Reason) -> None:
    emit(f"{one.rule} [{one.level}]: {one.status.replace('_', ' ')}  {one.title}")
    if one.file:
        emit(f"  stands in {one.file}:{one.line}")
    for value in one.reads:
        emit(f"  reads {value.path} = {value.value}")
    for line in one.evidence:
        emit(f"  found: {line}")
    for waiver in one.waived_by:
        emit(f"  waived by {waiver}")
    if one.remedy:
        emit(f"  change: {one.remedy}")
