"""`key generate|list`, `sign`, `verify`: who vouches for an image."""

import getpass
import sys
from pathlib import Path
from typing import Annotated

from tidewaiter.cli import console
from tidewaiter.cli.console import Format, emit, emit_json
from tidewaiter.cli.parameters import Parameter
from tidewaiter.cli.workshop import workshop
from tidewaiter.core.errors import InputError, NotFoundError
from tidewaiter.oci import reference as references
from tidewaiter.oci.reference import StoreReference
from tidewaiter.pipelines import images, trusting
from tidewaiter.pipelines.workshop import Workshop
from tidewaiter.signing import keys


def password(shop: Workshop, prompt: str) -> bytes:
    """The key's password: `COSIGN_PASSWORD`, else asked for on a terminal, else an error."""
    if shop.settings.key_password is not None or not sys.stdin.isatty():
        return trusting.require_password(shop)
    return getpass.getpass(prompt).encode()


def key_generate(
    name: str = trusting.KEY_NAME,
    /,
    *,
    output: Annotated[Format, Parameter(name="--format")] = "text",
) -> int:
    """Make a key pair in cosign's format, marked `local`.

    Production refuses what a local key signs.
    The private key is encrypted with COSIGN_PASSWORD, or with a password asked for on the terminal.

    Args:
        name: name of the key in this home.
        output: text or json.
    """
    with workshop() as shop:
        made = keys.generate(
            shop.settings.home.keys, name, password(shop, f"Password for the new key {name}: "), builder="local"
        )
    if output == "json":
        emit_json(
            {
                "name": name,
                "private": str(made.private),
                "public": str(made.public),
                "fingerprint": made.fingerprint,
                "builder": "local",
            }
        )
        return 0
    emit(f"{name}  {made.fingerprint}  builder local")
    emit(f"  private  {made.private}")
    emit(f"  public   {made.public}")
    return 0


def key_list(*, output: Annotated[Format, Parameter(name="--format")] = "text") -> int:
    """List the keys of this home.

    Args:
        output: text or json.
    """
    with workshop() as shop:
        folder = shop.settings.home.keys
        found = []
        for public in sorted(folder.glob("*.pub")):
            marks = keys.load_marks(keys.files(folder, public.stem)[2])
            found.append((public.stem, marks))
    if output == "json":
        emit_json({"keys": [{"name": name, **_marks(marks)} for name, marks in found]})
        return 0
    rows = [(name, marks.builder, marks.created, marks.fingerprint) for name, marks in found]
    console.table(("name", "builder", "created", "fingerprint"), rows)
    return 0


def _marks(marks: keys.Marks) -> dict[str, str]:
    return {"builder": marks.builder, "created": marks.created, "fingerprint": marks.fingerprint}


def sign(
    image: str,
    /,
    *,
    key: str = trusting.KEY_NAME,
    output: Annotated[Format, Parameter(name="--format")] = "text",
) -> int:
    """Sign an image of the store in cosign's format.

    A second signature is added, it never replaces the first.

    Args:
        image: a store name, NAME:TAG.
        key: name of a key of this home.
        output: text or json.
    """
    given = references.parse(image)
    if not isinstance(given, StoreReference):
        raise InputError(f"{image} is not in the store", next_step="Sign an image of the store: NAME:TAG.")
    with workshop() as shop:
        found = images.store_reference(shop, given)
        try:
            shop.catalog.image(found.digest)
        except NotFoundError as error:
            raise NotFoundError(
                f"the catalog does not know {found.digest}", next_step="Build it with `tidewaiter build PROJECT`."
            ) from error
        signer = trusting.open_key(shop, key, password(shop, f"Password of the key {key}: "))
        written = trusting.sign(shop, found.name, found.digest, signer)
    fingerprint = signer.key.public.fingerprint
    if output == "json":
        emit_json({"digest": found.digest, "signature": written.digest, "fingerprint": fingerprint})
        return 0
    emit(f"signed {found.name}@{found.digest}")
    emit(f"  key        {fingerprint} (builder {signer.marks.builder})")
    emit(f"  signature  {written.digest}")
    return 0


def verify(
    image: str,
    /,
    *,
    key: Annotated[tuple[Path, ...], Parameter(name="--key", negative="")] = (),
    output: Annotated[Format, Parameter(name="--format")] = "text",
) -> int:
    """Check the signature of an image.

    Exits with 1 when none holds, with 3 when that could not be found out.

    Args:
        image: a store name (NAME:TAG) or HOST/REPO:TAG.
        key: a public key that is trusted; may be given several times. Default: all keys of this home.
        output: text or json.
    """
    with workshop() as shop:
        trusted = trusting.trusted_keys(shop, key)
        digest, verified = trusting.verify_image(shop, image, trusted)
    if output == "json":
        emit_json(
            {
                "reference": image,
                "digest": digest,
                "verified": True,
                "fingerprint": verified.fingerprint,
                "identity": verified.docker_reference,
                "annotations": dict(verified.annotations),
            }
        )
        return 0
    emit(f"verified {image}")
    emit(f"  digest    {digest}")
    emit(f"  key       {verified.fingerprint}")
    emit(f"  identity  {verified.docker_reference}")
    for name, value in sorted(verified.annotations.items()):
        emit(f"  {name}  {value}")
    return 0
