"""Base64 of signed documents: one text for one value, so that no two readers differ (RFC 4648, section 3.5)."""

import base64

from tidewaiter.core.errors import InputError

_REFUSE = "Refuse this document: it is broken or made to be read in two ways."


def decode(text: object, what: str, *, url_safe: bool = False) -> bytes:
    """The bytes in `text`, which `what` names in errors; `url_safe` accepts that alphabet too, but no mix of both.

    Raises:
        InputError: it is no text, or not what an encoder writes: line breaks, missing or needless padding, stray bits.
    """
    if not isinstance(text, str):
        raise InputError(f"{what} is missing", next_step=_REFUSE)
    standard = text
    if url_safe and "+" not in text and "/" not in text:
        standard = text.replace("-", "+").replace("_", "/")
    try:
        data = base64.b64decode(standard)
    except ValueError as error:  # binascii.Error is one; so is a character that is not ASCII
        raise InputError(f"{what} is not base64", next_step=_REFUSE) from error
    # Python passes over much; encoders write one text.
    if base64.b64encode(data).decode() != standard:
        raise InputError(f"{what} is not base64 as encoders write it", next_step=_REFUSE)
    return data
