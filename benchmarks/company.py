"""A made-up company: 100,000 images that lie in registries, their packages, verdicts and tags, and what runs of them.

5,000 combinations of base and lock have 300 packages each: an image stands on one of 50 bases of 150 Debian packages,
and has 10 of 4,000 layers of 15 Python packages. Each combination has 20 images. They are recorded as `catalog sync`
records them; 20,000 workloads run an image each, 500 model versions are served by one, 50 owners answer for all of it.
"""

import hashlib
import random
from collections.abc import Iterator
from itertools import islice
from typing import Any

import msgspec

from tidewaiter.advisories.database import Database
from tidewaiter.advisories.finding import ScanResult
from tidewaiter.advisories.matcher import Matcher
from tidewaiter.catalog.catalog import Catalog
from tidewaiter.catalog.periods import Seen
from tidewaiter.catalog.synced import Batch, SeenTag, TakenManifest
from tidewaiter.catalog.workloads import Sighting
from tidewaiter.core import clock
from tidewaiter.inspection.facts import ImageFacts, LayerSummary
from tidewaiter.oci import digest as digests
from tidewaiter.oci import reference as references
from tidewaiter.oci.digest import Digest
from tidewaiter.oci.manifest import MANIFEST
from tidewaiter.pipelines import asking, deciding, tracing
from tidewaiter.pipelines.workshop import Workshop
from tidewaiter.policy import adapt
from tidewaiter.policy.input import PolicyInput
from tidewaiter.policy.verdict import Decider
from tidewaiter.sbom.component import Component

IMAGES_OF_A_SET, SETS_OF_A_REPOSITORY = 20, 2
BASES, BASE_PACKAGES = 50, 150
BUNDLES, BUNDLE_PACKAGES, BUNDLES_OF_AN_IMAGE = 4000, 15, 10
NAMES = 2500
POPULAR, EVERY = "company-package-0", 45
"""A package that is in every 45th layer of Python packages, so in a fifth of the images."""
REPOSITORIES_AT_ONCE = 25
"""Whose images are decided in one transaction: 1,000."""
IMAGES_OF_A_WORKLOAD, IMAGES_OF_A_MODEL, OWNERS = 5, 200, 50
"""As many images as there are for each workload, and for each model version: 20,000 and 500 in all."""


def digest(text: str) -> Digest:
    """A digest by name."""
    return Digest("sha256:" + hashlib.sha256(text.encode()).hexdigest())


def layer(name: str) -> LayerSummary:
    """A layer by name."""
    return LayerSummary(digest(f"blob {name}"), digest(f"diff {name}"), 1_000_000, 3_000_000, 500, name)


def base(number: int) -> tuple[Component, ...]:
    """The Debian packages of a base; each base has versions of its own."""
    of = digest(f"diff base {number}")
    return tuple(
        Component(
            kind="deb",
            name=f"library-{one}",
            version=f"1.{number}-{one}",
            purl=f"pkg:deb/debian/library-{one}@1.{number}-{one}",
            ecosystem="Debian:12",
            location="var/lib/dpkg/status",
            layer=of,
        )
        for one in range(BASE_PACKAGES)
    )


def bundle(number: int) -> tuple[Component, ...]:
    """The Python packages of a layer: names go round, so that each has many versions; one is in many layers."""
    of = digest(f"diff bundle {number}")
    names = [1 + (number * BUNDLE_PACKAGES + one) % (NAMES - 1) for one in range(BUNDLE_PACKAGES)]
    if number % EVERY == 0:
        names[0] = 0
    return tuple(
        Component(
            kind="python",
            name=f"company-package-{name}",
            version=f"1.{number}",
            purl=f"pkg:pypi/company-package-{name}@1.{number}",
            ecosystem="PyPI",
            location=f"usr/lib/python3/company_package_{name}",
            layer=of,
        )
        for name in names
    )


def place(repository: int) -> str:
    """Where the images of a repository lie."""
    return f"registry.example.com/team-{repository % 200}/model-{repository}"


def image(number: int, components: tuple[Component, ...], layers: tuple[LayerSummary, ...]) -> ImageFacts:
    """An image by number."""
    return ImageFacts(
        reference=f"{place(number // IMAGES_OF_A_SET // SETS_OF_A_REPOSITORY)}:1.{number}",
        digest=digest(f"image {number}"),
        os="linux",
        architecture="amd64",
        user="65532",
        runs_as_root=False,
        entrypoint=("python",),
        cmd=("-m", "serving"),
        env={"PATH": "/usr/local/bin:/usr/bin", "PYTHONPATH": "/app"},
        labels={"org.opencontainers.image.revision": hashlib.sha1(b"%d" % number).hexdigest()},
        annotations={},
        exposed_ports=("8080/tcp",),
        working_dir="/app",
        created="2026-01-01T00:00:00Z",
        operating_system=None,
        components=components,
        programs=(),
        layers=(*layers, layer(f"app {number}")),
        size=12_000_000,
        unpacked_size=36_000_000,
    )


def _stack(chance: random.Random) -> tuple[int, list[int]]:
    """The base and the bundles of a component set."""
    return chance.randrange(BASES), sorted(chance.sample(range(BUNDLES), BUNDLES_OF_AN_IMAGE))


def bundles_of(images: int) -> list[int]:
    """The bundles that so many images have: of few images not all."""
    chance = random.Random(6)
    return sorted({one for _ in range(0, images, IMAGES_OF_A_SET) for one in _stack(chance)[1]})


