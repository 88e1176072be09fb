"""`check` and `policy test`: may this image go there, and do the rules themselves work."""

from typing import Annotated

import msgspec

from tidewaiter.cli import console
from tidewaiter.cli.console import Format, emit, emit_json
from tidewaiter.cli.look import coverage_lines
from tidewaiter.cli.parameters import Parameter
from tidewaiter.cli.trust import password
from tidewaiter.cli.workshop import workshop
from tidewaiter.core.errors import InputError
from tidewaiter.core.project import Environment
from tidewaiter.oci import reference as references
from tidewaiter.oci.reference import StoreReference
from tidewaiter.pipelines import clear as clearing
from tidewaiter.pipelines import deciding, images, looking, trusting
from tidewaiter.policy import explain, testing
from tidewaiter.policy.pack import default_pack
from tidewaiter.policy.verdict import Verdict


def exit_code(verdict: Verdict) -> int:
    """0 when allowed, 1 when denied, 3 when it could not be checked."""
    if verdict.allowed:
        return 0
    return 3 if verdict.undetermined else 1


def check(
    image: str,
    /,
    *,
    environment: Environment,
    clear: Annotated[bool, Parameter(negative="")] = False,
    key: str = trusting.KEY_NAME,
    output: Annotated[Format, Parameter(name="--format")] = "text",
) -> int:
    """Decide whether an image may go to an environment, and say what to change when it may not.

    Exits with 1 when it is denied, and with 3 when that could not be found out; both keep it out.
    With --clear an image of the store that is allowed is signed and its tag cleared, as `ci` does with what it builds.

    Args:
        image: a store name (NAME:TAG), oci:PATH[:TAG], an archive, or HOST/REPO:TAG.
        environment: research, staging or production.
        clear: sign and clear the tag NAME:TAG of the store when it is allowed.
        key: name of the key of this home that signs with --clear.
        output: text or json.
    """
    with workshop() as shop:
        # The key is opened first, so that a wrong password is found before the work.
        signer = trusting.open_key(shop, key, password(shop, f"Password of the key {key}: ")) if clear else None
        named = images.open_named(shop, image)
        if clear and not (isinstance(references.parse(image), StoreReference) and named.tag):
            raise InputError(
                f"{image} is no tag of the store, and only such can be cleared",
                next_step="Put it there with `tidewaiter pull`, then name it NAME:TAG.",
            )
        facts = looking.inspect(shop, named)
        result = looking.scan(shop, facts)
        with deciding.engine() as rules:
            verdict = deciding.verdict(rules, facts, result, environment=environment)
            pack = rules.pack
        clearing.remember(shop, named, facts, result, verdict)
        if signer is not None and verdict.allowed:
            written = images.stored_descriptor(shop.store, facts.digest)
            clearing.vouch(shop, named.name, named.tag, written, verdict=verdict, signer=signer)
    if output == "json":
        emit_json(verdict)
        return exit_code(verdict)
    emit(f"{facts.reference}  {facts.digest}")
    for line in coverage_lines(result):
        emit(f"  {line}")
    for line in explain.lines(verdict, pack):
        emit(line)
    if signer is not None and verdict.allowed:
        emit(f"cleared for {environment}: {named.name}:{named.tag}")
    return exit_code(verdict)


def policy_test(*, output: Annotated[Format, Parameter(name="--format")] = "text") -> int:
    """Run the tests that lie beside the rules.

    They run in the engine that decides.

    Args:
        output: text or json.
    """
    results = testing.run_tests(default_pack())
    bad = [one for one in results if one.status in {"fail", "error"}]
    if output == "json":
        emit_json({"tests": msgspec.to_builtins(results), "failed": len(bad)})
        return 1 if bad else 0
    console.table(("status", "test", "file"), [(one.status, one.name, one.file) for one in results])
    for one in bad:
        emit(f"{one.file}: {one.name}: {one.reason}")
    emit(f"{len(results) - len(bad)} passed, {len(bad)} failed")
    return 1 if bad else 0
