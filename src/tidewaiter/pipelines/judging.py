"""The judge of the gate: facts from the bytes that were pushed, findings, verdict; all of it recorded.

1. Facts come from the layers in the store. What a label, an SBOM or whoever pushes says of the image counts as a claim.
   They, both SBOM documents and the findings are recorded: whoever reviews a waiver sees them.
2. The verdict is for the environment that the server's settings name; who built the image is told by a provenance that
   lies beside it. It is recorded before the answer is given; a denial takes back tags, as everywhere.
3. The verdict is signed with the server's key for verdicts, where it has one, and refers to the image from then on.

Whatever cannot be found out is no answer, and what has none stays out.
"""

import contextlib
import gc
import logging
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor

import msgspec

from tidewaiter.catalog import judged as recording
from tidewaiter.catalog.catalog import Catalog
from tidewaiter.catalog.gate import GateCatalog, Put
from tidewaiter.catalog.judged import Judged
from tidewaiter.catalog.records import ScanRecord
from tidewaiter.core import clock, limits, memory
from tidewaiter.core.environments import Environment
from tidewaiter.core.errors import TidewaiterError, UndeterminedError
from tidewaiter.core.progress import SILENT
from tidewaiter.core.settings import Settings
from tidewaiter.gate import kinds
from tidewaiter.gate.judging import Allowed, Denied, Judgement, Undetermined
from tidewaiter.gate.threads import Threads
from tidewaiter.inspection import image as inspection
from tidewaiter.inspection.layer_facts import LayerFacts
from tidewaiter.oci import image as images
from tidewaiter.oci import manifest as documents
from tidewaiter.oci.layout import Layout
from tidewaiter.oci.manifest import Descriptor, Manifest
from tidewaiter.pipelines import asking, deciding, looking, rehearsing, resting, trusting
from tidewaiter.pipelines import vouched as vouching
from tidewaiter.pipelines.attachments import attaching, attesting, stating
from tidewaiter.pipelines.attachments.attesting import Decision
from tidewaiter.pipelines.images import NamedImage
from tidewaiter.pipelines.reading_ahead import ReadingAhead
from tidewaiter.pipelines.standing_engine import StandingEngine
from tidewaiter.pipelines.standing_matcher import StandingMatcher
from tidewaiter.pipelines.trusting import VERDICT_KEY, Signers
from tidewaiter.pipelines.vouched import Vouched
from tidewaiter.pipelines.workshop import Workshop, opened
from tidewaiter.policy import environments
from tidewaiter.policy.verdict import Verdict, Violation
from tidewaiter.signing import keyring
from tidewaiter.signing.gathered import Format, Gathered

_EVIDENCE = 5
_ACTOR = "gate"
_FORMATS: tuple[Format, ...] = ("bundle",)
_LOG = logging.getLogger("tidewaiter.gate")


