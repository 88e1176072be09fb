"""The registry under `/v2`: the gate, wired with the store, the catalog, the settings and the judge of this server."""

from collections.abc import Callable

from starlette.types import ASGIApp, Receive, Scope, Send

from tidewaiter.access.passes import Passes
from tidewaiter.catalog.gate import GateCatalog
from tidewaiter.catalog.versions import Versions
from tidewaiter.core import limits
from tidewaiter.core.errors import InputError
from tidewaiter.core.settings import Settings
from tidewaiter.gate.app import Gate
from tidewaiter.gate.registry import Registry
from tidewaiter.gate.terms import ARTIFACT_TYPES, OPEN, Terms, TermsOf
from tidewaiter.gate.upstream import Upstream
from tidewaiter.oci import reference as references
from tidewaiter.oci.manifest import Descriptor
from tidewaiter.pipelines import connecting, looking
from tidewaiter.pipelines.judging import StoreJudge
from tidewaiter.pipelines.reading_ahead import ReadingAhead
from tidewaiter.policy import environments
from tidewaiter.policy.scope import fits_name
from tidewaiter.transport.client import Client, Timeouts
from tidewaiter.transport.tls import Trust
from tidewaiter.web.source import Source


def gate(settings: Settings, source: Source, passes: Passes, versions: Versions) -> Gate:
    """The application to mount at `/v2`."""

    def catalog() -> GateCatalog:
        return GateCatalog(source.catalog.database)

    upstream = upstream_of(settings, source)

    def send(repository: str, referrer: Descriptor) -> None:
        if upstream is not None:
            upstream.send(repository, referrer, refers=True)

    terms = terms_of(settings)
    ahead = ReadingAhead(
        looking.facts_folder(settings), settings.threads, lambda name: terms(name).environment not in {OPEN, None}
    )
    judge = StoreJudge(settings, lambda: source.catalog, send=send, ahead=ahead)
    registry = Registry(
        settings.home.path,
        source.store,
        catalog,
        judge,
        terms,
        passes=passes,
        upstream=upstream,
        watch=ahead,
        version=versions.now,
    )

    def close() -> None:
        ahead.close()
        judge.close()

    return Gate(registry, changes=_changes(settings, source), preparing=judge.prepare, closing=close)


class Direct:
    """ASGI middleware: what is for the registry goes there without a look at the routes of pages and API."""

    def __init__(self, app: ASGIApp, gate: Gate) -> None:
        self._app = app
        self._gate = gate

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"].startswith("/v2/"):
            root = scope.get("root_path", "")
            scope.update(app_root_path=root, root_path=f"{root}/v2")  # as a mount leaves it
            await self._gate(scope, receive, send)
        else:
            await self._app(scope, receive, send)


def upstream_of(settings: Settings, source: Source) -> Upstream | None:
    """The registry behind this one; None when the settings name none. Raises `InputError` when they name it wrongly."""
    if not settings.gate_upstream:
        return None
    host, _, prefix = settings.gate_upstream.partition("/")
    if not references.is_host(host):
        raise InputError(
            f"gate_upstream names no registry: {settings.gate_upstream[:200]}", next_step="Write HOST[:PORT][/PATH]."
        )
    place = references.parse_registry("/".join(part for part in (host, prefix, "any") if part))
    timeouts = Timeouts(read=limits.GATE_UPSTREAM_SECONDS, upload_end=limits.GATE_UPSTREAM_SECONDS)
    trust = Trust(authorities=settings.ca_file, hosts=settings.certificates)
    opened = Client(trust=trust, timeouts=timeouts, attempts=limits.GATE_UPSTREAM_ATTEMPTS)
    return Upstream(source.store, connecting.connect(opened, settings, place).registry, prefix)


def terms_of(settings: Settings) -> TermsOf:
    """On which terms each repository takes what is pushed, as `[[repository]]` and `[[environment]]` say.

    A repository is open when a table says so and no table names an environment for it: the stricter word counts.
    """
    said = environments.said_by(settings)
    named = environments.Environments(settings.environments)

    def terms(repository: str) -> Terms:
        fitting = [one for one in settings.repositories if any(fits_name(each, repository) for each in one.names)]
        bounds = [one.size for one in fitting if one.size is not None]
        is_open = any(one.open for one in fitting) and named.of_repository(repository) is None
        return Terms(
            environment="open" if is_open else said.of_repository(repository),
            artifact_types=ARTIFACT_TYPES.union(*(one.artifact_types for one in fitting)),
            bytes_at_most=min(bounds) if bounds else None,
        )

    return terms


def _changes(settings: Settings, source: Source) -> Callable[[], object]:
    """What may have made something allowed that waits: waivers, and advisories."""

    def found() -> object:
        waivers = source.catalog.waivers()
        try:
            advisories = settings.home.advisories.stat().st_mtime_ns
        except FileNotFoundError:
            advisories = 0
        return frozenset((one.id, one.approved_at, one.revoked_at) for one in waivers), advisories

    return found
