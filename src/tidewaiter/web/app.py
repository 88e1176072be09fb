"""The web application: routes, static files, and errors as pages or as `problem+json`."""

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus
from importlib.resources import files

import msgspec
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException

import tidewaiter
from tidewaiter.core.errors import (
    DeadlineError,
    InputError,
    NotFoundError,
    RefusedError,
    StorageError,
    TidewaiterError,
    UndeterminedError,
)
from tidewaiter.core.settings import Settings
from tidewaiter.web import api, pages, present
from tidewaiter.web.guard import Guard
from tidewaiter.web.source import Source

_STATUS: tuple[tuple[type[TidewaiterError], int], ...] = (
    (NotFoundError, 404),
    (InputError, 400),
    (RefusedError, 403),
    (StorageError, 503),
    (DeadlineError, 503),
    (UndeterminedError, 502),
)

_LOG = logging.getLogger("tidewaiter.web")


def create(settings: Settings, *, hosts: frozenset[str] | None = None) -> FastAPI:
    """The application on the home's catalog and store.

    Args:
        settings: the home.
        hosts: host names (without port) that requests may be for; None accepts any.
    """
    source = Source(settings)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        source.close()

    app = FastAPI(
        title="Tidewaiter",
        version=tidewaiter.__version__,
        openapi_url="/api/v1/openapi.json",
        # FastAPI's own documentation pages load scripts from elsewhere.
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
        # Settings are read in one place, and nothing is sent anywhere unasked.
        telemetry={"tracing": False, "metrics": False, "logs": False, "auto_configure": False},
    )
    app.state.source = source
    app.state.templates = present.environment()
    app.include_router(api.router)
    app.mount("/static", StaticFiles(directory=str(files("tidewaiter.web") / "static")), name="static")
    app.include_router(pages.router)
    app.add_middleware(Guard, hosts=hosts)
    app.add_exception_handler(TidewaiterError, _our_error)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(Exception, _unexpected)
    return app


def _our_error(request: Request, error: Exception) -> Response:
    if not isinstance(error, TidewaiterError):
        raise TypeError(f"registered for TidewaiterError, called with {type(error)}")
    status = next((status for kind, status in _STATUS if isinstance(error, kind)), 500)
    if status >= 500:
        _LOG.error("%s: %s", request.url.path, error.message)
    return _problem(request, status, error.code, error.message, error.next_step)


def _http_error(request: Request, error: Exception) -> Response:
    if not isinstance(error, HTTPException):
        raise TypeError(f"registered for HTTPException, called with {type(error)}")
    texts = {
        404: ("There is no page with this address.", "Go to the list of images."),
        405: ("This address answers only GET.", "Changes are made with the tidewaiter command."),
    }
    message, next_step = texts.get(error.status_code, (str(error.detail), "Go to the list of images."))
    response = _problem(request, error.status_code, "http", message, next_step)
    response.headers.update(error.headers or {})
    return response


def _invalid(request: Request, error: Exception) -> Response:
    if not isinstance(error, RequestValidationError):
        raise TypeError(f"registered for RequestValidationError, called with {type(error)}")
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"][1:])
    return _problem(request, 422, "bad_input", f"{where}: {first['msg']}", "Correct the address.")


def _unexpected(request: Request, error: Exception) -> Response:
    # The server logs the traceback; a reader gets no insides.
    return _problem(
        request,
        500,
        "unexpected",
        f"Something went wrong here ({type(error).__name__}).",
        "Look into the server's log.",
    )


def _problem(request: Request, status: int, code: str, message: str, next_step: str) -> Response:
    title = HTTPStatus(status).phrase
    if request.url.path.startswith("/api/") or request.url.path == "/healthz":
        problem = {
            "type": f"urn:tidewaiter:error:{code}",
            "title": title,
            "status": status,
            "detail": message,
            "code": code,
            "next": next_step,
        }
        return Response(msgspec.json.encode(problem), status_code=status, media_type="application/problem+json")
    return pages.render(
        request, "error.html", code=status, title=title, message=message, next_step=next_step, search="", status=status
    )
