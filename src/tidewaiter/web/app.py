"""The web application: routes, static files, and errors as pages or as `problem+json`."""

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.resources import files

from fastapi import Depends, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException

import tidewaiter
from tidewaiter.access.passes import Passes
from tidewaiter.access.roles import Permission
from tidewaiter.catalog.versions import Versions
from tidewaiter.core.errors import TidewaiterError, UnauthenticatedError
from tidewaiter.core.settings import Settings
from tidewaiter.web import account, health, hooks, identify, login, metrics, pages, present, problems, registry, runs
from tidewaiter.web.api import routes
from tidewaiter.web.bounds import Bounds
from tidewaiter.web.elsewhere import Elsewhere
from tidewaiter.web.elsewhere import router as router_elsewhere
from tidewaiter.web.guard import Guard
from tidewaiter.web.identify import Identify, needs
from tidewaiter.web.jobs import Jobs
from tidewaiter.web.lately import Fresh
from tidewaiter.web.login import Entrance
from tidewaiter.web.metrics import Metrics
from tidewaiter.web.observed import HEADER, Observed, request_id
from tidewaiter.web.source import Source
from tidewaiter.web.sse import Streams

_LOG = logging.getLogger("tidewaiter.web")


def create(settings: Settings, *, hosts: frozenset[str] | None = None, anonymous: bool = True) -> FastAPI:
    """The application on the home's catalog and store.

    Args:
        settings: the home.
        hosts: host names (without port) that requests may be for; None accepts any.
        anonymous: whether those who do not say who they are may read.
    """
    source = Source(settings)
    elsewhere = Elsewhere(settings)
    passes = Passes(settings.home.keys / "passes.secret")
    versions = Versions(settings.catalog)
    fresh = Fresh(versions)
    gate = registry.gate(settings, source, passes, versions)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with gate.running():
            yield
        app.state.jobs.close()
        elsewhere.close()
        fresh.close()
        versions.close()
        source.close()

    app = FastAPI(
        title="Tidewaiter",
        version=tidewaiter.__version__,
        # The API describes itself; FastAPI's own documentation pages load scripts from elsewhere.
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        lifespan=lifespan,
        # Settings are read in one place, and nothing is sent anywhere unasked.
        telemetry={"tracing": False, "metrics": False, "logs": False, "auto_configure": False},
    )
    app.state.source = source
    app.state.entrance = Entrance(settings)
    app.state.elsewhere = elsewhere
    app.state.templates = present.environment()
    app.state.metrics = Metrics(settings, source)
    app.state.streams = Streams(source)
    app.state.jobs = Jobs(source)
    readers = [Depends(needs(Permission.CATALOG_READ))]
    app.router.routes.extend(routes.mounted())
    app.include_router(health.router)
    app.include_router(metrics.router, dependencies=readers)
    app.mount("/v2", gate, name="registry")
    app.add_middleware(registry.Direct, gate=gate)
    app.mount("/static", StaticFiles(directory=str(files("tidewaiter.web") / "static")), name="static")
    app.include_router(login.router)
    app.include_router(hooks.router)
    app.include_router(router_elsewhere)
    app.include_router(account.router)
    app.include_router(pages.router, dependencies=readers)
    of_runs = [Depends(needs(Permission.PIPELINE_READ, in_project=True))]
    app.include_router(runs.router, dependencies=of_runs)
    app.add_middleware(
        Identify,
        settings=settings,
        source=source,
        jobs=elsewhere.jobs,
        passes=passes,
        anonymous=anonymous,
        fresh=fresh,
    )
    app.add_middleware(Bounds)
    app.add_middleware(Guard, hosts=hosts)
    app.add_middleware(Observed, meter=app.state.metrics)
    app.add_exception_handler(TidewaiterError, _our_error)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(Exception, _unexpected)
    return app


def _our_error(request: Request, error: Exception) -> Response:
    if not isinstance(error, TidewaiterError):
        raise TypeError(f"registered for TidewaiterError, called with {type(error)}")
    if isinstance(error, UnauthenticatedError):
        return identify.unauthenticated(request, error)
    status = problems.status_of(error)
    if status >= 500:
        _LOG.error("%s: %s", request.url.path, error.message)
    return pages.error(request, status, error.code, error.message, error.next_step)


def _http_error(request: Request, error: Exception) -> Response:
    if not isinstance(error, HTTPException):
        raise TypeError(f"registered for HTTPException, called with {type(error)}")
    texts = {
        404: ("There is no page with this address.", "Go to the list of images."),
        405: ("This address answers only GET.", "Changes are made with the tidewaiter command."),
    }
    message, next_step = texts.get(error.status_code, (str(error.detail), "Go to the list of images."))
    response = pages.error(request, error.status_code, "http", message, next_step)
    response.headers.update(error.headers or {})
    return response


def _invalid(request: Request, error: Exception) -> Response:
    if not isinstance(error, RequestValidationError):
        raise TypeError(f"registered for RequestValidationError, called with {type(error)}")
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"][1:])
    return pages.error(request, 422, "bad_input", f"{where}: {first['msg']}", "Correct the address.")


def _unexpected(request: Request, error: Exception) -> Response:
    # The server logs the traceback; a reader gets no insides.
    identity = request_id.get()
    response = pages.error(
        request,
        500,
        "unexpected",
        f"Something went wrong here ({type(error).__name__}).",
        f"Look for {identity} in the server's log.",
    )
    response.headers[HEADER] = identity
    return response
