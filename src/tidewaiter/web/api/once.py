"""Answers with a secret in them: given once, and kept nowhere, also not for who asks again with the same key."""

import msgspec
from fastapi import Response

from tidewaiter.web.api.route import JSON


def answer(value: msgspec.Struct, status: int) -> Response:
    """The value as an answer that no cache keeps."""
    return Response(
        msgspec.json.encode(value), status_code=status, media_type=JSON, headers={"Cache-Control": "no-store"}
    )
