"""What a policy change would mean for the images of the catalog, before it is switched on.

Every tag is decided twice: with the policy of the settings, and with the one that is proposed. No verdict is recorded;
what rules answered about classes of images is, so that asking once more costs little.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Literal

import msgspec

from tidewaiter.advisories.database import Database
from tidewaiter.advisories.matcher import Matcher
from tidewaiter.catalog.listing import StandingTag
from tidewaiter.core import clock
from tidewaiter.core.environments import ENVIRONMENTS, Environment, strictest
from tidewaiter.core.errors import TidewaiterError
from tidewaiter.oci import digest as digests
from tidewaiter.pipelines import analysed, deciding, images, looking, resting
from tidewaiter.pipelines.images import StoredReference
from tidewaiter.pipelines.workshop import Workshop
from tidewaiter.policy import environments
from tidewaiter.policy.classes import ClassEngine
from tidewaiter.policy.environments import Environments
from tidewaiter.policy.input import PolicyInput
from tidewaiter.policy.verdict import Verdict, decide

Answer = Literal["allow", "deny", "undetermined"]
Change = Literal["denied", "allowed", "undetermined", "same"]


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What two policies say of a tag in an environment."""

    reference: str
    digest: str
    visibility: str
    """What the tag says of its image: `cleared`, `built` or `pulled`."""
    environment: str
    """Empty when none was named, and none is known of the image."""
    before: Answer
    after: Answer
    change: Change
    """`denied` and `allowed`: by the proposed policy, not by the present one."""
    rules: tuple[str, ...]
    """Rules that deny now and did not before; of an image that would be allowed, those that deny no longer."""
    reason: str
    """Why it could not be decided; empty when it could."""


class WhatIf(msgspec.Struct, frozen=True, kw_only=True):
    """What a proposed policy would change."""

    present: str
    """Revision of the policy of the settings."""
    proposed: str
    outcomes: tuple[Outcome, ...]
    """By change (`denied`, `undetermined`, `allowed`, `same`), then by name."""

    def count(self, change: Change) -> int:
        """How many outcomes are of that kind."""
        return sum(one.change == change for one in self.outcomes)


_ORDER: tuple[Change, ...] = ("denied", "undetermined", "allowed", "same")


def compare(workshop: Workshop, packs: Sequence[Path], environment: Environment | None = None) -> WhatIf:
    """Decide every tag of the catalog with the policy of the settings and with `packs` in its place.

    Args:
        workshop: holds catalog and store.
        packs: layers on top of the pack that ships, the lowest first.
        environment: to decide for; without it each image's own: that it was cleared for, else that its project names,
            else that of its newest verdict; or the one that settings say, if that is stricter.

    Raises:
        InputError: a pack is malformed, or would loosen what lies below it.
        UndeterminedError: the engine does not start.
    """
    with ExitStack() as stack:
        present = stack.enter_context(deciding.engine(workshop.settings))
        proposed = stack.enter_context(deciding.engine(workshop.settings, packs))
        outcomes = sorted(
            _outcomes(workshop, present, proposed, environment),
            key=lambda one: (_ORDER.index(one.change), one.reference, one.environment),
        )
    return WhatIf(present=present.pack.revision, proposed=proposed.pack.revision, outcomes=tuple(outcomes))


def _outcomes(
    workshop: Workshop, present: ClassEngine, proposed: ClassEngine, wanted: Environment | None
) -> Iterator[Outcome]:
    now = clock.rfc3339(clock.now())
    waivers = workshop.catalog.waivers()
    tags = workshop.catalog.standing_tags()
    said = environments.said_by(workshop.settings)
    with (
        Database(workshop.settings.home.advisories) as database,
        workshop.progress.task("Deciding images", total=len(tags)) as task,
    ):
        matcher = Matcher(database)
        for tag in tags:
            environment = wanted or _environment(said, tag)
            if environment is None:
                yield _unknown(tag, "no environment is known of it; name one with --environment")
            else:
                try:
                    asked = _question(workshop, matcher, tag, environment, now)
                except TidewaiterError as error:
                    yield _unknown(tag, error.message)
                else:
                    before, after = (decide(asked, engine, waivers=waivers) for engine in (present, proposed))
                    yield _outcome(tag, before, after)
            task.advance()


def _environment(said: Environments, tag: StandingTag) -> Environment | None:
    found = [one for one in ENVIRONMENTS if one in {tag.environment, said.of_repository(tag.repository)}]
    return strictest(*found) if found else None


def _question(
    workshop: Workshop, matcher: Matcher, tag: StandingTag, environment: Environment, now: str
) -> PolicyInput:
    stored = StoredReference(name=tag.repository, tag=tag.name, digest=digests.parse(tag.digest))
    named = images.open_stored(workshop, stored)
    facts = looking.inspect(workshop, named)
    asked = deciding.question(
        facts,
        matcher.match(facts.components),
        base=resting.under(workshop, named.image),
        environment=environment,
        attached=deciding.attached(workshop, facts, signing=tag.visibility != "cleared"),
        analysis=analysed.known(workshop, facts.digest),
    )
    # One moment for all of them: images of one class are then asked about in the same words.
    return msgspec.structs.replace(asked, now=now)


def _answer(verdict: Verdict) -> Answer:
    return "undetermined" if verdict.undetermined else verdict.verdict


def _outcome(tag: StandingTag, before: Verdict, after: Verdict) -> Outcome:
    old, new = ({item.rule for item in verdict.violations} for verdict in (before, after))
    answers = _answer(before), _answer(after)
    change: Change = "same"
    if answers[1] == "undetermined":
        change = "undetermined"
    elif answers[0] != "deny" and answers[1] == "deny":
        change = "denied"
    elif answers[0] != "allow" and answers[1] == "allow":
        change = "allowed"
    broken = next((item for item in after.violations if item.severity == "undetermined"), None)
    return Outcome(
        reference=f"{tag.repository}:{tag.name}",
        digest=tag.digest,
        visibility=tag.visibility,
        environment=after.environment,
        before=answers[0],
        after=answers[1],
        change=change,
        rules=tuple(sorted(old - new if change == "allowed" else new - old)),
        reason=f"{broken.rule}: {'; '.join(broken.evidence)}" if broken and change == "undetermined" else "",
    )


def _unknown(tag: StandingTag, reason: str) -> Outcome:
    return Outcome(
        reference=f"{tag.repository}:{tag.name}",
        digest=tag.digest,
        visibility=tag.visibility,
        environment="",
        before="undetermined",
        after="undetermined",
        change="undetermined",
        rules=(),
        reason=reason,
    )
