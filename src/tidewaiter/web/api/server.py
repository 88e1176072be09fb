"""The server: how fresh its advisories are, and what is wrong with it."""

import msgspec

from tidewaiter.access.roles import Permission
from tidewaiter.catalog.answers import AdvisoryAge
from tidewaiter.core.progress import SILENT
from tidewaiter.pipelines import refreshing
from tidewaiter.pipelines.doctor import examine
from tidewaiter.pipelines.doctor.examine import Diagnosis
from tidewaiter.pipelines.refreshing import Feed
from tidewaiter.web.api.route import Ask, Routes

ROUTES = Routes("server")


class AdvisoriesAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What this server knows of vulnerabilities."""

    revision: str
    """Names the advisory data by content."""
    ecosystems: tuple[Feed, ...]
    exploited: tuple[Feed, ...]
    missing: tuple[str, ...]
    """Ecosystems and lists without data: what is in them is not checked."""
    matched: AdvisoryAge | None
    """Which advisories the images were matched with last; null before the first time."""


@ROUTES.get("/advisories", permission=Permission.CATALOG_READ)
def show_advisories(ask: Ask) -> AdvisoriesAnswer:
    """Which ecosystems have advisory data, and how old it is."""
    found = refreshing.held(ask.source.settings)
    return AdvisoriesAnswer(
        revision=found.revision,
        ecosystems=found.ecosystems,
        exploited=found.exploited,
        missing=found.missing + found.missing_lists,
        matched=ask.source.catalog.advisory_age(),
    )


@ROUTES.get("/doctor", permission=Permission.SERVER_MANAGE)
def examine_server(ask: Ask) -> Diagnosis:
    """What is wrong with this server, why, and which command mends it. Nothing is changed.

    A sample of the blobs in the store is read.
    """
    return examine.examine(deep=False, progress=SILENT, known=ask.source.settings)
