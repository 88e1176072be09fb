"""A route is declared once, where its function stands.

    ROUTES = Routes("workloads")

    @ROUTES.get("/workloads", permission=Permission.CATALOG_READ)
    def list_workloads(ask: Ask, query: WorkloadsQuery) -> Page[WorkloadAnswer]:
        '''What runs, by cluster, namespace and name.

        More that a reader of the description should know.
        '''

The function takes what it names of `ask` (who asks, and the catalog), `path`, `query` and `body` (msgspec structs,
checked before it is called), or `upload` (a body that is a file) in the place of `body`, and returns a msgspec struct,
nothing (204), or a `Response` that it made.
Its name is the operation's identifier. It runs in a thread, or on the event loop when it is `async`. What it raises
becomes a problem document. Examples stand in `examples/TAG.json`, by operation.
"""

import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Generic, Literal, TypeVar, get_type_hints

import msgspec
from fastapi import Request, Response

from tidewaiter.access.identity import Identity
from tidewaiter.access.roles import Permission, project_of
from tidewaiter.catalog import idempotency
from tidewaiter.catalog.catalog import Catalog
from tidewaiter.catalog.group_commit import Change
from tidewaiter.catalog.idempotency import Key
from tidewaiter.core import clock, limits
from tidewaiter.core.progress import SILENT
from tidewaiter.pipelines.workshop import Workshop, opened
from tidewaiter.web.source import Source

PREFIX = "/api/v1"
JSON = "application/json"

Method = Literal["POST", "PUT", "PATCH", "DELETE"]
Item = TypeVar("Item")
_Result = TypeVar("_Result")
_Function = TypeVar("_Function", bound=Callable[..., Any])


class Ask:
    """Who asks, and of what: the first argument of every route."""

    def __init__(self, request: Request, route: "Route", source: Source, identity: Identity) -> None:
        self.request = request
        self.route = route
        self.source = source
        self.identity = identity
        self.key: Key | None = None
        """Under which the change is asked for; set while it is made."""
        self.required: list[tuple[Permission, str | None]] = []
        """What was found to be allowed, and in which project: who gets the answer again has to have it still."""

    @property
    def catalog(self) -> Catalog:
        """The catalog in the name of who asks: for what changes it."""
        return self.source.catalog.acting(self.identity.name, self.key)

    def together(self, change: Change[_Result]) -> _Result:
        """What `change` returns, once it is on the disk: in the name of who asks, marking the key.

        What others ask for at the same time is in the same transaction. Raises what `change` raises, and
        `StorageError`.
        """
        key = self.key

        def marked(connection: Any) -> _Result:  # noqa: ANN401 - of the catalog, which alone knows SQL
            result = change(connection)
            if key is not None:
                idempotency.mark(connection, key, clock.now())
            return result

        return self.source.group.run(marked, actor=self.identity.name)

    @contextmanager
    def workshop(self) -> Iterator[Workshop]:
        """What the steps of a pipeline need, in the name of who asks. Raises `StorageError`."""
        with opened(msgspec.structs.replace(self.source.settings, identity=self.identity.name), SILENT) as shop:
            yield shop

    def require(self, repository: str) -> None:
        """Return when the route's permission is had in the project of the repository; else `RefusedError`."""
        if self.route.permission is not None:
            self.permit(self.route.permission, project_of(repository))

    def permit(self, permission: Permission, project: str | None = None) -> None:
        """Return when the permission is had in the project, or everywhere; else `RefusedError`."""
        self.identity.require(permission, project)
        self.required.append((permission, project))


class Page(msgspec.Struct, Generic[Item], frozen=True):
    """A part of a list."""

    items: tuple[Item, ...]
    next: str | None = None
    """Give it as `after` for the next part; null at the end."""


class Route(msgspec.Struct, frozen=True, kw_only=True):
    """What is declared of one operation."""

    method: str
    path: str
    permission: Permission | None
    """None: anyone, even who is not known."""
    in_project: bool
    """The function itself asks for the permission, by `Ask.require`, once it knows the project."""
    function: Callable[..., Any]
    tag: str
    takes: Mapping[str, type[msgspec.Struct]]
    """`path`, `query` and `body`, those that it takes."""
    gives: Any
    """Type of the answer; None when it has no content, or is a `Response` that the function makes."""
    status: int
    media_type: str
    errors: tuple[int, ...]
    body_bytes: int
    uploads: bool
    """The body is a file."""
    later: bool
    """The answer may be 202 and the same document: the work goes on, and `Location` says where to ask for it."""

    @property
    def operation(self) -> str:
        """Stable name of the operation."""
        return self.function.__name__

    @property
    def reads(self) -> bool:
        """Whether it changes nothing."""
        return self.method == "GET"


class Routes:
    """The routes about one thing, in the order in which they are declared."""

    def __init__(self, tag: str) -> None:
        self.tag = tag
        self.all: list[Route] = []

    def get(
        self,
        path: str,
        *,
        permission: Permission | None,
        in_project: bool = False,
        media_type: str = JSON,
        errors: tuple[int, ...] = (),
    ) -> Callable[[_Function], _Function]:
        """Declare what answers GET and HEAD of `path`, which is below `/api/v1`; `errors` are statuses of its own."""
        return self._declare(
            "GET", path, permission=permission, in_project=in_project, media_type=media_type, errors=errors
        )

    def change(
        self,
        method: Method,
        path: str,
        *,
        permission: Permission | None,
        in_project: bool = False,
        status: int = 200,
        errors: tuple[int, ...] = (),
        body_bytes: int = limits.API_BODY_BYTES,
        later: bool = False,
    ) -> Callable[[_Function], _Function]:
        """Declare what changes something; otherwise as `get`. A body is at most `body_bytes` long.

        With `later` the answer may be that the work goes on (202).
        """
        return self._declare(
            method,
            path,
            permission=permission,
            in_project=in_project,
            status=status,
            errors=errors,
            body_bytes=body_bytes,
            later=later,
        )

    def _declare(
        self,
        method: str,
        path: str,
        *,
        permission: Permission | None,
        in_project: bool,
        errors: tuple[int, ...],
        status: int = 200,
        media_type: str = JSON,
        body_bytes: int = 0,
        later: bool = False,
    ) -> Callable[[_Function], _Function]:
        def declare(function: _Function) -> _Function:
            hints = get_type_hints(function, include_extras=True)
            gives = hints.pop("return", None)
            names = list(inspect.signature(function).parameters)
            if names[:1] != ["ask"] or not set(names[1:]) <= {"path", "query", "body", "upload"}:
                raise TypeError(f"{function.__name__} takes {names}, not ask and some of path, query, body, upload")
            if not (function.__doc__ or "").strip():
                raise TypeError(f"{function.__name__} says nothing of what it does")
            self.all.append(
                Route(
                    method=method,
                    path=PREFIX + path,
                    permission=permission,
                    in_project=in_project,
                    function=function,
                    tag=self.tag,
                    takes={name: hints[name] for name in names[1:] if name != "upload"},
                    gives=None if gives in {None, type(None), Response} else gives,
                    status=status,
                    media_type=media_type,
                    errors=errors,
                    body_bytes=body_bytes,
                    uploads="upload" in names,
                    later=later,
                )
            )
            return function

        return declare
