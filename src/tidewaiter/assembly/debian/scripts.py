"""Maintainer scripts never run. Each must be known to do nothing here, or the recipe must say what it does instead.

Only scripts of a first installation count (preinst, postinst, and activated triggers): nothing in an image is
upgraded or removed, and `config` is debconf's.
"""

import hashlib
import re

from tidewaiter.assembly.debian.deb import Control
from tidewaiter.assembly.recipe import Recipe
from tidewaiter.core.errors import InputError

# Statements that change nothing when a package is installed for the first time.
_HARMLESS = tuple(
    re.compile(pattern)
    for pattern in (
        r"set -e",
        r":",
        r"exit 0",
        r"true",
        # Both move conffiles or folders of an older version that is being upgraded (dpkg-maintscript-helper(1)).
        r"dpkg-maintscript-helper (?:rm_conffile|mv_conffile|dir_to_symlink|symlink_to_dir) [\w./+~\\ -]+ -- \"\$@\"",
    )
)
# The image has no ld.so.cache: libraries lie in the loader's default folders, which need none.
_TRIGGER = re.compile(r"(?:interest(?:-\w+)? \S+|activate(?:-\w+)? ldconfig)")
_SHEBANG = re.compile(r"#! ?/bin/(?:sh|dash|bash)(?: -e)?")


def fingerprint(script: bytes, version: str) -> str:
    """SHA-256 of a script, with its package's own version and debhelper's taken out: rebuilds change only those."""
    text = script.replace(version.encode(), b"@VERSION@")
    text = re.sub(rb"(?m)^(# Automatically added by \w+)/\S+$", rb"\1", text)
    return hashlib.sha256(text).hexdigest()


def harmless(name: str, script: bytes) -> bool:
    """Whether every statement of the script is known to change nothing on a first installation."""
    lines = [line.strip() for line in script.decode(errors="replace").splitlines()]
    statements = [line for line in lines if line and not line.startswith("#")]
    if name == "triggers":
        return all(_TRIGGER.fullmatch(line) for line in statements)
    if not lines or not _SHEBANG.fullmatch(lines[0]):
        return False
    return all(any(pattern.fullmatch(line) for pattern in _HARMLESS) for line in statements)


def require_known(control: Control, recipe: Recipe) -> None:
    """Check the scripts of one package.

    Raises:
        InputError: a script does something that neither we nor the recipe know; the message names package and
            script, the next step shows how to allow it.
    """
    package, version = control.fields["package"], control.fields["version"]
    for name in ("preinst", "postinst", "triggers"):
        script = control.scripts.get(name)
        if script is None or harmless(name, script):
            continue
        found = fingerprint(script, version)
        allowed = [one for one in recipe.allow_scripts if (one.package, one.script) == (package, name)]
        if any(not one.fingerprints or found in one.fingerprints for one in allowed):
            continue
        changed = "has changed since the recipe was written" if allowed else "does something that is not known"
        raise InputError(
            f"the {name} script of {package} {version} {changed}; maintainer scripts are never run",
            next_step=(
                f"Read it (`dpkg-deb --info FILE {name}`), do its work in the recipe, then allow it there: "
                f'[[allow_scripts]] package = "{package}", script = "{name}", '
                f'fingerprints = ["{found}"], work = "what the recipe does instead".'
            ),
            code="unknown_script",
        )