class StoreJudge:
    """Judges images of the store of a home. Safe from any thread."""

    def __init__(
        self,
        settings: Settings,
        catalog: Callable[[], Catalog],
        *,
        send: "Callable[[str, Descriptor], None]" = lambda *_: None,
        ahead: ReadingAhead | None = None,
    ) -> None:
        """`catalog` hands over that of the home, open; it may raise `StorageError`, and is asked again next time.

        `send` brings what is said of an image of a repository to where all must lie that is seen here. `ahead` may be
        reading some of its layers, and is told how to have all ready that the first answer would wait for.
        """
        self._ahead = ahead
        if ahead is not None:
            ahead.prepare, ahead.found = self.prepare, self._foresee
        self._send = send
        self._settings = settings
        self._opened = catalog
        self._rules = StandingEngine(settings)
        self._matcher = StandingMatcher(settings.home.advisories)
        self._aside = Threads(limits.GATE_JUDGES, "documents")
        self._said = environments.said_by(settings)
        self._told = False
        self._preparing = threading.Lock()

    def _catalog(self) -> GateCatalog:
        return GateCatalog(self._opened().database)

    @contextlib.contextmanager
    def _shop(self) -> Iterator[Workshop]:
        with opened(self._settings, SILENT) as shop:
            shop.lend(self._opened())
            yield shop

    def close(self) -> None:
        """End what stands ready."""
        self._rules.close()
        self._matcher.close()
        self._aside.close(limits.GATE_STOP_SECONDS)

    def prepare(self) -> None:
        """Have all ready that the first answer would wait for, once, where the settings say that anything is judged."""
        judged = self._said.default is not None or any(one.repositories for one in self._said.tables)
        if not judged or not self._preparing.acquire(blocking=False):
            return
        with contextlib.suppress(TidewaiterError):  # what is wrong is said when somebody asks
            inspection.load()
            looking.load()
            self._matcher.match(())
            with self._shop() as shop, self._rules.held() as rules:
                rehearsing.rehearse(shop, rules)
        gc.freeze()  # of all that stays nothing is garbage, and looking for it takes as long as a decision
        memory.give_back()

    def _foresee(self, layer: LayerFacts) -> None:
        """Work out what advisories say of the packages of one layer: most of them are the image's, too."""
        from tidewaiter.inspection.merge import Merged  # all catalogers; a server that judges nothing does without

        self._matcher.match(Merged([layer], "amd64").components())

    def __call__(self, repository: str, reference: str, descriptor: Descriptor, /) -> Judgement:
        """The answer about one image; raises what reading it raises."""
        environment = self._said.of_repository(repository)
        if environment is None:
            raise UndeterminedError(
                f"nobody said which environment {repository} is for",
                next_step="Name it in an [[environment]] table of the server's settings.",
            )
        by_digest = ":" in reference
        shown = f"{repository}@{reference}" if by_digest else f"{repository}:{reference}"
        with self._shop() as shop:
            image = images.load(shop.store, descriptor)
            if self._ahead is not None:
                self._ahead.settle(blob.digest for blob, _ in image.layers)
            named = NamedImage(image=image, reference=shown, name=repository, tag="" if by_digest else reference)
            beside = vouching.gather(self._catalog(), shop.store, repository, image.digest)
            who = vouching.vouched(self._settings, beside, image.digest, repository=repository, environment=environment)
            decision = judge(
                shop, named, environment, who, engine=self._rules, matcher=self._matcher, aside=self._aside
            )
            self._attest(shop, descriptor, decision, beside)
        return answer(decision.verdict, shown)

    def _attest(self, shop: Workshop, image: Descriptor, decision: Decision, beside: Gathered) -> None:
        """Step 3. Where there is no key for verdicts none is signed; what keeps it from being signed is logged once."""
        name, environment = decision.name, decision.verdict.environment
        try:
            if not any(one.name == VERDICT_KEY and one.has_private for one in keyring.read(shop.settings.home.keys)):
                return
            key = trusting.open_key(shop, VERDICT_KEY, lambda: trusting.require_password(shop))
            if decision.verdict.allowed:
                ring = keyring.home(shop.settings.home.keys)
                made = []
                for said, by in attesting.decided(shop, decision, key):
                    keyring.require_may_sign(
                        by.trusted, said.predicate_type, at=clock.now(), repository=name, environment=environment
                    )
                    made.append(attesting.envelope(image.digest, said, by, ring=ring, there=beside))
                attaching.attach(shop, image, made, _FORMATS)
            else:
                attesting.follow(shop, decision, lambda: Signers(key, key))
            said_of = attaching.stored(shop, image.digest).referrers
            publish(self._catalog(), shop.store, name, environment, said_of, send=self._send)
        except TidewaiterError as error:
            if not self._told:
                self._told = True
                _LOG.warning("verdicts are not signed: %s", error.message)


