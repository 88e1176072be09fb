"""`check`: may this image go there?"""

from pathlib import Path
from typing import Annotated

from tidewaiter.cli import console
from tidewaiter.cli.console import Format, emit, emit_json
from tidewaiter.cli.parameters import Parameter
from tidewaiter.cli.scan import coverage_lines, outside_lines
from tidewaiter.cli.trust import password
from tidewaiter.cli.workshop import workshop
from tidewaiter.core.errors import InputError
from tidewaiter.core.project import Environment
from tidewaiter.oci import reference as references
from tidewaiter.oci.reference import ArchiveReference, LayoutReference, StoreReference
from tidewaiter.pipelines import clear as clearing
from tidewaiter.pipelines import deciding, images, looking, resting, trusting
from tidewaiter.policy import explain
from tidewaiter.policy.verdict import Verdict


def exit_code(verdict: Verdict) -> int:
    """0 when allowed, 1 when denied, 3 when it could not be checked."""
    if verdict.allowed:
        return 0
    return 3 if verdict.undetermined else 1


def check(
    image: str | None = None,
    /,
    *,
    environment: Environment | None = None,
    all_: Annotated[bool, Parameter(negative="")] = False,
    clear: Annotated[bool, Parameter(negative="")] = False,
    with_: tuple[str, ...] = (),
    vex: tuple[str, ...] = (),
    pack: tuple[str, ...] = (),
    key: str = trusting.KEY_NAME,
    output: Annotated[Format, Parameter(name="--format")] = "text",
) -> int:
    """Decide whether an image may go to an environment, and say what to change when it may not.

    Exits with 1 when it is denied, and with 3 when that could not be found out; both keep it out.
    With --clear an image of the store that is allowed is signed and its tag cleared, as `ci` does with what it builds.

    Args:
        image: a store name (NAME:TAG), oci:PATH[:TAG], an archive, or HOST/REPO:TAG.
        environment: research, staging or production; required for an image. With --all, default: each image's own.
        all_: with --pack: show which tags of the catalog that policy would deny or newly allow, compared with the
            present one. Exits with 1 when some would be denied, and with 3 when some could not be decided.
        clear: sign and clear the tag NAME:TAG of the store when it is allowed.
        with_: let the findings of another scanner count too: its JSON report, or `trivy` to run it. Repeatable.
        vex: an OpenVEX document that you trust; what it calls not affected or fixed does not count. Repeatable.
        pack: a policy pack, folder or bundle, on top of the one that ships, in the place of those in TIDEWAITER_POLICY;
            nothing is recorded. Repeatable, the lowest first.
        key: name of the key of this home that signs with --clear.
        output: text or json.
    """
    if all_:
        return _everywhere(image, environment, pack, others=bool(clear or with_ or vex), output=output)
    image, environment = _given(image, environment, proposes=bool(pack), clears=clear)
    with workshop(looking=not clear) as shop:
        # The key is opened first, so that a wrong password is found before the work.
        signer = trusting.open_key(shop, key, password(shop, f"Password of the key {key}: ")) if clear else None
        given = references.parse(image)
        named = images.open_named(shop, image)
        if clear and not (isinstance(given, StoreReference) and named.tag):
            raise InputError(
                f"{image} is no tag of the store, and only such can be cleared",
                next_step="Put it there with `tidewaiter pull`, then name it NAME:TAG.",
            )
        facts = looking.inspect(shop, named)
        own = result = looking.scan(shop, facts)
        if with_ or vex:
            from tidewaiter.pipelines import scanners

            subject = looking.subject_of(facts)
            result = scanners.consult(shop, own, facts, subject, image=named.image, reports=with_, vex=vex)
        asked = deciding.question(
            facts,
            result,
            base=resting.under(shop, named.image),
            environment=environment,
            attached=deciding.attached(shop, facts, signing=clear),
            named=given if isinstance(given, LayoutReference | ArchiveReference) else None,
        )
        with deciding.engine(shop.settings, tuple(map(Path, pack)) or None) as rules:
            verdict = deciding.verdict(rules, facts, result, asked, waivers=shop.catalog.waivers())
            policy = rules.pack
        if not pack:
            clearing.remember(shop, named, facts, own, verdict)
        if signer is not None and verdict.allowed:
            written = images.stored_descriptor(shop.store, facts.digest)
            clearing.vouch(shop, named.name, named.tag, written, verdict=verdict, signer=signer)
    if output == "json":
        emit_json(verdict)
        return exit_code(verdict)
    emit(f"{facts.reference}  {facts.digest}")
    for line in (*coverage_lines(result), *outside_lines(result)):
        emit(f"  {line}")
    for line in explain.lines(verdict, policy):
        emit(line)
    if signer is not None and verdict.allowed:
        emit(f"cleared for {environment}: {named.name}:{named.tag}")
    return exit_code(verdict)


def _given(
    image: str | None, environment: Environment | None, *, proposes: bool, clears: bool
) -> tuple[str, Environment]:
    if image is None or environment is None:
        raise InputError(
            f"check needs {'an image' if image is None else '--environment'}",
            next_step="Write `tidewaiter check IMAGE --environment NAME`.",
            code="usage",
        )
    if proposes and clears:
        raise InputError(
            "--pack asks what another policy would say, and clears nothing",
            next_step="Put the pack into TIDEWAITER_POLICY, then clear without --pack.",
        )
    return image, environment


def _everywhere(
    image: str | None, environment: Environment | None, packs: tuple[str, ...], *, others: bool, output: Format
) -> int:
    """What the policy in `packs` would change for the images of the catalog; 0, 1 or 3 as `check` says."""
    if image is not None or others or not packs:
        raise InputError(
            "--all compares the present policy with that of --pack, for every tag of the catalog",
            next_step="Write `tidewaiter check --all --pack FOLDER`; --environment names another than the image's own.",
            code="usage",
        )
    from tidewaiter.pipelines import whatif

    with workshop(looking=True) as shop:
        found = whatif.compare(shop, tuple(map(Path, packs)), environment)
    denied, undecided = found.count("denied"), found.count("undetermined")
    if output == "json":
        emit_json(found)
    else:
        changed = [one for one in found.outcomes if one.change != "same"]
        if changed:
            console.table(
                ("change", "image", "environment", "rules"),
                [(one.change, one.reference, one.environment, one.reason or ", ".join(one.rules)) for one in changed],
            )
        emit(
            f"{len(found.outcomes)} tags: {denied} would be denied, {found.count('allowed')} would be allowed, "
            f"{found.count('same')} stay as they are, {undecided} could not be decided"
        )
    if denied:
        return 1
    return 3 if undecided else 0
