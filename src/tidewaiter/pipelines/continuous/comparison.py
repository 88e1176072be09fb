"""What an image changes beside that of the branch that it shall be merged into: packages, size, findings."""

from collections.abc import Iterable

import msgspec

from tidewaiter.advisories.severity import Level


class Known(msgspec.Struct, frozen=True, order=True):
    """An advisory that touches a package."""

    advisory: str
    name: str
    version: str
    severity: Level


class Side(msgspec.Struct, frozen=True, kw_only=True):
    """One of the two images."""

    reference: str
    digest: str
    commit: str = ""
    size: int
    """Compressed bytes."""
    packages: dict[tuple[str, str], tuple[str, ...]]
    """Versions by kind and name, sorted."""
    findings: tuple[Known, ...]


class Changed(msgspec.Struct, frozen=True):
    """A package that is in one of them only, or in other versions."""

    kind: str
    name: str
    before: tuple[str, ...]
    after: tuple[str, ...]


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """What changed since the image of `branch`."""

    branch: str
    before: Side
    size: int
    """Compressed bytes that the new image has more."""
    packages: tuple[Changed, ...]
    new: tuple[Known, ...]
    """Findings that the old image has not."""
    gone: tuple[Known, ...]


def packages(found: Iterable[tuple[str, str, str]]) -> dict[tuple[str, str], tuple[str, ...]]:
    """`Side.packages` of kinds, names and versions."""
    versions: dict[tuple[str, str], list[str]] = {}
    for kind, name, version in found:
        versions.setdefault((kind, name), []).append(version)
    return {key: tuple(sorted(values)) for key, values in sorted(versions.items())}


def compare(branch: str, before: Side, after: Side) -> Comparison:
    """What changed from `before`, the image of `branch`, to `after`.

    A finding is the same when advisory and package are: another version that has it still is no news.
    """
    names = sorted(before.packages.keys() | after.packages.keys())
    pairs = [(key, before.packages.get(key, ()), after.packages.get(key, ())) for key in names]
    old, new = ({(one.advisory, one.name) for one in side.findings} for side in (before, after))
    return Comparison(
        branch=branch,
        before=before,
        size=after.size - before.size,
        packages=tuple(Changed(*key, was, now) for key, was, now in pairs if was != now),
        new=tuple(one for one in after.findings if (one.advisory, one.name) not in old),
        gone=tuple(one for one in before.findings if (one.advisory, one.name) not in new),
    )
