"""What to bump, so that the most images are rid of the findings: bases and dependencies, by what they clear.

A package version in a layer of a base is mended by another base; one that an image brings itself by another version of
that package. What an image needs is all of these; a fix clears an image by itself when it is all that it needs.
Of a package with several fixed versions the lowest is named that is one, or above all, for each finding.
"""

import datetime as dt
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from typing import Literal, NamedTuple

import msgspec
from sqlalchemy import Connection, and_, select, union

from tidewaiter.advisories.advisory import family
from tidewaiter.advisories.versions import order_of
from tidewaiter.catalog import schema
from tidewaiter.catalog.among import among, among_texts, lots
from tidewaiter.catalog.reach.images import Base
from tidewaiter.catalog.reach.versions import Versions


class Fix(msgspec.Struct, frozen=True, kw_only=True):
    """One bump, and what it clears."""

    kind: Literal["base", "dependency"]
    name: str
    """Of the base, or of the package."""
    ecosystem: str
    """Empty for a base."""
    versions: tuple[str, ...]
    """What it replaces: digests of the base, or versions of the package."""
    to: str
    """Lowest version without these findings; of a base the digest of one that is known and has none, else empty."""
    packages: tuple[str, ...]
    """Package URLs that it replaces."""
    images: int
    """That it clears by itself."""
    part: int
    """That need it, but others as well."""
    findings: int
    """Package version and advisory, of all that it replaces."""
    running: int
    """Of `images`, those that run."""
    repositories: int
    """In which it is to be done: those with one of these images."""
    why: str


class Place(NamedTuple):
    """Images with the same packages from the same bases."""

    components: Sequence[int]
    bases: Mapping[int, Base]
    """By row number of an affected layer that they have from a base, or as that base."""
    repositories: Collection[str]
    images: int
    running: int


class _Key(NamedTuple):
    kind: Literal["base", "dependency"]
    ecosystem: str
    name: str


class _Tally:
    """What is counted of one fix."""

    def __init__(self) -> None:
        self.images = self.part = self.running = 0
        self.components: set[int] = set()
        self.digests: set[str] = set()
        self.repositories: set[str] = set()


def find(connection: Connection, versions: Versions, places: Sequence[Place]) -> tuple[tuple[Fix, ...], int]:
    """Fixes, the one that clears the most images first; and how many images have a finding that none is known for."""
    layers = {number: [layer for layer, _ in pairs] for number, pairs in versions.layers.items()}
    fixed = {number: all(hit.fixed_in for hit in hits) for number, hits in versions.hits.items() if hits}
    clean = _clean(connection, versions, {base.name for one in places for base in one.bases.values()})
    tallies: dict[_Key, _Tally] = defaultdict(_Tally)
    unfixed = 0
    for one in places:
        needed: set[_Key] = set()
        hopeless = False
        for component in one.components:
            if component not in fixed:
                continue
            base = next((one.bases[layer] for layer in layers.get(component, ()) if layer in one.bases), None)
            of = versions.components[component]
            key = _Key("dependency", of.ecosystem, of.name) if base is None else _Key("base", "", base.name)
            hopeless |= not (fixed[component] or clean.get(key.name if base else ""))
            tallies[key].components.add(component)
            if base is not None:
                tallies[key].digests.add(base.digest)
            needed.add(key)
        unfixed += one.images if hopeless else 0
        for key in needed:
            tally = tallies[key]
            tally.repositories.update(one.repositories)
            if len(needed) == 1 and not hopeless:
                tally.images += one.images
                tally.running += one.running
            else:
                tally.part += one.images
    found = (_fix(versions, key, tally, fixed, clean) for key, tally in tallies.items())
    useful = [one for one in found if one is not None]
    return tuple(sorted(useful, key=lambda one: (-one.images, -one.findings, one.name, one.ecosystem))), unfixed


