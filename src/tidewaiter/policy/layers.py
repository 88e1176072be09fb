"""Packs in layers: what ships with the product, the company's, the team's. A layer may tighten, never loosen.

A layer adds rules and packages of its own, raises levels of rules below it, and changes parameters of the packs below
in the direction that they declare as tighter. Everything else is refused when it is loaded, with the rule named:

1. Its name is its own.
2. Its Rego packages and its data stand under roots (first parts of their names) that no lower layer uses, so that it
   adds no definition to what stands below.
3. It defines no rule and no parameter that a lower layer has.
4. A level only goes from off to warn to deny.
5. A parameter only changes as its declaration says.

Of a rule only results count that come from the roots of its own layer; one from elsewhere denies (`policy.results`).
"""

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import msgspec

from tidewaiter.core import limits
from tidewaiter.core.errors import InputError, LimitError
from tidewaiter.core.project import Environment
from tidewaiter.oci.digest import Digest, of
from tidewaiter.policy import bundle
from tidewaiter.policy.pack import (
    Layer,
    Level,
    Levelled,
    Levels,
    Module,
    Pack,
    Parameter,
    Rule,
    default_pack,
    load_layer,
    read_files,
)

if TYPE_CHECKING:
    from tidewaiter.policy.signatures import Trust

_NAME = re.compile(r"[a-z0-9]+(?:[._-][a-z0-9]+)*")
_PACKAGE = re.compile(r"(?:[ \t\r\n]|#[^\n]*\n)*package[ \t]+([A-Za-z_][A-Za-z0-9_]*)(?=[.\[ \t\r\n#]|\Z)")
_STRICTNESS: tuple[Level, ...] = ("off", "warn", "deny")
_ENVIRONMENTS: tuple[Environment, ...] = get_args(Environment)


def effective(sources: Sequence[Path], trusted: "Trust | None" = None) -> Pack:
    """The product's pack with the layers in `sources` (folders or bundles) on top, the lowest first.

    Args:
        sources: where they are.
        trusted: whose signatures are taken, and whether each must have one; see `bundle.read`.

    Raises:
        NotVerifiedError: a layer is not signed, or not by a key that is trusted.
        InputError: a layer is malformed, or would loosen what stands below it.
        LimitError: a layer is too large, or there are too many.
    """
    return stack(default_pack(), [load_layer(source, trusted) for source in sources])


def stack(lowest: Pack, layers: Sequence[Layer]) -> Pack:
    """One pack of all; `lowest` itself without layers. Paths of a layer's files begin with its name.

    Raises:
        InputError: a layer would loosen what stands below it.
        LimitError: there are too many.
    """
    if len(layers) >= limits.POLICY_LAYERS:
        raise LimitError(
            f"the policy has over {limits.POLICY_LAYERS} layers", next_step="Put rules of several layers into one."
        )
    pack = lowest
    for layer in layers:
        pack = _add(pack, layer)
    return pack


def write_layer(
    source: Path, trusted: "Trust | None" = None, *, sign: bundle.Signer | None = None
) -> tuple[bytes, Digest]:
    """A bundle of one pack as it is written, and its revision; raises as `load_layer` does."""
    pack = load_layer(source, trusted).pack
    files, roots_ = read_files(source, trusted), _written_roots(pack)
    return bundle.write(files, revision=pack.revision, roots=roots_, metadata={}, sign=sign), pack.revision


def write_whole(pack: Pack, *, sign: bundle.Signer | None = None) -> bytes:
    """A bundle of all layers in one, without tests: for an OPA elsewhere. What the manifests say is in its metadata."""
    files = {module.path: module.text.encode() for module in pack.modules} | {"data.json": pack.data}
    rules = msgspec.to_builtins(pack.rules)
    metadata = {"name": pack.name, "layers": pack.layers or (pack.name,), "rules": rules}
    return bundle.write(files, revision=pack.revision, roots=roots(pack), metadata=metadata, sign=sign)


def _written_roots(pack: Pack) -> frozenset[str]:
    """Roots of the pack and of its tests, which are in the bundle too."""
    return roots(pack) | {_root(module) for module in pack.tests}


def roots(pack: Pack) -> frozenset[str]:
    """First parts of the names of the pack's Rego packages and data.

    Raises:
        InputError: a file does not begin with a package whose name can be told.
    """
    return frozenset(_root(module) for module in pack.modules) | _data(pack).keys()


def _refused(layer: Pack, what: str) -> InputError:
    return InputError(
        f"policy layer {layer.name}: {what}",
        next_step="A layer may add rules and tighten those below it, never loosen them; change the layer.",
        code="bad_pack",
    )


def _root(module: Module) -> str:
    found = _PACKAGE.match(module.text)
    if found is None or found[1] in {"data", "input"}:
        raise InputError(
            f"{module.path}: it does not begin with a package of a plain name",
            next_step="Begin the file with `package NAME`.",
            code="bad_pack",
        )
    return found[1]


