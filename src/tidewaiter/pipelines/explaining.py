"""Step: how each rule answers about an image, and on which values."""

from tidewaiter.core import clock
from tidewaiter.core.environments import Environment
from tidewaiter.oci.reference import ArchiveReference, LayoutReference
from tidewaiter.pipelines import analysed, deciding, looking, resting
from tidewaiter.pipelines.images import NamedImage
from tidewaiter.pipelines.workshop import Workshop
from tidewaiter.policy.engine import EmbeddedEngine
from tidewaiter.policy.pack import Pack
from tidewaiter.policy.reasons import Reason, reasons
from tidewaiter.policy.results import compare
from tidewaiter.policy.verdict import decide
from tidewaiter.policy.weighing import weigh


def explain(
    workshop: Workshop,
    named: NamedImage,
    environment: Environment,
    *,
    given: LayoutReference | ArchiveReference | None = None,
) -> tuple[Pack, tuple[Reason, ...]]:
    """The policy, and the reason of each of its rules; waivers count as in a decision, and nothing is recorded.

    Args:
        workshop: this one.
        named: the image.
        environment: that it would be decided for.
        given: where it lies, when that is not the store.
    """
    facts = looking.inspect(workshop, named)
    asked = deciding.question(
        facts,
        looking.scan(workshop, facts),
        base=resting.under(workshop, named.image),
        environment=environment,
        attached=deciding.attached(workshop, facts, signing=False),
        named=given,
        analysis=analysed.known(workshop, facts.digest),
    )
    with deciding.engine(workshop.settings) as rules, EmbeddedEngine(rules.pack) as readable:
        waivers = workshop.catalog.waivers()
        marked = weigh(asked, waivers, clock.parse_rfc3339(asked.now), rules.pack).document
        results = compare(rules.pack.rules, rules.evaluate(marked), rules.pack.homes)
        verdict = decide(asked, rules, waivers=waivers)
        return rules.pack, reasons(rules.pack, marked, results, readable.readings(), verdict.waived)
