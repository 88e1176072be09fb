"""The payload of a cosign image signature, to the byte (Red Hat's simple signing, as cosign writes it in Go)."""

import json
from collections.abc import Mapping
from typing import Any

import msgspec

from tidewaiter.core import limits
from tidewaiter.core.errors import InputError, LimitError
from tidewaiter.oci import digest as digests
from tidewaiter.oci.digest import Digest
from tidewaiter.signing import strict_json

MEDIA_TYPE = "application/vnd.dev.cosign.simplesigning.v1+json"
TYPE = "cosign container image signature"

# encoding/json escapes these so that JSON may stand in HTML and JavaScript.
_GO_ESCAPES = str.maketrans({character: f"\\u{ord(character):04x}" for character in "<>&\u2028\u2029"})


class Payload(msgspec.Struct, frozen=True):
    """What a signature says: this key signed this image, meant for this repository, with these annotations."""

    docker_reference: str
    digest: Digest
    annotations: dict[str, Any]


def encode(docker_reference: str, digest: Digest, annotations: Mapping[str, str] | None = None) -> bytes:
    """Canonical bytes of the payload, equal to what cosign writes.

    Raises:
        InputError: an annotation or the name is not Unicode, or (LimitError) it is longer than what is read.
    """
    document = {
        "critical": {
            "identity": {"docker-reference": docker_reference},
            "image": {"docker-manifest-digest": digest},
            "type": TYPE,
        },
        "optional": dict(sorted(annotations.items())) if annotations else None,
    }
    try:
        text = json.dumps(document, ensure_ascii=False, separators=(",", ":")).translate(_GO_ESCAPES)
        data = text.encode()
    except UnicodeEncodeError as error:
        raise InputError(
            "an annotation or the repository's name is not Unicode", next_step="Give it in UTF-8."
        ) from error
    if len(data) > limits.PAYLOAD_BYTES:
        raise LimitError(
            f"the signature's payload has {len(data)} bytes, over {limits.PAYLOAD_BYTES}",
            next_step="Give fewer or shorter annotations.",
        )
    return data


def _object(document: dict[str, Any], name: str, keys: set[str]) -> dict[str, Any]:
    value = document.get(name)
    if not isinstance(value, dict) or set(value) != keys:
        raise InputError(f"`{name}` of the payload is not as cosign writes it", next_step="Refuse this signature.")
    return value


def parse(data: bytes) -> Payload:
    """The payload in `data`.

    Raises:
        LimitError: it is too large.
        InputError: it is not JSON, has unknown or doubled keys, another type, or no digest.
    """
    document = strict_json.loads(data)
    if not {"critical"} <= set(document) <= {"critical", "optional"}:
        raise InputError("the payload is not as cosign writes it", next_step="Refuse this signature.")
    critical = _object(document, "critical", {"identity", "image", "type"})
    reference = _object(critical, "identity", {"docker-reference"})["docker-reference"]
    image = _object(critical, "image", {"docker-manifest-digest"})["docker-manifest-digest"]
    optional = document.get("optional") or {}
    if critical["type"] != TYPE:
        raise InputError(
            f"the payload's type is {str(critical['type'])[:80]!r}, not {TYPE!r}", next_step="Refuse this signature."
        )
    if not isinstance(reference, str) or not isinstance(image, str) or not isinstance(optional, dict):
        raise InputError("the payload has a value of the wrong type", next_step="Refuse this signature.")
    return Payload(docker_reference=reference, digest=digests.parse(image), annotations=optional)
