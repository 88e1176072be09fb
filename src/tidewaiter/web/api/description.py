"""The OpenAPI 3.1 document, from the routes and the types that they take and give."""

from collections.abc import Iterable
from importlib.resources import files
from typing import Any

import msgspec

import tidewaiter
from tidewaiter.access.identity import ANONYMOUS_VIEWER
from tidewaiter.web import problems
from tidewaiter.web.api.route import JSON, Route
from tidewaiter.web.api.uploads import OCTETS
from tidewaiter.web.problems import Problem

Document = dict[str, Any]
_REF = "#/components/schemas/{name}"
_ALWAYS = (400, 401, 403, 406, 414, 422, 429, 431, 503)
"""Statuses that any operation may answer; those with a path parameter 404 as well, those with a body 413 and 415."""
_BODY = (413, 415)
_SESSION = "Who logged in by a browser. With TLS the name begins with `__Host-`."
_SECURITY: Document = {
    "bearer": {
        "type": "http",
        "scheme": "bearer",
        "description": "An API token (`tdw_…`), or the OIDC token of a CI job of GitLab or GitHub.",
    },
    "session": {"type": "apiKey", "in": "cookie", "name": "tidewaiter-session", "description": _SESSION},
    "basic": {
        "type": "http",
        "scheme": "basic",
        "description": "A user's name and an API token, as registry clients send it.",
    },
}


def example(route: Route) -> Document:
    """`path`, `query`, `body` and `answer` of one request that the route takes; what it has none of is missing."""
    found: Document = examples(route.tag).get(route.operation, {})
    return found


def examples(tag: str) -> Document:
    """The examples of the routes about one thing, by operation."""
    file = files("tidewaiter.web.api") / "examples" / f"{tag}.json"
    found: Document = msgspec.json.decode(file.read_bytes()) if file.is_file() else {}
    return found


def _everywhere(value: Any) -> Any:  # noqa: ANN401 - any part of the document
    r"""Patterns as ECMA 262 writes them: `$` is the end of the text there, which Python spells `\Z`."""
    if isinstance(value, dict):
        return {
            key: one.replace(r"\Z", "$") if key == "pattern" and isinstance(one, str) else _everywhere(one)
            for key, one in value.items()
        }
    return [_everywhere(one) for one in value] if isinstance(value, list) else value


def _anything(kind: type) -> Document:
    """Schema of a value that may be anything; `NotImplementedError` for another type that msgspec does not know."""
    if kind is object:
        return {"description": "Any value."}
    raise NotImplementedError(kind)


def document(routes: Iterable[Route]) -> Document:
    """The whole document."""
    every = list(routes)
    answers = [route.gives for route in every if route.gives is not None]
    bodies = [route.takes["body"] for route in every if "body" in route.takes]
    parameters = [route.takes[where] for route in every for where in ("path", "query") if where in route.takes]
    schemas, found = msgspec.json.schema_components(
        [Problem, *answers, *bodies, *parameters], ref_template=_REF, schema_hook=_anything
    )
    components = _everywhere(found)
    by_type = dict(zip(map(id, [Problem, *answers, *bodies, *parameters]), schemas, strict=True))
    paths: Document = {}
    for route in every:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, by_type, components)
    tags = sorted({route.tag for route in every})
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Tidewaiter",
            "version": tidewaiter.__version__,
            "summary": "What is known of a company's container images, and what may run.",
            "description": _ABOUT,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "tags": [{"name": tag} for tag in tags],
        "paths": paths,
        "components": {
            "schemas": _used([paths, by_type[id(Problem)]], components),
            "responses": _problems(by_type[id(Problem)], paths),
            "securitySchemes": _SECURITY,
        },
    }


_ABOUT = (
    "Answers are JSON, errors are problem documents (RFC 9457) with a stable `code` and what to do next. "
    "Lists come in parts: give `next` as `after` for the following one. Every answer to GET has a strong `ETag`; "
    "with `If-None-Match` it is 304 when nothing changed. What a request names and the API does not know is an error: "
    "422 when this description rules it out, 400 when it cannot be understood."
)


