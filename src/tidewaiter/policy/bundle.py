"""OPA bundles: a policy pack as one `tar.gz`, in and out.

Ours are loadable by a real OPA (`opa run --bundle`, `opa eval --bundle`): Rego files, `data.json`, and `.manifest` with
revision and roots. `pack.toml` lies beside them; OPA passes over it. The same pack gives the same bytes, but for a
signature (`policy.signatures`).
"""

import io
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from tidewaiter.core import limits
from tidewaiter.core.errors import InputError, LimitError
from tidewaiter.oci.entry import Entry
from tidewaiter.oci.layer import Reader, write_layer

if TYPE_CHECKING:
    # Loads a cryptographic library, which few commands need.
    from tidewaiter.policy.signatures import Trust

Signer = Callable[[Mapping[str, bytes]], bytes]
MANIFEST = ".manifest"
SIGNATURES = ".signatures.json"
_NEXT = "Write it with `tidewaiter policy bundle`, or with `opa build` from a pack's folder and add its pack.toml."


def belongs(path: str) -> bool:
    """Whether a pack may hold a file of this path."""
    return path.endswith(".rego") or path in {"pack.toml", "data.json"}


def limit(path: str) -> int:
    """Most bytes that a file of a pack may have."""
    return limits.POLICY_MODULE_BYTES if path.endswith(".rego") else limits.POLICY_DATA_BYTES


def check_size(path: str, size: int) -> None:
    """Raises `LimitError` when `size` is over what a file of this path may have."""
    if size > limit(path):
        raise LimitError(f"{path}: the file is over {limit(path)} bytes", next_step="Split the file.")


def read(path: Path, trusted: "Trust | None" = None) -> dict[str, bytes]:
    """The files of the pack in a bundle by path; what OPA's `.manifest` says is not among them.

    Args:
        path: of the bundle.
        trusted: whose signatures are taken; without it a bundle that is signed is refused.

    Raises:
        InputError: it is no bundle, or holds what a pack does not.
        NotVerifiedError: its signature is not that of a trusted key, or was made for other files.
        LimitError: it is larger, or holds more, than a pack may.
    """
    files: dict[str, bytes] = {}
    with path.open("rb") as blob:
        for entry, content in Reader(blob, limit=limits.POLICY_BUNDLE_BYTES):
            beside = entry.path == MANIFEST or entry.path.endswith(".md")
            if entry.kind == "directory" or (beside and trusted is None):
                continue
            if entry.path == SIGNATURES and trusted is None:
                raise InputError(
                    f"{path} is signed, and no key is known that may have done it",
                    next_step="Name the signer's public key in TIDEWAITER_POLICY_KEYS.",
                    code="bad_pack",
                )
            if content is None or not (beside or belongs(entry.path) or entry.path == SIGNATURES):
                raise InputError(
                    f"{path}: {entry.path[:200]!r} does not belong into a policy pack", next_step=_NEXT, code="bad_pack"
                )
            if entry.path in files:
                raise InputError(f"{path}: {entry.path} is in it twice", next_step=_NEXT, code="bad_pack")
            if len(files) >= limits.POLICY_MODULES:
                raise LimitError(f"{path} holds over {limits.POLICY_MODULES} files", next_step="Split the pack.")
            check_size(entry.path, entry.size)
            files[entry.path] = content.read()
    if trusted is not None:
        from tidewaiter.policy import signatures

        signatures.check(files.pop(SIGNATURES, None), files, trusted, source=str(path))
    return {name: data for name, data in files.items() if belongs(name)}


def write(
    files: Mapping[str, bytes],
    *,
    revision: str,
    roots: Iterable[str],
    metadata: Mapping[str, object],
    sign: Signer | None = None,
) -> bytes:
    """A bundle of `files`.

    Args:
        files: contents by path.
        revision: names the policy; OPA shows it in its decision log.
        roots: parts of `data` that the bundle owns.
        metadata: what else `.manifest` says; OPA passes it on unread.
        sign: gives `.signatures.json` of all files; without it the bundle is not signed.
    """
    manifest = {"revision": revision, "roots": sorted(roots), "rego_version": 1, "metadata": metadata}
    contents = {MANIFEST: msgspec.json.format(msgspec.json.encode(manifest), indent=2), **files}
    if sign is not None:
        contents[SIGNATURES] = sign(contents)
    blob = io.BytesIO()
    write_layer(
        blob, [(Entry(path=path, kind="file", size=len(data)), data) for path, data in sorted(contents.items())]
    )
    return blob.getvalue()
