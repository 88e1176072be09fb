"""The gate as an ASGI application, to be mounted at `/v2`.

1. The path names something, or the answer is 404 without a look at anything.
2. Whoever asks may do that in the repository's project; else 401 for nobody, 403 for somebody.
3. The request is answered; whatever goes wrong is one of the specification's errors.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

from tidewaiter.access.roles import ALLOWED, Permission, project_of
from tidewaiter.catalog.gate_reading import Seen
from tidewaiter.catalog.versions import Version
from tidewaiter.core import limits
from tidewaiter.core.errors import IntegrityError, StorageError, TidewaiterError
from tidewaiter.gate import blobs, deciding, lists, manifests, passing, pushes, refusals
from tidewaiter.gate.refusals import RefusalError
from tidewaiter.gate.registry import LOG, Registry
from tidewaiter.gate.request import DisconnectedError, Receive, Request, Scope, Send, Target, target

_Endpoint = Callable[[Registry, Request, Target], Awaitable[None]]
_READ, _PUSH, _DELETE = Permission.IMAGE_PULL, Permission.IMAGE_PUSH, Permission.IMAGE_DELETE

_ENDPOINTS: Mapping[str, Mapping[str, tuple[Permission, _Endpoint]]] = {
    "manifest": {
        "GET": (_READ, manifests.fetch),
        "HEAD": (_READ, manifests.fetch),
        "PUT": (_PUSH, manifests.push),
        "DELETE": (_DELETE, manifests.remove),
    },
    "blob": {
        "GET": (_READ, blobs.fetch),
        "HEAD": (_READ, blobs.fetch),
        "DELETE": (_DELETE, blobs.remove),
    },
    "uploads": {"POST": (_PUSH, pushes.begin)},
    "upload": {
        "GET": (_PUSH, pushes.status),
        "PATCH": (_PUSH, pushes.go_on),
        "PUT": (_PUSH, pushes.finish),
        "DELETE": (_PUSH, pushes.cancel),
    },
    "tags": {"GET": (_READ, lists.tags)},
    "referrers": {"GET": (_READ, lists.referrers)},
}


class Gate:
    """The application. `running` is entered for as long as it serves."""

    def __init__(
        self,
        registry: Registry,
        *,
        changes: Callable[[], object],
        preparing: Callable[[], None] = lambda: None,
        closing: Callable[[], None] = lambda: None,
    ) -> None:
        """`changes` says something else whenever what is in quarantine may have become allowed; asked in a thread.

        `preparing` is called in a thread a few seconds after the start, so that no push waits for what it loads.
        `closing` is called at the end, after the last judgement.
        """
        self._preparing = preparing
        self._closing = closing
        self._registry = registry
        self._changes = changes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            raise RuntimeError(f"a registry answers no {scope['type']}")
        request = Request(scope, receive, send)
        try:
            await self._answer(request)
        except DisconnectedError:
            return
        except RefusalError as error:
            await _refuse(request, error)
        except IntegrityError as error:
            damaged = request.method in {"GET", "HEAD"}
            if damaged:
                LOG.error("%s: %s", scope["path"][: limits.GATE_PATH_BYTES], error.message)
            code = "UNAVAILABLE" if damaged else "DIGEST_INVALID"
            await _refuse(request, RefusalError(code, f"{error.message}. {error.next_step}"))
        except TidewaiterError as error:
            if isinstance(error, StorageError):
                LOG.error("%s: %s", scope["path"][: limits.GATE_PATH_BYTES], error.message)
            await _refuse(request, refusals.of(error))
        except Exception:  # noqa: BLE001  # a client gets an answer of the protocol; the log says what it was
            LOG.exception("%s", scope["path"][: limits.GATE_PATH_BYTES])
            await _refuse(request, RefusalError("UNKNOWN", "something went wrong here; the server's log says what"))

    async def _answer(self, request: Request) -> None:
        wanted = target(request.raw_path)  # step 1
        if wanted.kind in {"base", "catalog", "token"}:
            await self._of_registry(request, wanted)
            return
        methods = _ENDPOINTS[wanted.kind]
        found = methods.get(request.method)
        if found is None:
            raise RefusalError(
                "UNSUPPORTED", f"{request.method} is not supported here", headers={"Allow": ", ".join(methods)}
            )
        permission, endpoint = found
        project = project_of(wanted.repository)
        if not request.identity.may(permission, project):  # step 2
            if request.identity.kind == "anonymous":
                raise refusals.unauthorized(request.challenge)
            roles = ", ".join(role for role, allowed in ALLOWED.items() if permission in allowed)
            raise RefusalError(
                "DENIED",
                f"{request.identity.name} may not do this ({permission} in the project {project}). "
                f"Ask an administrator for one of the roles {roles} there.",
            )
        if not request.is_granted(permission, wanted.repository):
            raise refusals.unauthorized(f'{request.challenge},error="insufficient_scope"')
        await endpoint(self._registry, request, wanted)  # step 3

    async def _of_registry(self, request: Request, wanted: Target) -> None:
        if request.method not in {"GET", "HEAD"}:
            raise RefusalError("UNSUPPORTED", f"{request.method} is not supported here", headers={"Allow": "GET, HEAD"})
        if wanted.kind == "token":
            await passing.give(self._registry, request)
            return
        # Clients ask here whether they need a pass, so whoever has none is told where to get it, also nobody.
        if request.identity.kind == "anonymous" and request.access is None:
            raise refusals.unauthorized(request.challenge)
        if wanted.kind == "catalog":
            await lists.catalog(self._registry, request, wanted)
            return
        await request.answer(200, b"{}", Content_Type="application/json")

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Sweep uploads, and release what becomes allowed, until the block ends."""
        try:
            await self._registry.run(self._registry.store.create)
        except TidewaiterError as error:  # pages and pulls may still be answered
            LOG.error("the store: %s", error.message)  # our errors need no traceback
        tasks = [asyncio.create_task(task()) for task in (self._sweep, self._release, self._prepare)]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await asyncio.to_thread(self._registry.close)
            await asyncio.to_thread(self._closing)

    async def _prepare(self) -> None:
        await asyncio.sleep(limits.GATE_PREPARE_SECONDS)
        await self._registry.far(self._preparing)

    async def _sweep(self) -> None:
        while True:
            gone = await self._registry.run(self._registry.uploads.sweep)
            if gone:
                LOG.info("swept uploads", extra={"fields": {"uploads": gone}})
            try:
                gone = await self._registry.run(deciding.give_up, self._registry)
                if gone:
                    LOG.info("gave up what waited", extra={"fields": {"manifests": gone}})
            except TidewaiterError as error:
                LOG.error("giving up what waits: %s", error.message)  # our errors need no traceback
            await asyncio.sleep(limits.GATE_SWEEP_SECONDS)

    async def _release(self) -> None:
        """What a server that was killed left unanswered is judged first; then whatever changes may allow.

        What was cleared in this home without a push is taken, too, with what is attached to it there.
        """
        seen: object = None
        looked: Version | None = None
        beside = Seen()
        while True:
            try:
                found = await self._registry.run(self._changes)
                nudged = self._registry.take_nudged()
                only = None if found != seen else nudged
                for name in await self._registry.run(deciding.release, self._registry, only):
                    LOG.info("released", extra={"fields": {"image": name}})
                seen = found
                version = await self._registry.run(self._registry.version)
                if version is None or version != looked:
                    for name in await self._registry.run(deciding.take_cleared, self._registry):
                        LOG.info("taken", extra={"fields": {"image": name}})
                    attached, beside = await self._registry.run(deciding.take_attached, self._registry, beside)
                    for name in attached:
                        LOG.info("taken", extra={"fields": {"attached": name}})
                    looked = version
            except TidewaiterError as error:
                LOG.error("looking at what waits: %s", error.message)  # our errors need no traceback
            await asyncio.sleep(limits.GATE_RELEASE_SECONDS)


async def _refuse(request: Request, error: RefusalError) -> None:
    if request.began:
        return  # what was promised is cut off, which the client sees by its length
    body = error.body()
    headers = {"Content-Type": "application/json", "Content-Length": str(len(body)), **error.headers}
    await request.start(error.status, headers)
    await request.piece(b"" if request.method == "HEAD" else body, more=False)
