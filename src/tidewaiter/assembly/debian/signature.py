"""Who signed a release file: checked by gpgv, else by Sequoia's Python package (the extra `pgp`)."""

import re
import shutil
import subprocess
import tempfile
import tomllib
from collections.abc import Sequence
from importlib import resources
from pathlib import Path

import msgspec

from tidewaiter.core import limits
from tidewaiter.core.errors import DeadlineError, InputError, MissingToolError, NotVerifiedError
from tidewaiter.core.settings import tool_environment

# One clear-signed message and nothing around it, so that what gpgv checked is all there is.
_CLEAR_SIGNED = re.compile(
    rb"-----BEGIN PGP SIGNED MESSAGE-----\r?\n(?:(?!-----BEGIN )[^\n]*\n)+"
    rb"-----BEGIN PGP SIGNATURE-----\r?\n(?:(?!-----)[^\n]*\n)+-----END PGP SIGNATURE-----\s*"
)
_AGAIN = "Try again later or name another archive in TIDEWAITER_DEBIAN_MIRROR; nothing of this one was used."


class Key(msgspec.Struct, frozen=True):
    """A key that may sign a suite: its keyring file and the fingerprint of its primary key."""

    name: str
    keyring: Path
    fingerprint: str


def keys(names: Sequence[str], folder: Path | None = None) -> tuple[Key, ...]:
    """The keys of those names, from `keys.toml` in `folder` (default: the keys that ship with the product).

    Raises:
        InputError: a name is unknown.
    """
    place = folder or Path(str(resources.files("tidewaiter.assembly.debian") / "keys"))
    known = tomllib.loads((place / "keys.toml").read_text())
    for name in names:
        if name not in known:
            raise InputError(
                f"there is no archive key {name!r}",
                next_step=f"Name one of {', '.join(sorted(known))} in the recipe.",
                code="bad_recipe",
            )
    return tuple(Key(name, place / f"{name}.gpg", known[name]["fingerprint"]) for name in names)


def verify(inrelease: bytes, trusted: Sequence[Key], *, source: str) -> bytes:
    """The text of a clear-signed release file that at least one of `trusted` signed, as the checker read it.

    Raises:
        NotVerifiedError: no trusted key signed it, or its signature is bad, expired or revoked.
        MissingToolError: nothing here can check signatures.
        DeadlineError: gpgv did not end.
    """
    if not _CLEAR_SIGNED.fullmatch(inrelease):
        raise NotVerifiedError(f"{source} is not one clear-signed text", next_step=_AGAIN)
    program = shutil.which("gpgv")
    text, signers, said = _by_sequoia(inrelease, trusted) if program is None else _by_gpgv(program, inrelease, trusted)
    if text is None or not signers & {key.fingerprint for key in trusted}:
        raise NotVerifiedError(
            f"{source} is not signed by {' or '.join(key.name for key in trusted)}"
            + (f": {said[:500]}" if said else ""),
            next_step="Do not use this archive. If Debian has changed its keys, update tidewaiter.",
        )
    return text


def _by_gpgv(program: str, inrelease: bytes, trusted: Sequence[Key]) -> tuple[bytes | None, set[str], str]:
    """The text, primary-key fingerprints of its good signatures, and what gpgv said."""
    with tempfile.TemporaryDirectory(prefix="tidewaiter-") as name:
        folder = Path(name)
        (folder / "InRelease").write_bytes(inrelease)
        rings = [f"--keyring={key.keyring.absolute()}" for key in trusted]
        command = [program, "--status-fd=1", "--weak-digest=SHA1", f"--homedir={folder}", *rings]
        command += [f"--output={folder / 'text'}", str(folder / "InRelease")]
        try:
            # The exit status says nothing here: it is 2 whenever a further signature is by a key we do not carry.
            result = subprocess.run(
                command, capture_output=True, check=False, timeout=limits.READ_SECONDS, env=tool_environment()
            )
        except subprocess.TimeoutExpired as error:
            raise DeadlineError("gpgv did not end while checking a release file", next_step="Run it again.") from error
        text = folder / "text"
        said = "; ".join(result.stderr.decode(errors="replace").strip().splitlines())
        signers = _signers(result.stdout.decode(errors="replace"))
        return text.read_bytes() if text.is_file() else None, signers or set(), said


def _by_sequoia(inrelease: bytes, trusted: Sequence[Key]) -> tuple[bytes | None, set[str], str]:
    """As `_by_gpgv`, where gpgv is not installed."""
    try:
        import pysequoia
    except ImportError as error:
        raise MissingToolError(
            "neither gpgv nor pysequoia, which check the signature of Debian's release files, is installed",
            next_step="Install one (Debian: apt install gpgv; Python: pip install 'tidewaiter[pgp]'), then run the "
            "command again.",
        ) from error
    certificates = [one for key in trusted for one in pysequoia.Cert.split_file(str(key.keyring))]
    try:
        found = pysequoia.verify(bytes=inrelease, store=lambda _: certificates)
    except Exception as error:  # noqa: BLE001  # Rust's errors have no class of their own; none of them is a yes
        return None, set(), str(error).partition("\n")[0]
    # The newline before the signature is not part of what is signed; gpgv writes it all the same.
    text = None if found.bytes is None else found.bytes.rstrip(b"\n") + b"\n"
    return text, {one.certificate.upper() for one in found.valid_sigs}, ""


def _signers(status: str) -> set[str] | None:
    """Primary-key fingerprints of the good signatures in gpgv's status lines; None when any signature is bad."""
    good: set[str] = set()
    trusted = False
    for line in status.splitlines():
        words = line.removeprefix("[GNUPG:] ").split()
        keyword = words[0] if words else ""
        if keyword == "BADSIG":
            return None
        if keyword in {"NEWSIG", "EXPSIG", "EXPKEYSIG", "REVKEYSIG", "ERRSIG"}:
            trusted = False
        elif keyword == "GOODSIG":
            trusted = True
        elif keyword == "VALIDSIG" and trusted:
            good.add(words[-1])
    return good
