"""The reference page of the API, written from its description: `python -m tidewaiter.web.api.reference`."""

import sys
from collections.abc import Iterator
from typing import Any

import msgspec

from tidewaiter.web.api import description, routes
from tidewaiter.web.api.description import Document
from tidewaiter.web.api.route import JSON

_HEAD = """# API

<!-- Written by `python -m tidewaiter.web.api.reference`; a test compares it. -->

Everything below is under the address of the server, and described for programs at `/api/v1/openapi.json` (OpenAPI 3.1).
Who may ask what is in [api-access.md](api-access.md).

- **Who asks**: `Authorization: Bearer TOKEN` with an API token or the OIDC token of a CI job, `Basic` with a token in
  the place of the password, or the cookie of who logged in. Wrong credentials are 401, never "nobody".
- **Lists** come in parts: `{"items": […], "next": "…"}`. Give `next` as `after` for the part behind it; null is the
  end. Rows that are added meanwhile neither repeat an item nor hide one.
- **Unchanged**: every answer to GET has a strong `ETag`; with `If-None-Match` it is 304 when nothing changed.
- **Errors** are problem documents (RFC 9457): `type`, `title`, `status`, `detail`, `code` (stable), and `next`, what to
  do now. 422: the request is not what this page asks for, an unknown parameter too. 400: it is, and means nothing
  here (a made-up cursor, a NUL). 404: there is no such thing. 401, 403: who asks may not. 429: too many requests.

    curl -H "Authorization: Bearer $TIDEWAITER_TOKEN" https://tidewaiter.example/api/v1/images?environment=production
"""


def page(document: Document) -> str:
    """The page."""
    by_tag: dict[str, list[tuple[str, str, Document]]] = {}
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            by_tag.setdefault(operation["tags"][0], []).append((method.upper(), path, operation))
    lines = [_HEAD]
    for tag, operations in by_tag.items():
        lines += [f"## {tag.capitalize()}", "", "| | |", "|---|---|"]
        lines += [
            f"| [`{method} {path}`](#{operation['operationId']}) | {operation['summary']} |"
            for method, path, operation in operations
        ]
        lines.append("")
        for method, path, operation in operations:
            lines += _operation(method, path, operation, document)
    return "\n".join(lines).rstrip("\n") + "\n"


def _operation(method: str, path: str, operation: Document, document: Document) -> Iterator[str]:
    yield f"### {operation['operationId']}"
    yield ""
    yield f"    {method} {path}"
    yield ""
    yield f"{operation['summary']}. {operation['description']}".strip()
    yield ""
    if operation["parameters"]:
        yield "| parameter | in | type | |"
        yield "|---|---|---|---|"
        for one in operation["parameters"]:
            schema = one["schema"]
            told = [one.get("description", "")]
            if schema.get("default") not in {None, "", False}:
                told.append(f"Default {schema['default']}.")
            name = f"`{one['name']}`{' (required)' if one['required'] else ''}"
            text = " ".join(filter(None, told)).replace("|", "\\|")
            yield f"| {name} | {one['in']} | {_type(schema, document)} | {text} |"
        yield ""
    if "requestBody" in operation:
        ((media_type, content),) = operation["requestBody"]["content"].items()
        yield f"Body: {_type(content['schema'], document) if media_type == JSON else f'a file, `{media_type}`'}"
        yield ""
        yield from _block(content)
    for status, answer in operation["responses"].items():
        if status.startswith("2"):
            for media_type, content in answer.get("content", {}).items():
                what = _type(content["schema"], document) if content["schema"] else "a document"
                yield f"{status}: {what}, `{media_type}`"
                yield ""
                yield from _block(content)
    own = [status for status in operation["responses"] if status in {"404", "409", "412", "428"}]
    if own:
        yield f"Besides: {', '.join(own)}."
        yield ""


def _block(content: Document) -> Iterator[str]:
    if "example" in content:
        yield "```json"
        yield msgspec.json.format(msgspec.json.encode(content["example"]), indent=2).decode()
        yield "```"
        yield ""


def _type(schema: Any, document: Document) -> str:  # noqa: ANN401 - a part of the document
    """What a reader should know of a schema, in a few words."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        about = document["components"]["schemas"][name].get("description", "").split("\n")[0].rstrip(".")
        return f"{name}{f' ({about})' if about else ''}"
    if "anyOf" in schema:
        return " or ".join(_type(one, document) for one in schema["anyOf"])
    if "enum" in schema:
        return ", ".join(f"`{one}`" for one in schema["enum"] if one != "")
    kind = str(schema.get("type", "any"))
    bounds = [
        f"{word} {schema[key]}"
        for key, word in (("minimum", "from"), ("maximum", "to"), ("maxLength", "at most"))
        if key in schema
    ]
    return f"{kind}{f', {chr(32).join(bounds)}' if bounds else ''}"


if __name__ == "__main__":
    sys.stdout.write(page(description.document(routes.every())))
