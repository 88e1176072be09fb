"""`check`: may this image go there?"""

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import msgspec

from tidewaiter.cli import console, remote, remote_verdict
from tidewaiter.cli.console import Format, emit, emit_json
from tidewaiter.cli.parameters import Parameter
from tidewaiter.cli.scan import coverage_lines, outside_lines
from tidewaiter.cli.trust import asking
from tidewaiter.cli.workshop import workshop
from tidewaiter.core import clock, settings
from tidewaiter.core.environments import Environment, strictest
from tidewaiter.core.errors import InputError, UndeterminedError
from tidewaiter.oci import reference as references
from tidewaiter.oci.reference import ArchiveReference, LayoutReference, Reference, RegistryReference, StoreReference
from tidewaiter.pipelines import analysed, deciding, images, looking, resting, trusting
from tidewaiter.pipelines import asking as questions
from tidewaiter.pipelines import clear as clearing
from tidewaiter.pipelines.attachments import attesting, stating
from tidewaiter.pipelines.attachments.attesting import Decision
from tidewaiter.policy import environments, explain
from tidewaiter.policy.environments import Environments
from tidewaiter.policy.pack import Pack
from tidewaiter.policy.verdict import Verdict
from tidewaiter.signing import predicates


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
    The verdict that is attached to a cleared image is renewed, or withdrawn when it is denied now.

    Args:
        image: a store name (NAME:TAG), oci:PATH[:TAG], an archive, or HOST/REPO:TAG.
        environment: research, staging or production; default: the one that settings say the repository belongs to.
            With --all, default: each image's own.
        all_: with --pack: show which tags of the catalog that policy would deny or newly allow, compared with the
            present one. Exits with 1 when some would be denied, and with 3 when some could not be decided.
        clear: sign and clear the tag NAME:TAG of the store when it is allowed.
        with_: let the findings of another scanner count too: its JSON report, or `trivy` to run it. Repeatable.
        vex: an OpenVEX document that you trust; what it calls not affected or fixed does not count. Repeatable.
        pack: a policy pack, folder or bundle, on top of the one that ships, in the place of those in TIDEWAITER_POLICY;
            nothing is recorded. Repeatable, the lowest first.
        key: what signs: name of a key of this home, path of a key file, env://VARIABLE, hook:COMMAND or pkcs11:URI.
        output: text or json.
    """
    if all_:
        return _everywhere(image, environment, pack, others=bool(clear or with_ or vex), output=output)
    image, given = _given(image, proposes=bool(pack), clears=clear)
    others = bool(with_ or vex or pack or key != trusting.KEY_NAME)
    if (code := _by_server(image, given, environment, clears=clear, others=others, output=output)) is not None:
        return code
    with workshop(looking=not clear) as shop:
        environment = _environment(environments.said_by(shop.settings), given, environment, clears=clear)
        # The key is opened first, so that a wrong password is found before the work.
        signers = trusting.signers(shop, key, asking(shop, key)) if clear else None
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
        base = resting.under(shop, named.image)
        asked = deciding.question(
            facts,
            result,
            base=base,
            environment=environment,
            attached=deciding.attached(shop, facts, signing=clear),
            named=given if isinstance(given, LayoutReference | ArchiveReference) else None,
            analysis=analysed.known(shop, facts.digest),
        )
        with deciding.engine(shop.settings, tuple(map(Path, pack)) or None) as rules:
            waivers = shop.catalog.waivers()
            verdict = deciding.verdict(rules, facts, result, asked, waivers=waivers)
            policy = rules.pack
        waived = stating.waived(result, asked, policy, waivers)
        decision = Decision(name=named.name, facts=facts, scan=result, waived=waived, verdict=verdict)
        kept = questions.asked(asked, facts, result, base)
        documents = {} if pack else clearing.remember(shop, named, own, decision, kept)
        if signers is not None and verdict.allowed:
            written = images.stored_descriptor(shop.store, facts.digest)
            contents = stating.contents(named.name, facts.digest, documents)
            clearing.vouch(shop, named.tag, written, contents, decision=decision, signers=signers)
        elif not pack:
            attesting.follow(shop, decision, lambda: signers or trusting.signers_of_home(shop, key))
    cleared = f"{named.name}:{named.tag}" if signers is not None and verdict.allowed else ""
    heard = [*coverage_lines(result), *outside_lines(result)]
    return _told(
        (f"{facts.reference}  {facts.digest}", *(f"  {line}" for line in heard)), verdict, policy, cleared, output
    )


def _told(head: Iterable[str], verdict: Verdict, policy: Pack, cleared: str, output: Format) -> int:
    """Print the verdict; its exit code."""
    if output == "json":
        emit_json(verdict)
        return exit_code(verdict)
    for line in (*head, *explain.lines(verdict, policy)):
        emit(line)
    if cleared:
        emit(f"cleared for {verdict.environment}: {cleared}")
    return exit_code(verdict)


class ServerVerdict(msgspec.Struct, frozen=True, kw_only=True):
    """What a server said of an image that it looked at itself."""

    reference: str
    digest: str
    verdict: Verdict
    attested: tuple[str, ...]
    not_attested: str
    cleared: bool
    signed: str = ""
    """The verdict as it was signed, a DSSE envelope."""


def ask_server(
    server: remote.Server, image: str, environment: Environment | None, *, clears: bool = False, digest: str = ""
) -> ServerVerdict:
    """The verdict of the server, which fetches the image itself.

    It is held against the key that the settings name (`remote_verdict`); without one that is said on standard error.

    Raises:
        UndeterminedError: what it says is not about this image or environment, so nothing is known.
        NotVerifiedError: a key is named, and did not sign it.
    """
    body = {"reference": image, "environment": environment, "clear": clears}
    said = server.work("/checks", body, ServerVerdict)
    verdict = said.verdict
    about = said.digest == verdict.artifact and digest in {"", said.digest}
    stands = not verdict.violations and _later(verdict.valid_until)
    if not about or environment not in {None, verdict.environment} or (verdict.allowed and not stands):
        raise UndeterminedError(
            f"{server.address} answered about {said.digest[:100]} for {verdict.environment} until "
            f"{verdict.valid_until[:40]} what does not fit the question, or contradicts itself",
            next_step="Run the command again; if it persists, ask whoever runs the server.",
            code="server_unusable",
        )
    console.tell(remote_verdict.line(verdict, said.signed, settings.load().server_key))
    return said


def _later(moment: str) -> bool:
    try:
        return clock.parse_rfc3339(moment) > clock.now()
    except (ValueError, OverflowError):
        return False


def server_lines(said: ServerVerdict) -> list[str]:
    """The server's verdict for people."""
    told = f"attested: {', '.join(map(predicates.short, said.attested))}" if said.attested else ""
    return [*explain.lines(said.verdict), told or f"not attested: {said.not_attested}"]


