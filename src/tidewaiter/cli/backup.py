"""`backup create` and `backup restore`: a home in one file, and back."""

from pathlib import Path
from typing import Annotated

import msgspec

from tidewaiter.cli import console
from tidewaiter.cli.console import Format, emit, emit_json, size
from tidewaiter.cli.parameters import Parameter
from tidewaiter.cli.workshop import workshop
from tidewaiter.core import settings
from tidewaiter.core.errors import TidewaiterError
from tidewaiter.pipelines.backup import backing_up, restoring

_SHOWN = 5


def _readable() -> settings.Settings | None:
    """The settings with those of the home, where they can be read."""
    try:
        return settings.load()
    except TidewaiterError:
        return None


def create(
    file: Path,
    /,
    *,
    without_store: Annotated[bool, Parameter(negative="")] = False,
    with_keys: Annotated[bool, Parameter(negative="")] = False,
    output: Annotated[Format, Parameter(name="--format")] = "text",
) -> int:
    """Write a backup of the home into one file, while others may go on working in it.

    It holds catalog, audit log, advisories, settings, recipes, certificates, public keys, and the blobs that images,
    signatures and documents need. The cache is left out: it can be had again.

    Args:
        file: where to; must not exist yet.
        without_store: leave the images out, which are in a registry too.
        with_keys: put the private keys in as well; keep the file as safe as them.
        output: text or json.
    """
    backing_up.require_home(settings.load())
    with workshop() as shop:
        done = backing_up.create(shop, file, with_store=not without_store, with_keys=with_keys)
    if output == "json":
        emit_json(msgspec.to_builtins(done))
        return 0
    emit(f"{file}: {done.files} files, {size(done.bytes)}, packed {size(done.size)}")
    emit(f"  digest {done.digest}")
    if done.secrets_left_out:
        shown = ", ".join(done.secrets_left_out[:_SHOWN])
        more = len(done.secrets_left_out) - _SHOWN
        emit(
            f"  without {shown}{f' and {more} more' if more > 0 else ''}: keep copies of them elsewhere, or --with-keys"
        )
    if done.missing:
        console.tell(
            f"warning: {len(done.missing)} blobs that images of the catalog need are not in the store any more;"
            " `tidewaiter doctor` says which"
        )
    return 0


def restore(
    file: Path,
    /,
    *,
    into: Path | None = None,
    force: Annotated[bool, Parameter(negative="")] = False,
    output: Annotated[Format, Parameter(name="--format")] = "text",
) -> int:
    """Make the home of a backup: everything in it is verified before anything can be seen.

    A home that is replaced is not removed: it stays beside the new one under another name.

    Args:
        file: what `backup create` wrote.
        into: folder that becomes the home; default the home of the settings.
        force: replace a home that is not empty.
        output: text or json.
    """
    # The settings of a home that is damaged or gone may not stand in the way of its restoration.
    opened = settings.load(with_file=False)
    restoring.require_own_catalog(_readable() or opened)
    done = restoring.restore(opened, file, into or opened.home.path, force=force, progress=console.progress())
    if output == "json":
        emit_json(msgspec.to_builtins(done))
        return 0
    emit(f"{done.home}: {done.files} files, {size(done.bytes)}, as they were at {done.created}")
    if done.replaced:
        emit(f"  the old home is {done.replaced}; remove it when nothing is missed")
    if done.taken_over:
        emit(f"  taken over from it: {', '.join(done.taken_over)}")
    elif not done.with_store:
        emit("  without images: pull them again")
    if done.log_entries_before > done.log_entries:
        emit(
            f"  the audit log has {done.log_entries} entries, that of the old home had {done.log_entries_before}:"
            " who keeps a later checkpoint will notice"
        )
    if done.audit:
        emit(f"  the audit log cannot go on yet: {done.audit}")
    emit("  next: tidewaiter audit verify, with --checkpoint FILE when one is kept elsewhere; tidewaiter doctor")
    return 0
