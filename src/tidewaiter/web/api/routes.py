"""All routes of `/api/v1`. A new module of routes is named here."""

from starlette.routing import BaseRoute

from tidewaiter.web.api import (
    answering,
    audit,
    checking,
    credentials,
    decisions,
    events,
    holdings,
    images,
    itself,
    lineage,
    people,
    pipelines,
    recording,
    reports,
    reviewing,
    running,
    server,
    webhooks,
)
from tidewaiter.web.api.route import Route, Routes

MODULES: tuple[Routes, ...] = (
    images.ROUTES,
    holdings.ROUTES,
    lineage.ROUTES,
    running.ROUTES,
    decisions.ROUTES,
    audit.ROUTES,
    reports.ROUTES,
    server.ROUTES,
    events.ROUTES,
    webhooks.ROUTES,
    recording.ROUTES,
    reviewing.ROUTES,
    checking.ROUTES,
    pipelines.ROUTES,
    people.ROUTES,
    credentials.ROUTES,
    itself.ROUTES,
)


def every() -> tuple[Route, ...]:
    """The routes in the order of the modules."""
    return tuple(route for module in MODULES for route in module.all)


def mounted() -> list[BaseRoute]:
    """The routes for the application."""
    return answering.mounted(every())