def _by_server(
    image: str, given: Reference, environment: Environment | None, *, clears: bool, others: bool, output: Format
) -> int | None:
    """The exit code when a server answered; None when there is none to ask."""
    with remote.opened() as server:
        if server is None:
            return None
        if not isinstance(given, StoreReference | RegistryReference):
            raise remote.not_through("checking a file or folder")
        if others:
            raise remote.not_through("`check` with --with, --vex, --pack or --key")
        said = ask_server(server, image, environment, clears=clears)
    if output == "json":
        emit_json(said.verdict)
        return exit_code(said.verdict)
    emit(f"{said.reference}  {said.digest}")
    for line in server_lines(said):
        emit(line)
    if said.cleared:
        emit(f"cleared for {said.verdict.environment}: {image}")
    return exit_code(said.verdict)


_USAGE = "Write `tidewaiter check IMAGE --environment NAME`."


def _given(image: str | None, *, proposes: bool, clears: bool) -> tuple[str, Reference]:
    if image is None:
        raise InputError("check needs an image", next_step=_USAGE, code="usage")
    if proposes and clears:
        raise InputError(
            "--pack asks what another policy would say, and clears nothing",
            next_step="Put the pack into TIDEWAITER_POLICY, then clear without --pack.",
        )
    return image, references.parse(image)


def repository_of(given: Reference) -> str:
    """The repository that the reference names, with its host; empty for a file."""
    if isinstance(given, RegistryReference):
        return f"{given.host}/{given.repository}"
    return given.name if isinstance(given, StoreReference) else ""


def _environment(said: Environments, given: Reference, environment: Environment | None, *, clears: bool) -> Environment:
    """The environment to decide for: the one given, else the one that settings say.

    Raises:
        InputError: neither is there.
        RefusedError: it is to be cleared for one that is milder than what settings say.
    """
    repository = repository_of(given)
    least = said.of_repository(repository) if repository else None
    if environment is None:
        if least is None:
            raise InputError("check needs --environment", next_step=_USAGE, code="usage")
        return least
    if clears:
        environments.require(said, repository, environment)
    elif least is not None and strictest(least, environment) != environment:
        console.tell(f"note: {repository} belongs to {least}; a verdict for {environment} does not clear it")
    return environment


def _everywhere(
    image: str | None, environment: Environment | None, packs: tuple[str, ...], *, others: bool, output: Format
) -> int:
    """What the policy in `packs` would change for the images of the catalog; 0, 1 or 3 as `check` says."""
    with remote.opened() as server:
        if server is not None:
            raise remote.not_through("`check --all`")
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
