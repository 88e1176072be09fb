"""Maintainer scripts never run. Each must be known to do nothing here, or the recipe must say what it does instead.

Only scripts of a first installation count (preinst, postinst, and activated triggers): nothing in an image is
upgraded or removed, and `config` is debconf's. In order: (1) the recipe allows it; (2) it is one of those that were
read and are listed, with the reason, in `known_scripts.toml`; (3) what it would do is found out by following it, and
is nothing, or alternatives, which are returned.
"""

import functools
import hashlib
import re
import tomllib
from importlib import resources

import msgspec

from tidewaiter.assembly.debian import first_install
from tidewaiter.assembly.debian.deb import Control
from tidewaiter.assembly.debian.first_install import Alternative, Unknown
from tidewaiter.assembly.recipe import AllowedScript, Recipe
from tidewaiter.core.errors import InputError

# The image has no ld.so.cache: libraries lie in the loader's default folders, which need none.
_TRIGGER = re.compile(r"(?:interest(?:-\w+)? \S+|activate(?:-\w+)? ldconfig)")


def fingerprint(script: bytes, version: str) -> str:
    """SHA-256 of a script, with its package's own version and debhelper's taken out: rebuilds change only those."""
    text = script.replace(version.encode(), b"@VERSION@")
    text = re.sub(rb"(?m)^(# Automatically added by \w+)/\S+$", rb"\1", text)
    return hashlib.sha256(text).hexdigest()


@functools.cache
def shipped() -> tuple[AllowedScript, ...]:
    """The scripts that were read and are known, whatever the recipe."""
    data = (resources.files("tidewaiter.assembly.debian") / "known_scripts.toml").read_bytes()
    return msgspec.convert(tomllib.loads(data.decode())["scripts"], tuple[AllowedScript, ...])


def _would_do(name: str, script: bytes) -> tuple[Alternative, ...]:
    if name != "triggers":
        return first_install.effects(name, script)
    for line in script.decode(errors="replace").splitlines():
        statement = line.partition("#")[0].strip()
        if statement and not _TRIGGER.fullmatch(statement):
            raise Unknown(statement)
    return ()


def effects(control: Control, recipe: Recipe) -> tuple[Alternative, ...]:
    """Check the scripts of one package; the alternatives that they install.

    Raises:
        InputError: a script does something that neither we nor the recipe know; the message names package, script
            and statement, the next step shows how to allow it.
    """
    package, version = control.fields["package"], control.fields["version"]
    found: tuple[Alternative, ...] = ()
    for name in ("preinst", "postinst", "triggers"):
        script = control.scripts.get(name)
        if script is None:
            continue
        mark = fingerprint(script, version)
        allowed = [one for one in recipe.allow_scripts if (one.package, one.script) == (package, name)]
        if any(not one.fingerprints or mark in one.fingerprints for one in allowed):
            continue
        if any(mark in one.fingerprints for one in shipped() if (one.package, one.script) == (package, name)):
            continue
        try:
            found += _would_do(name, script)
        except Unknown as error:
            changed = "has changed since the recipe was written" if allowed else "does something that is not known"
            raise InputError(
                f"the {name} script of {package} {version} {changed} ({error}); maintainer scripts are never run",
                next_step=(
                    f"Read it (`dpkg-deb --info FILE {name}`), do its work in a recipe of your own "
                    f'(`extends = "{recipe.name}"`), then allow it there: '
                    f'[[allow_scripts]] package = "{package}", script = "{name}", '
                    f'fingerprints = ["{mark}"], work = "what the recipe does instead".'
                ),
                code="unknown_script",
            ) from error
    return found