def _fix(
    versions: Versions, key: _Key, tally: _Tally, fixed: Mapping[int, bool], clean: Mapping[str, str]
) -> Fix | None:
    """The fix, or None when no version is known that mends anything."""
    mended = sorted(tally.components)
    to = clean.get(key.name, "") if key.kind == "base" else ""
    if not to:
        mended = [number for number in mended if fixed[number]]
    if not mended:
        return None
    purls = tuple(sorted(versions.components[number].purl for number in mended))
    if key.kind == "dependency":
        to = _mending(key.ecosystem, {tuple(hit.fixed_in) for number in mended for hit in versions.hits[number]})
        replaced = _sorted(key.ecosystem, {versions.components[number].version for number in mended})
        how = f"take {key.name} {to}, repositories: {len(tally.repositories)}"
    else:
        replaced = tuple(sorted(tally.digests))
        how = f"rebase on {key.name}@{to}" if to else f"build the base {key.name} anew with fixed packages, then rebase"
    more = f"; it is part of what {tally.part} more need" if tally.part else ""
    return Fix(
        kind=key.kind,
        name=key.name,
        ecosystem=key.ecosystem,
        versions=replaced,
        to=to,
        packages=purls,
        images=tally.images,
        part=tally.part,
        findings=sum(len(versions.hits[number]) for number in mended),
        running=tally.running,
        repositories=len(tally.repositories),
        why=f"{how}; it clears {tally.images} images by itself{more}",
    )


def _sorted(ecosystem: str, texts: Collection[str]) -> tuple[str, ...]:
    """Versions from the lowest to the highest; those that cannot be compared by their text, at the end."""
    order = order_of(family(ecosystem), "ECOSYSTEM")
    known, odd = [], []
    for text in sorted(texts):
        if order is None:
            odd.append(text)
            continue
        try:
            known.append((order(text), text))
        except ValueError:
            odd.append(text)
    known.sort(key=lambda pair: pair[0])
    return (*(text for _, text in known), *odd)


def _mending(ecosystem: str, fixes: Collection[Sequence[str]]) -> str:
    """The lowest version that is a fix of each finding, or above all fixes of it.

    Between the fix of one branch and that of the next one a version may be affected again.
    """
    order = {text: place for place, text in enumerate(_sorted(ecosystem, {text for some in fixes for text in some}))}
    return next(
        text
        for text, place in order.items()
        if all(text in some or place > max(order[one] for one in some) for some in fixes)
    )


def _clean(connection: Connection, versions: Versions, names: Collection[str]) -> dict[str, str]:
    """By name: digest of a base that was inspected, has none of the touched versions, and is not retired.

    One that is approved before one that is only known; of these the one that was recorded last.
    """
    touched = [number for number, hits in versions.hits.items() if hits]
    of, said, image = schema.artifact.c, schema.base_approval.c, schema.base_image.c
    member = schema.component_set_member.c
    found: dict[str, tuple[bool, dt.datetime, str]] = {}
    for some in lots(sorted(names)):
        known = union(
            select(schema.base.c.name.label("name"), image.digest.label("digest"))
            .join(schema.base_image, image.base_id == schema.base.c.id)
            .where(among_texts(schema.base.c.name, some)),
            select(said.name.label("name"), said.digest.label("digest")).where(among_texts(said.name, some)),
        ).subquery()
        rows = connection.execute(
            select(known, of.component_set_id, of.recorded_at, said.approved_at, said.retired_at)
            .join(schema.artifact, of.digest == known.c.digest)
            .join(schema.base_approval, and_(said.name == known.c.name, said.digest == known.c.digest), isouter=True)
            .where(of.component_set_id.is_not(None))
        ).all()
        sets = sorted({row.component_set_id for row in rows if row.retired_at is None})
        dirty: set[int] = set()
        for part in lots(touched):
            for few in lots(sets):
                query = select(member.component_set_id).where(
                    among(member.component_id, part), among(member.component_set_id, few)
                )
                dirty.update(connection.scalars(query))
        for row in rows:
            if row.retired_at is None and row.component_set_id not in dirty:
                better = (row.approved_at is not None, row.recorded_at, row.digest)
                found[row.name] = max(found.get(row.name, better), better)
    return {name: digest for name, (_, _, digest) in found.items()}
