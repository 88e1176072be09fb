"""`base`: what images stand on."""

import datetime as dt
from typing import Annotated

from tidewaiter.assembly import base_lock, recipe
from tidewaiter.catalog.answers import BaseAnswer, BaseUse
from tidewaiter.cli import console
from tidewaiter.cli.console import Format, emit, emit_json, size
from tidewaiter.cli.parameters import Parameter
from tidewaiter.cli.workshop import workshop
from tidewaiter.core import clock, moments
from tidewaiter.core.errors import InputError
from tidewaiter.distribution.copy import parse_platform
from tidewaiter.pipelines import bases, rebasing
from tidewaiter.pipelines.bases import Target


def _architecture(platform: str | None, given: str = "amd64") -> str:
    if platform is None:
        return given
    wanted = parse_platform(platform)
    if wanted.os != "linux" or wanted.architecture not in {"amd64", "arm64"}:
        raise InputError(f"there are no bases for {platform}", next_step="Name linux/amd64 or linux/arm64.")
    return wanted.architecture


def _day(moment: dt.datetime | None) -> str:
    return "" if moment is None else clock.rfc3339(moment)


# list


def _base_row(one: BaseAnswer) -> dict[str, object]:
    return {
        "name": one.name,
        "digest": one.digest,
        "state": one.state,
        "owner": one.owner,
        "approved_at": _day(one.approved_at) or None,
        "expires_at": _day(one.expires_at) or None,
        "retired_at": _day(one.retired_at) or None,
        "reason": one.reason,
        "images": one.images,
    }


def list_bases(*, output: Annotated[Format, Parameter(name="--format")] = "text") -> int:
    """List recipes, and the bases that were built, approved or retired.

    `[base] use` in tidewaiter.toml takes the name of a recipe.

    Args:
        output: text or json.
    """
    with workshop() as shop:
        own = shop.settings.home.recipes
        found = [recipe.load(name, own=own) for name in recipe.names(own)]
        known = shop.catalog.bases()
    rows = [
        {
            "name": one.name,
            "title": one.title,
            "python": one.python,
            "architecture": one.architecture,
            "production": one.production,
            "digest": one.digest,
        }
        for one in found
    ]
    if output == "json":
        emit_json({"recipes": rows, "bases": [_base_row(one) for one in known]})
        return 0
    console.table(
        ("recipe", "python", "production", "what it is"),
        [(one.name, one.python or "none", "yes" if one.production else "no", one.title) for one in found],
    )
    if known:
        emit()
        console.table(
            ("base", "digest", "state", "owner", "until", "images"),
            [(one.name, one.digest, one.state, one.owner, _day(one.expires_at), str(one.images)) for one in known],
        )
    return 0


# build and update


def build(
    target: str,
    /,
    *,
    platform: str | None = None,
    bytecode: bool = True,
    output: Annotated[Format, Parameter(name="--format")] = "text",
) -> int:
    """Build a base alone into the store and list it there.

    It is named `base/NAME`. A missing lock is written: that of a recipe lies in `recipes/` of the home, that of a
    project beside its file.

    Args:
        target: name of a recipe, or folder of a project, whose base is built without what the project adds.
        platform: linux/amd64 or linux/arm64; linux/amd64 when not given.
        bytecode: compile the standard library by the base's own Python, which must run here.
        output: text or json.
    """
    architecture = _architecture(platform)
    with workshop() as shop:
        wanted = bases.target(shop, target, architecture)
        made = bases.build(shop, wanted, architecture, bytecode=bytecode)
    if output == "json":
        emit_json(
            {
                "name": made.name,
                "reference": made.reference,
                "digest": made.image.digest,
                "architecture": architecture,
                "production": made.production,
                "lock": str(made.path),
                "lock_digest": made.lock.digest,
                "layers": [
                    {
                        "digest": part.info.digest,
                        "diff_id": part.info.diff_id,
                        "size": part.info.size,
                        "title": part.title,
                        "contents": list(part.contents),
                    }
                    for part in made.parts
                ],
                "seconds": round(made.seconds, 3),
            }
        )
        return 0
    emit(made.reference)
    emit(f"  digest  {made.image.digest}")
    emit(f"  lock    {made.path}: {len(made.lock.packages)} packages for {architecture}")
    if not made.production:
        emit("  marked  not for production")
    rows = [(size(part.info.size), "reused" if part.reused else "built", part.title) for part in made.parts]
    console.table(("layer", "", "what it is"), rows)
    return 0


def _versions(wanted: Target) -> dict[str, str]:
    """Package versions of the lock that is there; none when it is missing or cannot be read."""
    try:
        return {package.name: package.version for package in base_lock.read(wanted.lock).packages}
    except InputError:
        return {}


def _use_rows(uses: tuple[BaseUse, ...]) -> list[dict[str, object]]:
    return [{"name": one.name, "digest": one.digest, "tags": list(one.tags), "base": one.base} for one in uses]


