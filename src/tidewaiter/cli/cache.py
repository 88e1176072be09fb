"""`cache status` and `cache prune`: what a home holds beside its images."""

from typing import Annotated

from tidewaiter.cli import console
from tidewaiter.cli.console import Format, emit, emit_json, size
from tidewaiter.cli.parameters import Parameter
from tidewaiter.core import settings, sizes
from tidewaiter.core.errors import InputError
from tidewaiter.pipelines import pruning
from tidewaiter.pipelines.pruning import Pruned


def status(*, output: Annotated[Format, Parameter(name="--format")] = "text") -> int:
    """Show what lies in the cache and in the store, and the bound of the cache.

    Args:
        output: text or json.
    """
    found = pruning.survey(settings.load())
    if output == "json":
        emit_json(_document(found, removed=False))
        return 0
    console.table(
        ("section", "entries", "size", "in use"),
        [(one.name, str(one.entries), size(one.bytes), str(one.in_use)) for one in found.sections],
    )
    emit(f"cache   {size(found.before_bytes)} of {size(found.bound or 0)}")
    emit(f"images  {size(found.images_bytes)}, never pruned")
    return 0


def prune(
    *,
    keep: str | None = None,
    older_than: float | None = None,
    dry_run: bool = False,
    output: Annotated[Format, Parameter(name="--format")] = "text",
) -> int:
    """Remove cached things, least recently used first, until the cache is within its bound.

    Layers that no image needs count as cached; what a tag, a signature, a document or a running command needs stays.
    Without options the bound is the setting `cache_bytes`.

    Args:
        keep: bytes that may stay, for example 20GB, 512MiB or 0.
        older_than: remove what was not used for so many days; alone, it leaves everything younger.
        dry_run: only say what would be removed.
        output: text or json.
    """
    opened = settings.load()
    if older_than is not None and older_than < 0:
        raise InputError("--older-than is negative", next_step="Give a number of days.", code="usage")
    bound = sizes.parse(keep, what="--keep") if keep is not None else None
    if bound is None and older_than is None:
        bound = opened.cache_bytes
    done = pruning.prune(opened, keep=bound, unused_days=older_than, dry_run=dry_run)
    if output == "json":
        emit_json(_document(done, removed=True))
        return 0
    gone = [one for one in done.sections if one.removed_entries]
    if gone:
        console.table(
            ("section", "removed", "size"),
            [(one.name, str(one.removed_entries), size(one.removed_bytes)) for one in gone],
        )
    freed = size(done.before_bytes - done.after_bytes)
    emit(f"{'would free' if dry_run else 'freed'} {freed}; {size(done.after_bytes)} stay in the cache")
    if bound is not None and done.after_bytes > bound:
        emit(f"over the bound of {size(bound)}: {done.running} running commands use the rest")
    return 0


def _document(found: Pruned, *, removed: bool) -> dict[str, object]:
    sections = []
    for one in found.sections:
        row: dict[str, object] = {"name": one.name, "entries": one.entries, "bytes": one.bytes, "in_use": one.in_use}
        if removed:
            row |= {"removed_entries": one.removed_entries, "removed_bytes": one.removed_bytes}
        sections.append(row)
    document: dict[str, object] = {"bound": found.bound, "images_bytes": found.images_bytes, "running": found.running}
    if removed:
        document |= {"before_bytes": found.before_bytes, "after_bytes": found.after_bytes, "dry_run": found.dry_run}
    else:
        document["cache_bytes"] = found.before_bytes
    return {**document, "sections": sections}
