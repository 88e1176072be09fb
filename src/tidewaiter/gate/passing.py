"""Passes for registry clients, as Docker's token protocol has it: a login once, then a pass for some repositories.

`GET /v2/token?service=tidewaiter&scope=repository:NAME:pull,push`. Whoever did not log in gets one as well, where
nobody has to: docker pulls with nothing else. What whoever asks may not do is not granted, and that is no error; the
request that needs it is then told why.
"""

from collections.abc import Iterable

import msgspec

from tidewaiter.access.passes import Credential
from tidewaiter.access.roles import Permission, project_of
from tidewaiter.core import clock, limits
from tidewaiter.core.errors import InputError
from tidewaiter.gate import refusals
from tidewaiter.gate.refusals import RefusalError
from tidewaiter.gate.registry import Registry
from tidewaiter.gate.request import ACTIONS, Request
from tidewaiter.oci import reference as references


async def give(registry: Registry, request: Request) -> None:
    """GET: a pass for what is asked for."""
    if request.access is not None:
        raise RefusalError("DENIED", "a pass is given for a login, not for another pass")
    if request.identity.kind == "anonymous" and not request.identity.may_somewhere(Permission.IMAGE_PULL):
        raise refusals.unauthorized('Basic realm="tidewaiter", charset="UTF-8"')
    wanted = _scopes(request.query.get("scope", ()))
    access = {
        name: frozenset(
            action
            for permission, action in ACTIONS.items()
            if action in actions | ({action} if "*" in actions else set())
            and request.identity.may(permission, project_of(name))
        )
        for name, actions in wanted.items()
    }
    text = await registry.run(registry.passes.give, Credential(request.identity, request.token), access)
    body = {
        "token": text,
        "access_token": text,
        "expires_in": limits.GATE_PASS_SECONDS,
        "issued_at": clock.rfc3339(clock.now()),
    }
    await request.answer(200, msgspec.json.encode(body), Content_Type="application/json", Cache_Control="no-store")


def _scopes(given: Iterable[str]) -> dict[str, set[str]]:
    """Repositories, and what is asked for there; what is no scope of a repository grants nothing."""
    found: dict[str, set[str]] = {}
    for text in " ".join(given).split():
        kind, _, rest = text.partition(":")
        name, colon, actions = rest.rpartition(":")
        if kind != "repository" or not colon:
            continue
        try:
            references.check_repository(name)
        except InputError as error:
            raise RefusalError("NAME_INVALID", error.message) from error
        found.setdefault(name, set()).update(actions.split(","))
        if len(found) > limits.GATE_SCOPES:
            raise RefusalError("UNSUPPORTED", f"over {limits.GATE_SCOPES} repositories at once", status=400)
    return found
