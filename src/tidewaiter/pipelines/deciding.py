"""Step: facts and findings to a verdict."""

from collections.abc import Iterator
from contextlib import contextmanager

import msgspec

from tidewaiter.advisories.finding import ScanResult
from tidewaiter.core import clock
from tidewaiter.core.project import Environment
from tidewaiter.inspection.facts import ImageFacts
from tidewaiter.oci import digest as digests
from tidewaiter.oci import reference as references
from tidewaiter.policy.adapt import LOCAL_BUILDER, build_input
from tidewaiter.policy.engine import EmbeddedEngine
from tidewaiter.policy.pack import default_pack
from tidewaiter.policy.verdict import Verdict, decide


@contextmanager
def engine() -> Iterator[EmbeddedEngine]:
    """The embedded engine with the default pack."""
    with EmbeddedEngine(default_pack()) as opened:
        yield opened


def verdict(rules: EmbeddedEngine, facts: ImageFacts, scan: ScanResult, *, environment: Environment) -> Verdict:
    """The verdict of `environment` on an image.

    What cannot be evaluated counts against the image. Without a server every image counts as built locally.
    """
    document = build_input(
        facts,
        scan,
        reference=references.parse(facts.reference),
        environment=environment,
        now=clock.now(),
        builder=LOCAL_BUILDER,
    )
    evidence = {
        "facts": digests.of(msgspec.json.encode(facts, order="sorted")),
        "findings": digests.of(msgspec.json.encode((scan.findings, scan.not_checked), order="sorted")),
        "components": facts.component_set,
    }
    return decide(document, rules, evidence=evidence)
