"""`inspect` and `sbom`: what is in an image."""

from collections import Counter
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from tidewaiter.cli import console
from tidewaiter.cli.console import Format, emit, emit_json, size
from tidewaiter.cli.parameters import Parameter
from tidewaiter.cli.workshop import workshop
from tidewaiter.core import durable
from tidewaiter.inspection.facts import FrameworkRecord, ImageFacts
from tidewaiter.pipelines import images, looking, resting
from tidewaiter.pipelines.resting import Resting

_HEAVIEST = 5
_WASTES = {
    "replaced": "files that later layers replace",
    "deleted": "files that later layers delete",
    "package_cache": "files of package caches",
    "tests": "files of packages' tests",
    "duplicate_library": "libraries that lie in the image twice",
}


def inspect(image: str, /, *, output: Annotated[Format, Parameter(name="--format")] = "text") -> int:
    """Show what is in an image: platform, user, entry point, layers, packages with licences.

    Args:
        image: a store name (NAME:TAG), oci:PATH[:TAG], an archive, or HOST/REPO:TAG.
        output: text or json.
    """
    with workshop(looking=True) as shop:
        named = images.open_named(shop, image)
        facts = looking.inspect(shop, named)
        base = resting.under(shop, named.image)
    if output == "json":
        emit_json({**msgspec.structs.asdict(facts), "base": base})
    else:
        _show(facts, base)
    return 0


def _base_line(base: Resting | None) -> str:
    if base is None:
        return "unknown"
    claimed = "" if base.layers else "; the image only says so"
    return f"{base.name}@{base.digest[:19]} ({base.state}{', outdated' if base.newer else ''}{claimed})"


def _show(facts: ImageFacts, base: Resting | None) -> None:
    system = facts.operating_system
    emit(facts.reference)
    for label, text in (
        ("digest", facts.digest),
        ("platform", f"{facts.os}/{facts.architecture}"),
        ("system", system.name or f"{system.id} {system.version}" if system else "unknown"),
        ("base", _base_line(base)),
        ("user", f"{facts.user or 'not set'}{' (root)' if facts.runs_as_root else ''}"),
        ("starts", " ".join((*facts.entrypoint, *facts.cmd)) or "nothing"),
        ("created", facts.created or "unknown"),
        ("size", f"{size(facts.size)} in {len(facts.layers)} layers, {size(facts.unpacked_size)} unpacked"),
    ):
        emit(f"  {label:<9} {text}")
    found = Counter(program.kind for program in facts.programs)
    named = ", ".join(f"{count} {kind.replace('_', ' ')}" for kind, count in sorted(found.items()))
    emit(f"  {'programs':<9} {named or 'no shell, package manager, compiler, debugger, SSH server or Jupyter'}")
    for line in _framework(facts.framework):
        emit(f"  {'framework':<9} {line}")
    for model in facts.models:
        emit(f"  {'model':<9} {f'{model.name} {model.version}'.strip()} ({model.format}) at {model.path}")
    risks = Counter(one.kind.replace("_", " ") for one in facts.exposed)
    if risks:
        emit(f"  {'exposed':<9} {', '.join(f'{count} {kind}' for kind, count in sorted(risks.items()))}")
    for one in facts.exposed:
        if one.kind == "secret":
            emit(f"  {'secret':<9} {one.rule} in {one.path}, line {one.line}, layer {one.layer[7:19]}")
    for line in facts.unread:
        emit(f"  {'unread':<9} {line}; packages may be missing here")
    heaviest = sorted(facts.components, key=lambda one: (-one.size, one.name))[:_HEAVIEST]
    if heaviest and heaviest[0].size:
        emit(f"  {'heaviest':<9} {', '.join(f'{one.name} {size(one.size)}' for one in heaviest if one.size)}")
    for waste in facts.wasted:
        largest = f", the largest /{waste.examples[0].path}" if waste.examples else ""
        emit(f"  {'wasted':<9} {size(waste.size)} in {waste.files} {_WASTES[waste.kind]}{largest}")
    emit()
    console.table(
        ("layer", "size", "unpacked", "files", "made by"),
        [
            (layer.diff_id[7:19], size(layer.size), size(layer.unpacked_size), str(layer.files), layer.created_by[:60])
            for layer in facts.layers
        ],
    )
    emit()
    console.table(
        ("package", "version", "kind", "licence"),
        [
            (component.name, component.version, component.kind, "; ".join(component.licenses)[:60] or "not stated")
            for component in facts.components
        ],
    )


def _framework(record: FrameworkRecord | None) -> list[str]:
    """Its versions, the driver that they need, and whether they were tested together; nothing without a record."""
    if record is None:
        return []
    named = {
        "TensorFlow": record.tensorflow,
        "TensorFlow Serving": record.serving,
        "Python": record.python,
        "CUDA": record.cuda,
        "cuDNN": record.cudnn,
    }
    parts = [f"{name} {version}" for name, version in named.items() if version]
    if record.built_for_cuda:
        parts.append(f"built for CUDA {record.built_for_cuda} and cuDNN {record.built_for_cudnn or 'unknown'}")
    lines = [", ".join(parts) or "TensorFlow Serving of unknown version"]
    if record.cuda:
        full = f"; {record.toolkit_driver} or newer for GPUs newer than its code" if record.toolkit_driver else ""
        lines.append(f"least Linux driver {record.least_driver or 'not known'}{full}")
    if record.tensorflow:
        answer = {"yes": "tested", "no": "not tested", "unknown": "not known whether tested"}[record.tested]
        near = f"; nearest: {record.nearest_tested}" if record.nearest_tested and record.tested != "yes" else ""
        lines.append(f"{answer}: {record.tested_reason}{near}")
    return [*lines, *record.conflicts]


def sbom(
    image: str,
    /,
    *,
    output: Annotated[Literal["cyclonedx", "spdx"], Parameter(name="--format")],
    file: Annotated[str | None, Parameter(name=["--output", "-o"])] = None,
) -> int:
    """Write the software bill of materials of an image.

    The same image under the same name gives the same bytes.

    Args:
        image: a store name (NAME:TAG), oci:PATH[:TAG], an archive, or HOST/REPO:TAG.
        output: cyclonedx (1.6 JSON) or spdx (2.3 JSON).
        file: where to write; standard output when it is not given.
    """
    with workshop(looking=True) as shop:
        document = looking.sbom(looking.inspect(shop, images.open_named(shop, image)), output)
    if file is None:
        console.emit_bytes(document)
    else:
        durable.write_atomically(Path(file), document + b"\n")
    return 0