def _operation(route: Route, by_type: dict[int, Document], components: Document) -> Document:
    summary, _, rest = (route.function.__doc__ or "").strip().partition("\n")
    shown = example(route)
    made: Document = {
        "operationId": route.operation,
        "tags": [route.tag],
        "summary": summary.strip().rstrip("."),
        "description": " ".join(rest.split()) + (" " if rest.strip() else "") + _needs(route),
        "parameters": [
            parameter
            for where in ("path", "query")
            if where in route.takes
            for parameter in _parameters(where, _resolved(by_type[id(route.takes[where])], components), shown)
        ],
        "security": _security(route),
    }
    if "body" in route.takes:
        content: Document = {"schema": by_type[id(route.takes["body"])]}
        if "body" in shown:
            content["example"] = shown["body"]
        made["requestBody"] = {"required": True, "content": {JSON: content}}
    if route.uploads:
        made["requestBody"] = {
            "required": True,
            "content": {OCTETS: {"schema": {"type": "string", "format": "binary"}}},
        }
    made["responses"] = _responses(route, by_type, shown)
    return made


def _needs(route: Route) -> str:
    if route.permission is None:
        return "Anyone may ask."
    return f"Needs `{route.permission}`{' in the project of the image' if route.in_project else ''}."


def _security(route: Route) -> list[Document]:
    ways: list[Document] = [{name: []} for name in _SECURITY]
    # A server may let anyone read, as a viewer.
    return [{}, *ways] if route.permission is None or ANONYMOUS_VIEWER.may_somewhere(route.permission) else ways


def _resolved(schema: Document, components: Document) -> Document:
    found: Document = components[schema["$ref"].rpartition("/")[2]] if "$ref" in schema else schema
    return found


def _parameters(where: str, schema: Document, shown: Document) -> list[Document]:
    made = []
    for name, one in schema.get("properties", {}).items():
        parameter = {
            "name": name,
            "in": where,
            "required": where == "path" or name in schema.get("required", ()),
            "schema": {key: value for key, value in one.items() if key != "description"},
        }
        if "description" in one:
            parameter["description"] = one["description"]
        if name in shown.get(where, {}):
            parameter["example"] = shown[where][name]
        made.append(parameter)
    return made


def _responses(route: Route, by_type: dict[int, Document], shown: Document) -> Document:
    good: Document = {"description": "Done." if not route.reads else "The answer."}
    if route.gives is not None:
        content: Document = {"schema": by_type[id(route.gives)]}
        if "answer" in shown:
            content["example"] = shown["answer"]
        good["content"] = {JSON: content}
    elif route.status != 204:
        good["content"] = {route.media_type: {"schema": {} if route.media_type == JSON else {"type": "string"}}}
    made: Document = {str(route.status): good}
    if route.later:
        where = {"description": "Where to ask for the job.", "schema": {"type": "string"}}
        later = {"description": "The work goes on.", "headers": {"Location": where}, "content": good.get("content", {})}
        made["202"] = later
    if route.reads:
        good["headers"] = {"ETag": {"description": "Digest of the answer.", "schema": {"type": "string"}}}
        made["304"] = {"description": "Nothing changed since the answer with this `ETag`."}
    statuses = {*_ALWAYS, *route.errors, *((404,) if "path" in route.takes else ())}
    if "body" in route.takes or route.uploads:
        statuses |= {*_BODY}
    if not route.reads:
        statuses |= {404, 409}
    for status in sorted(statuses):
        made[str(status)] = {"$ref": f"#/components/responses/{status}"}
    return made


def _problems(schema: Document, paths: Document) -> Document:
    """The problem documents that operations answer, by status."""
    statuses = {
        int(status)
        for path in paths.values()
        for operation in path.values()
        for status, answer in operation["responses"].items()
        if "$ref" in answer
    }
    return {
        str(status): {
            "description": problems.title(status),
            "content": {problems.MEDIA_TYPE: {"schema": schema}},
        }
        for status in sorted(statuses)
    }


def _used(roots: list[Any], components: Document) -> Document:
    """The components that these refer to, by way of each other too."""
    names: set[str] = set()
    waiting = list(roots)
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            name = value.get("$ref", "")
            if isinstance(name, str) and name.startswith("#/components/schemas/"):
                found = name.rpartition("/")[2]
                if found not in names:
                    names.add(found)
                    waiting.append(components[found])
            waiting += value.values()
        elif isinstance(value, list):
            waiting += value
    return {name: components[name] for name in sorted(names)}
