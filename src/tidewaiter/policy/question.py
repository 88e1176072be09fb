"""What an OPA server is asked, and what its answers mean, in the words of the embedded engine."""

import hashlib
import json
from collections.abc import Sequence
from urllib.parse import quote

_STRICT = "?strict-builtin-errors=true"
_UNDEFINED = "results is undefined"
_MESSAGE = 500


def target(package: str) -> str:
    """Where `results` of a package is asked for."""
    return f"/v1/data/{'/'.join(quote(part, safe='') for part in package.split('.'))}/results{_STRICT}"


def answer(status: int, data: bytes, folder: str) -> dict[str, object]:
    """What one package answered: `value`, or `error` with file and line; raises `ValueError` for what is no answer."""
    content = json.loads(data)
    if status == 200:
        return {"value": content["result"]} if "result" in content else {"error": _UNDEFINED}
    first = (content.get("errors") or [content])[0]
    place = first.get("location") or {}
    text = str(first.get("message", "")).replace(folder, "")[:_MESSAGE]
    file = str(place.get("file", "")).removeprefix(folder)
    return {"error": f"{file}:{place.get('row')}: {text}" if file else text}


class Question:
    """One rule that gives the results of all packages, so that a document is sent and read once.

    Its package has a name that no pack can hold: a digest of the pack itself.
    """

    def __init__(self, packages: Sequence[str], pack: str) -> None:
        name = f"question_{hashlib.sha256(pack.encode()).hexdigest()}"
        lines = (f'answer["{package}"] := data.{package}.results\n' for package in packages)
        self.module = "\n".join((f"package {name}\n", *lines))
        self.target = f"/v1/data/{name}/answer{_STRICT}"
        self._packages = packages

    def answer(self, data: bytes) -> bytes:
        """What each package answered."""
        found = json.loads(data).get("result", {})
        missing = {package: {"error": _UNDEFINED} for package in self._packages if package not in found}
        return json.dumps({**{package: {"value": found[package]} for package in found}, **missing}).encode()