def publish(
    gate: GateCatalog,
    store: Layout,
    repository: str,
    environment: Environment,
    referrers: Iterable[Descriptor],
    *,
    send: Callable[[str, Descriptor], None] = lambda *_: None,
) -> None:
    """Let the repository show those manifests of the store; it has them when somebody lists what refers to the image.

    Raises:
        RefusedError: it has too many.
        UndeterminedError: it could not be brought where it must lie first.
        StorageError: the store or catalog cannot be read or written.
    """
    for one in referrers:
        if gate.any_manifest(repository, one.digest) is not None:
            continue
        send(repository, one)
        data = store.read(one.digest)
        document = documents.decode_manifest(data, one.media_type)
        parsed = kinds.parse(data, one.media_type)
        if isinstance(document, Manifest):
            for blob in (document.config, *document.layers):
                gate.add_blob(repository, blob.digest, blob.size)
        gate.put(
            Put(
                repository=repository,
                digest=one.digest,
                media_type=parsed.media_type,
                size=len(data),
                artifact_type=parsed.artifact_type,
                annotations=parsed.annotations,
                subject=parsed.subject.digest if parsed.subject else None,
                blobs=parsed.blobs,
                manifests=(),
                members=parsed.members,
                tags=(),
                pushed_by=_ACTOR,
            )
        )
        gate.decided(repository, one.digest, allowed=True, environment=environment, answer="", actor=_ACTOR)


def judge(
    workshop: Workshop,
    named: NamedImage,
    environment: Environment,
    who: Vouched,
    *,
    engine: StandingEngine,
    matcher: StandingMatcher,
    aside: Executor,
) -> Decision:
    """The verdict on an image of the store, recorded with what it rests on; what can be done meanwhile is, `aside`.

    Raises:
        InputError: the image is malformed or over the limits.
        UndeterminedError: it could not be read.
    """
    facts = looking.inspect(workshop, named)  # step 1
    documents = aside.submit(looking.store_sboms, workshop, facts)
    scan = matcher.match(facts.components)
    scanned = clock.now()
    base = resting.under(workshop, named.image)
    asked = deciding.question(
        facts,
        scan,
        base=base,
        environment=environment,
        attached=who.attached,
        builder=who.builder,
        registered_builders=who.registered,
    )
    with engine.held() as rules:  # step 2
        waivers = workshop.catalog.waivers()
        verdict = deciding.verdict(rules, facts, scan, asked, waivers=waivers)
        waived = stating.waived(scan, asked, rules.pack, waivers)
    judged = Judged(
        repository=named.name,
        facts=facts,
        documents=tuple(documents.result()),
        scan=ScanRecord(digest=facts.digest, result=scan, scanned_at=scanned),
        verdict=msgspec.to_builtins(verdict),
        asked=asking.asked(asked, facts, scan, base),
    )
    for tag in recording.record(workshop.catalog.database, judged):
        workshop.store.untag(tag)
    return Decision(name=named.name, facts=facts, scan=scan, waived=waived, verdict=verdict)


def answer(verdict: Verdict, shown: str) -> Judgement:
    """What the gate answers, with words for whoever pushed `shown`."""
    environment = verdict.environment
    if verdict.allowed:
        return Allowed(environment)
    if verdict.undetermined:
        return Undetermined(environment, "; ".join(f"{one.rule}: {one.message}" for one in verdict.violations))
    return Denied(environment, verdict.violations, message(verdict, shown))


def message(verdict: Verdict, shown: str) -> str:
    """Why, with what was found and what to change; clients print it as it is, and some on one line."""
    count = len(verdict.violations)
    rules = "1 rule" if count == 1 else f"{count} rules"
    lines = [f"{shown} may not go to {verdict.environment}: {rules} not satisfied."]
    lines += [_violation(number, one) for number, one in enumerate(verdict.violations, 1)]
    lines.append(
        f"It waits in quarantine as {verdict.artifact}: change what is named and push again, or ask for a waiver; "
        "once that is approved the image is released without another push."
    )
    return "\n".join(lines)


def _violation(number: int, one: Violation) -> str:
    found = _listed(one.evidence)
    return f"({number}) {one.rule} [{one.severity}] {one.message} Found: {found}. Change: {_plain(one.remedy)}"


def _listed(evidence: Sequence[str]) -> str:
    shown = [_plain(line) for line in evidence[:_EVIDENCE]]
    if len(evidence) > _EVIDENCE:
        shown.append(f"{len(evidence) - _EVIDENCE} more")
    return "; ".join(shown) or "nothing more"


def _plain(text: str) -> str:
    """`text` without what could steer a terminal, or end a line: evidence holds names that came out of the image."""
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text)