def _data(pack: Pack) -> dict[str, Any]:
    data: dict[str, Any] = msgspec.json.decode(pack.data)
    return data


def _add(below: Pack, layer: Layer) -> Pack:
    own = layer.pack
    names = below.layers or (below.name,)
    # 1.
    if not _NAME.fullmatch(own.name):
        raise _refused(own, "its name is not made of lower-case letters, digits, dots and dashes")
    if own.name in names:
        raise _refused(own, "a layer below it has the same name")
    # 2.
    for root in sorted(roots(own) & roots(below)):
        raise _refused(own, f"`{root}` belongs to a lower layer, and nothing may be added there")
    # 3.
    for rule in own.rules:
        if below.rule(rule.id) is not None:
            raise _refused(own, f"rule {rule.id} belongs to a lower layer; change its levels in [tighten.rules]")
    known = {parameter.name for parameter in below.parameters}
    for parameter in own.parameters:
        if parameter.name in known:
            raise _refused(
                own, f"parameter {parameter.name} belongs to a lower layer; change it in [tighten.parameters]"
            )
        _values(own, _data(own), parameter.name)
    # 4.
    rules = _levels(below, layer)
    # 5.
    data = _parameters(below, layer)
    return Pack(
        name="+".join((*names, own.name)),
        rules=(*rules, *own.rules),
        modules=(*below.modules, *_inside(own.name, own.modules)),
        tests=(*below.tests, *_inside(own.name, own.tests)),
        data=msgspec.json.encode({**data, **_data(own)}),
        revision=of(msgspec.json.encode((below.revision, own.revision))),
        parameters=(*below.parameters, *own.parameters),
        layers=(*names, own.name),
        homes={**(below.homes or _homes(below)), **_homes(own)},
    )


def _homes(pack: Pack) -> dict[str, frozenset[str]]:
    return dict.fromkeys((rule.id for rule in pack.rules), roots(pack))


def _inside(name: str, modules: tuple[Module, ...]) -> tuple[Module, ...]:
    return tuple(Module(f"{name}/{module.path}", module.text) for module in modules)


def _levels(below: Pack, layer: Layer) -> tuple[Rule, ...]:
    """The rules below with the levels that the layer gives them."""
    for name in layer.tighten.rules:
        if below.rule(name) is None:
            raise _refused(layer.pack, f"[tighten.rules] names {name}, and no lower layer has such a rule")
    return tuple(
        msgspec.structs.replace(rule, levels=_tightened(layer.pack, rule, layer.tighten.rules[rule.id]))
        if rule.id in layer.tighten.rules
        else rule
        for rule in below.rules
    )


def _tightened(own: Pack, rule: Rule, wanted: Levelled) -> Levels:
    levels: dict[Environment, Level] = {}
    for environment in _ENVIRONMENTS:
        old = rule.levels.of(environment)
        asked: Level | None = getattr(wanted, environment)
        new = asked or old
        if _STRICTNESS.index(new) < _STRICTNESS.index(old):
            raise _refused(own, f"rule {rule.id} may not go from {old} to {new} in {environment}")
        levels[environment] = new
    return Levels(**levels)


def _parameters(below: Pack, layer: Layer) -> dict[str, Any]:
    """The data below with the parameters that the layer changes."""
    data = _data(below)
    declared = {parameter.name: parameter for parameter in below.parameters}
    for name, new in layer.tighten.parameters.items():
        if name not in declared:
            raise _refused(layer.pack, f"[tighten.parameters] names {name}, and no lower layer has such a parameter")
        values = _values(below, data, name)
        value = list(new) if isinstance(new, tuple) else new
        if not _is_tighter(declared[name], values[name], value):
            raise _refused(
                layer.pack,
                f"parameter {name} may only change in the direction `{declared[name].tighter}`, from "
                f"{str(values[name])[:200]} to {str(value)[:200]} it does not",
            )
        values[name] = value
    return data


def _values(pack: Pack, data: dict[str, Any], name: str) -> dict[str, Any]:
    """The object in `data` that holds the value of a parameter, under exactly one root."""
    holders = [root["parameters"] for root in data.values() if isinstance(root, dict) and "parameters" in root]
    holding: list[dict[str, Any]] = [values for values in holders if isinstance(values, dict) and name in values]
    if len(holding) != 1:
        raise _refused(pack, f"data.json gives parameter {name} not exactly once, at ROOT.parameters.{name}")
    return holding[0]


def _is_tighter(parameter: Parameter, old: object, new: object) -> bool:
    """Whether `new` is as tight as `old` or tighter."""
    if isinstance(old, list) and isinstance(new, list) and all(isinstance(item, str) for item in old):
        more, fewer = set(old) <= set(new), set(new) <= set(old)
        return {"more": more, "fewer": fewer}.get(parameter.tighter, False)
    if isinstance(old, (int, float)) and isinstance(new, (int, float)) and math.isfinite(new):
        return {"lower": new <= old, "higher": new >= old}.get(parameter.tighter, False)
    return False