def repositories(images: int, *, first: int = 0) -> Iterator[tuple[str, list[ImageFacts]]]:
    """Where images lie, and these images (from the number `first`), those of one component set one after another."""
    chance = random.Random(6 + first)
    bases, bundles = [base(one) for one in range(BASES)], [bundle(one) for one in range(BUNDLES)]
    some: list[ImageFacts] = []
    for start in range(first, first + images, IMAGES_OF_A_SET):
        ground, chosen = _stack(chance)
        parts = (bases[ground], *(bundles[one] for one in chosen))
        components = tuple(sorted((one for part in parts for one in part), key=lambda one: one.purl))
        layers = (layer(f"base {ground}"), *(layer(f"bundle {one}") for one in chosen))
        some += [image(start + one, components, layers) for one in range(IMAGES_OF_A_SET)]
        if len(some) == IMAGES_OF_A_SET * SETS_OF_A_REPOSITORY:
            yield place(start // len(some)), some
            some = []


def batch(images: list[ImageFacts]) -> Batch:
    """The images of a repository with a tag each, as a registry shows them."""
    now = clock.now()
    return Batch(
        manifests=[
            TakenManifest(digest=one.digest, media_type=MANIFEST, kind="image", size=one.size, facts=one)
            for one in images
        ],
        tags=[SeenTag(one.reference.rpartition(":")[2], one.digest, now) for one in images],
        images=[one.digest for one in images],
    )


def base_image(number: int) -> ImageFacts:
    """A base alone."""
    found = image(-1 - number, base(number), ())
    ground = (layer(f"base {number}"),)
    return msgspec.structs.replace(found, digest=digest(f"base image {number}"), layers=ground)


def workload(number: int) -> str:
    """A workload by number."""
    return f"eu{number % 4}/team-{number % 200}/work-{number}"


def use(catalog: Catalog, count: int) -> None:
    """Record bases, what runs, what serves which model, and who answers for it."""
    chance, now = random.Random(8), clock.now()
    for number in range(BASES):
        ground = base_image(number)
        catalog.record_facts(ground, repository=f"bases/debian-{number}")
        catalog.approve_base(f"debian-{number}", ground.digest, owner="platform", expires=None)
    seen = [
        Sighting(
            cluster=f"eu{number % 4}",
            namespace=f"team-{number % 200}",
            name=f"work-{number}",
            digest=digest(f"image {chance.randrange(count)}"),
            seen_at=now,
        )
        for number in range(count // IMAGES_OF_A_WORKLOAD)
    ]
    for start in range(0, len(seen), 1000):
        tracing.record_workloads(catalog, seen[start : start + 1000])
    for number in range(count // IMAGES_OF_A_MODEL):
        served = Seen(digest(f"image {chance.randrange(count)}"), now, "production")
        tracing.record_model(catalog, (f"model-{number}", "1"), served)
    for number in range(200):
        for cluster in range(4):
            tracing.set_owner(catalog, "namespace", f"eu{cluster}/team-{number}", f"owner-{number % OWNERS}")
        tracing.set_owner(catalog, "repository", f"registry.example.com/team-{number}", f"owner-{number % OWNERS}")


def judge(workshop: Workshop, database: Database, images: int) -> None:
    """Decide every image once, for production, and record it with what it was asked about."""
    matcher, now = Matcher(database), clock.now()
    how: dict[str, Any] = {"environment": "production", "now": now, "attached": adapt.NOTHING_KNOWN}
    every = repositories(images)
    with deciding.engine(workshop.settings) as rules:
        decider = Decider(rules)
        while some := [one for _, few in islice(every, REPOSITORIES_AT_ONCE) for one in few]:
            classes = [some[start : start + IMAGES_OF_A_SET] for start in range(0, len(some), IMAGES_OF_A_SET)]
            scans = [matcher.match(alike[0].components) for alike in classes]
            asked = [_questions(alike, scan, how) for alike, scan in zip(classes, scans, strict=True)]
            rules.prepare([document for few in asked for document in few])
            verdicts, kept = [], []
            for alike, scan, documents in zip(classes, scans, asked, strict=True):
                shared = {"findings": deciding.findings_digest(scan), "components": alike[0].component_set}
                first = asking.asked(documents[0], alike[0], scan, None)
                for one, document in zip(alike, documents, strict=True):
                    evidence = {"facts": digests.of(msgspec.json.encode(one, order="sorted")), **shared}
                    verdicts.append(decider.decide(document, evidence=evidence))
                    kept.append(first._replace(own=msgspec.json.encode(document.image)))
            workshop.catalog.record_verdicts(verdicts, "first", kept)


def _questions(alike: list[ImageFacts], scan: ScanResult, how: dict[str, Any]) -> list[PolicyInput]:
    """The questions about images of a class: what they share is the same object in all of them."""
    asked = [_question(one, alike[0], scan, how) for one in alike]
    return [msgspec.structs.replace(asked[0], image=one.image) for one in asked]


def _question(one: ImageFacts, first: ImageFacts, scan: ScanResult, how: dict[str, Any]) -> PolicyInput:
    """The question about one image; its packages only in that about the first of its class."""
    shown = one if one is first else msgspec.structs.replace(one, components=())
    return adapt.build_input(shown, scan, reference=references.parse(one.reference), **how)