def update(
    target: str,
    /,
    *,
    platform: str | None = None,
    output: Annotated[Format, Parameter(name="--format")] = "text",
) -> int:
    """Lock the newest Debian packages for a base; show what changes and which images rest on it.

    The images are those of the catalog that stand on any build of the recipe; `base rebase` moves one.

    Args:
        target: folder of a project, or name of a recipe, whose lock then lies in `recipes/` of the home.
        platform: linux/amd64 or linux/arm64; linux/amd64 when not given.
        output: text or json.
    """
    architecture = _architecture(platform)
    with workshop() as shop:
        wanted = bases.target(shop, target, architecture)
        before = _versions(wanted)
        locked = bases.lock(shop, wanted, architecture)
        known = [one.digest for one in shop.catalog.bases() if one.name == wanted.recipe.name]
        resting = shop.catalog.images_on(known)
    after = {package.name: package.version for package in locked.packages}
    changes = [
        {"package": name, "before": before.get(name), "after": after.get(name)}
        for name in sorted(before.keys() | after.keys())
        if before.get(name) != after.get(name)
    ]
    if output == "json":
        emit_json(
            {
                "lock": str(wanted.lock),
                "digest": locked.digest,
                "changes": changes,
                "images": _use_rows(resting),
            }
        )
        return 0
    emit(f"{wanted.lock}: {len(after)} packages, {len(changes)} changed")
    for change in changes:
        emit(f"  {change['package']}: {change['before'] or 'absent'} -> {change['after'] or 'absent'}")
    if resting:
        emit(f"Images that rest on {wanted.recipe.name}:")
        for one in resting:
            emit(f"  {one.name}:{', '.join(one.tags)}" if one.tags else f"  {one.name}@{one.digest}")
    return 0


# approve, retire, rebase


def approve(
    name: str,
    image: str,
    /,
    *,
    owner: str,
    expires: str | None = None,
    output: Annotated[Format, Parameter(name="--format")] = "text",
) -> int:
    """Approve a base by name and digest.

    Approving it again replaces owner and expiry, and ends a retirement.

    Args:
        name: what the base is called.
        image: digest of its manifest, or an image that has it.
        owner: who answers for it: a person or a team.
        expires: last day on which it counts as approved, or a moment; without it there is no end.
        output: text or json.
    """
    if not owner.strip():
        raise InputError("--owner is empty", next_step="Name who answers for the base.")
    end = None if expires is None else moments.end(expires)
    if end is not None and end <= clock.now():
        raise InputError(f"{expires} is past", next_step="Name a day to come, or retire the base.")
    with workshop() as shop:
        digest = bases.digest_of(shop, image)
        shop.catalog.approve_base(name, digest, owner=owner.strip(), expires=end)
        found = next(one for one in shop.catalog.bases() if (one.name, one.digest) == (name, digest))
    if output == "json":
        emit_json(_base_row(found))
    else:
        emit(f"{name}@{digest} is approved by {found.owner}" + (f" until {_day(end)}" if end else ""))
    return 0


def retire(
    name: str,
    /,
    *,
    digest: str | None = None,
    reason: str = "",
    output: Annotated[Format, Parameter(name="--format")] = "text",
) -> int:
    """Retire a base and name the images that rest on it.

    Args:
        name: what the base is called.
        digest: digest of its manifest, or an image that has it; all of that name when not given.
        reason: why, for those who use it.
        output: text or json.
    """
    with workshop() as shop:
        chosen = None if digest is None else bases.digest_of(shop, digest)
        retired = shop.catalog.retire_base(name, chosen, reason=reason)
        resting = shop.catalog.images_on(retired)
    if output == "json":
        emit_json({"name": name, "retired": list(retired), "images": _use_rows(resting)})
        return 0
    for one in retired:
        emit(f"{name}@{one} is retired")
    for use in resting:
        emit(
            f"  {use.name}:{', '.join(use.tags)} rests on it" if use.tags else f"  {use.name}@{use.digest} rests on it"
        )
    return 0


def rebase(
    image: str,
    new_base: str,
    /,
    *,
    tag: str | None = None,
    output: Annotated[Format, Parameter(name="--format")] = "text",
) -> int:
    """Put another base below an image of the store, without rebuilding it.

    The layers above the base stay bit for bit. Refused when they would not work on the new base: another platform,
    another Python, missing libraries. The result has a digest and a tag of its own and must be checked anew.

    Args:
        image: image of the store whose first layers are those of a known base.
        new_base: name of a recipe that was built (`base build`), or an image of the store.
        tag: tag of the result; `TAG-on-DIGEST`, with the beginning of the base's digest, when not given.
        output: text or json.
    """
    with workshop() as shop:
        done = rebasing.rebased(shop, image, new_base, tag=tag)
    if output == "json":
        emit_json(
            {
                "reference": done.reference,
                "digest": done.digest,
                "source": done.source,
                "old_base": done.old_base,
                "new_base": done.new_base,
                "new_base_digest": done.new_base_digest,
                "replaced_layers": done.replaced_layers,
                "kept_layers": done.kept_layers,
                "seconds": round(done.seconds, 3),
            }
        )
        return 0
    emit(done.reference)
    emit(f"  digest  {done.digest}")
    emit(f"  base    {done.new_base}@{done.new_base_digest} in the place of {done.old_base}")
    emit(f"  layers  {done.replaced_layers} replaced, {done.kept_layers} kept")
    emit(f"  next    tidewaiter check {done.reference} --environment NAME")
    return 0
