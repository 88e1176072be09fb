"""Things that somebody signs for a tiny image; and many processes that attach theirs to it at once. Also a process.

As a process, `attach_worker.py HOME IMAGE COUNT [HOST/REPO]` forks COUNT processes when everything is loaded. Each
opens the home by itself and attaches a signature and an attestation by a key of its own in both formats, in the store
or, when a repository is named, there. Then it prints the fingerprints of the keys whose process ended well.
"""

import os
import sys
from pathlib import Path

from images import make_image
from tidewaiter.catalog import catalog
from tidewaiter.core import settings
from tidewaiter.core.progress import SILENT
from tidewaiter.distribution.registry import Repository
from tidewaiter.oci import digest as digests
from tidewaiter.oci import image as images
from tidewaiter.oci import reference as references
from tidewaiter.oci.digest import Digest
from tidewaiter.oci.manifest import Descriptor
from tidewaiter.pipelines import pulled
from tidewaiter.pipelines.attachments import attaching, sending
from tidewaiter.pipelines.attachments.attaching import Signed
from tidewaiter.pipelines.images import connect, stored_descriptor
from tidewaiter.pipelines.workshop import Workshop, opened
from tidewaiter.signing import dsse, keys, predicates, simple_signing, statement
from tidewaiter.signing.gathered import Format
from tidewaiter.signing.keys import PrivateKey
from tidewaiter.signing.statement import Statement
from tidewaiter.transport import client

NAME = "registry.example/team/tiny"
BOTH: tuple[Format, ...] = ("tag", "bundle")


def signature(image: Digest, key: PrivateKey, name: str = NAME) -> tuple[Signed, Signed]:
    """An image signature in both shapes."""
    payload = simple_signing.encode(name, image)
    envelope = statement.attest(statement.image_signature(name, image), key)
    return (
        Signed(
            predicate_type=predicates.SIGNATURE,
            document=payload,
            signature=key.sign(payload),
            public=key.public,
            builder="local",
        ),
        Signed(predicate_type=predicates.SIGNATURE, document=envelope, public=key.public, builder="local"),
    )


def attestation(image: Digest, key: PrivateKey, predicate_type: str = predicates.OPENVEX, note: str = "") -> Signed:
    """An attestation, whose predicate says `note`."""
    about = Statement((statement.about(NAME, image),), predicate_type, {"note": note})
    return Signed(
        predicate_type=predicate_type,
        document=dsse.sign(statement.encode(about), key),
        public=key.public,
        builder="local",
    )


def everything(image: Digest, key: PrivateKey) -> list[Signed]:
    """A signature and an attestation."""
    return [*signature(image, key), attestation(image, key, note=str(key.public.fingerprint))]


def image_of(shop: Workshop, tag: str = "v1") -> Descriptor:
    """A tiny image of the store, `team/tiny:TAG`, that was not there before."""
    _, image = make_image(shop.store.path, sizes=(10,))
    pulled.record(shop, images.load(shop.store, image), references.parse_store(f"team/tiny:{tag}"), "a test")
    return image


def repository(shop: Workshop, place: str) -> Repository:
    """The repository `HOST/REPO`."""
    return connect(shop, references.parse_registry(place))


def _attach(home: Path, image: Digest, key: PrivateKey, place: str) -> None:
    environment = {"TIDEWAITER_HOME": str(home), "TIDEWAITER_PLAIN_HTTP": place.partition("/")[0]}
    with opened(settings.load(environment), SILENT) as shop:
        signed = everything(image, key)
        if place:
            sending.attach_remote(shop, repository(shop, place), image, signed, BOTH)
        else:
            attaching.attach(shop, stored_descriptor(shop.store, image), signed, BOTH)


def main(home: Path, image: Digest, count: int, place: str) -> None:
    """See the module."""
    assert catalog, client  # loaded once, for all
    children = {}
    for _ in range(count):
        key = keys.create()
        child = os.fork()
        if child == 0:
            code = 1
            try:
                _attach(home, image, key, place)
                code = 0
            finally:
                sys.stderr.flush()
                os._exit(code)
        children[child] = key.public.fingerprint
    for child, fingerprint in children.items():
        if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0:
            sys.stdout.write(f"{fingerprint}\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), digests.parse(sys.argv[2]), int(sys.argv[3]), "".join(sys.argv[4:]))
