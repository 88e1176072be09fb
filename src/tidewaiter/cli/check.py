"""`check` and `policy test`: may this image go there, and do the rules themselves work."""

from typing import Annotated

import msgspec

from tidewaiter.cli import console
from tidewaiter.cli.console import Format, emit, emit_json
from tidewaiter.cli.look import coverage_lines
from tidewaiter.cli.parameters import Parameter
from tidewaiter.cli.workshop import workshop
from tidewaiter.core.project import Environment
from tidewaiter.pipelines import clear, deciding, images, looking
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
    output: Annotated[Format, Parameter(name="--format")] = "text",
) -> int:
    """Decide whether an image may go to an environment, and say what to change when it may not.

    Exits with 1 when it is denied, and with 3 when that could not be found out; both keep it out.

    Args:
        image: a store name (NAME:TAG), oci:PATH[:TAG], an archive, or HOST/REPO:TAG.
        environment: research, staging or production.
        output: text or json.
    """
    with workshop() as shop:
        named = images.open_named(shop, image)
        facts = looking.inspect(shop, named)
        result = looking.scan(shop, facts)
        with deciding.engine() as rules:
            verdict = deciding.verdict(rules, facts, result, environment=environment)
            pack = rules.pack
        clear.remember(shop, named, facts, result, verdict)
    if output == "json":
        emit_json(verdict)
        return exit_code(verdict)
    emit(f"{facts.reference}  {facts.digest}")
    for line in coverage_lines(result):
        emit(f"  {line}")
    for line in explain.lines(verdict, pack):
        emit(line)
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
