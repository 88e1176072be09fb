"""All settings of a command: from the environment, else from `settings.toml`, else the default."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from tidewaiter.core import sizes
from tidewaiter.core.environments import ENVIRONMENTS, Environment
from tidewaiter.core.errors import InputError
from tidewaiter.core.settings import continuous, reading
from tidewaiter.core.settings.access import AccessSettings, CiTable, GroupTable, access
from tidewaiter.core.settings.database import DatabaseUrl, database_url
from tidewaiter.core.settings.file import read_file
from tidewaiter.core.settings.home import Home, default_home
from tidewaiter.core.settings.pipelines import PipelineSettings, TeamTable, pipelines
from tidewaiter.core.settings.reading import LogFormat
from tidewaiter.core.settings.table import FROM_CI, SETTINGS, STRICTEST

if TYPE_CHECKING:
    from tidewaiter.core.settings.notices import Mail, NoticeTable
    from tidewaiter.core.settings.sources import ScheduleTable, SourceTable
    from tidewaiter.core.settings.tables import EnvironmentTable, RepositoryTable


class Settings(msgspec.Struct, frozen=True):
    """All settings, read once at the start of a command."""

    home: Home
    database_url: DatabaseUrl | None
    """None: the catalog is a file of the home."""
    debian_mirror: str
    debian_snapshot: str
    python_index: str
    python_mirror: str
    python_mirror_fallback: bool
    osv_mirror: str
    kev_feed: str
    epss_feed: str
    plain_http: frozenset[str]
    ca_file: Path | None
    certificates: Path
    threads: int
    builder: str
    """`auto`, `buildctl`, `buildah` or `docker`."""
    builder_seconds: int
    cache_from: str
    cache_to: str
    runner: str
    """`auto`, `bwrap`, `podman` or `docker`."""
    cache_bytes: int
    prune: bool
    """Whether builds keep the cache within `cache_bytes`."""
    shared_layers: str
    """`HOST/REPO`; empty for none."""
    trusted_builders: tuple[Path, ...]
    """Public key files beside those of the home."""
    policy: tuple[Path, ...]
    """Packs on top of the one that ships, the lowest first."""
    policy_keys: tuple[Path, ...]
    """Files with keys, one of which must have signed each of them; empty when none has to be signed."""
    policy_engine: str
    """`embedded` or `opa`."""
    opa: str
    signature_formats: tuple[str, ...]
    """Of `tag` and `bundle`, at least one."""
    pipeline_run: str
    """Empty outside CI."""
    ci_variables: dict[str, str]
    """What the CI that runs this process says of its job, by the names of its variables, as it says it."""
    identity: str
    """Declared by whoever runs the command; may be empty."""
    waiver_days: int
    audit_days: int
    """0: entries of the audit log are never dropped."""
    audit_witnesses: tuple[str, ...]
    """Their public keys, as Go's `sumdb/note` writes them."""
    audit_witness_days: int
    origin: str
    log_format: LogFormat
    server: str
    """Address of the server, without a slash at its end; empty: commands work on the home."""
    token_file: Path | None
    server_key: tuple[Path, ...]
    environments: "tuple[EnvironmentTable, ...]"
    repositories: "tuple[RepositoryTable, ...]"
    default_environment: Environment | None
    """Of what no table fits; None: there is no table and no word about it, and everybody says themselves."""
    access: AccessSettings
    """Who gets in where this home is a server's."""
    registries: tuple[str, ...]
    """`HOST[:PORT][/PATH]` that a server reads for others."""
    static_fail_on: tuple[str, ...]
    """What stops a build beside what its project says."""
    private_names: tuple[str, ...]
    """Names and patterns of packages."""
    private_names_asked: bool
    """Whether the public index may learn them."""
    gate_upstream: str
    """`HOST[:PORT][/PATH]`; empty: what is pushed lies in the home's store only."""
    pipelines: PipelineSettings
    webhook_hosts: tuple[str, ...]
    """`HOST[:PORT]` or `*.DOMAIN`, in lower case."""
    mail: "Mail | None"
    notices: "tuple[NoticeTable, ...]"
    """Who is told of what, in words."""
    sources: "tuple[SourceTable, ...]"
    """Repositories that runs are made from."""
    schedules: "tuple[ScheduleTable, ...]"
    local_sources: tuple[Path, ...]
    """Folders below which repositories are fetched by path."""
    submodule_hosts: frozenset[str]
    """Hosts, beside its source's own, that a submodule may be fetched from."""
    source_date_epoch: int | None
    key_password: bytes | None
    """`COSIGN_PASSWORD`; None when unset, which is not the same as empty."""

    @property
    def catalog(self) -> "Path | DatabaseUrl":
        """Where the catalog lies: a file of SQLite in the home, or a database of PostgreSQL."""
        return self.database_url or self.home.catalog


def processors() -> int:
    """Processors that this process may use, at least one."""
    return max(1, len(os.sched_getaffinity(0)))


def _pipeline_run(variables: dict[str, str]) -> str:
    """Address of the job that runs this process, as its CI says; empty when none does."""
    server, repository, run = (variables.get(f"GITHUB_{name}", "") for name in ("SERVER_URL", "REPOSITORY", "RUN_ID"))
    github = f"{server}/{repository}/actions/runs/{run}" if server and repository and run else ""
    return variables.get("CI_JOB_URL", "") or github or variables.get("BUILD_URL", "")


def _default_environment(text: str, places: "tuple[EnvironmentTable, ...]") -> Environment | None:
    if text == STRICTEST:
        return ENVIRONMENTS[-1] if places else None
    reading.one_of(text, "TIDEWAITER_DEFAULT_ENVIRONMENT", ENVIRONMENTS)
    return next(one for one in ENVIRONMENTS if one == text)


def _stops(text: str) -> tuple[str, ...]:
    words = reading.words(text)
    if words:
        from tidewaiter.core import project  # only where it is set: every command loads settings

        project.require_stops(words, "TIDEWAITER_STATIC_FAIL_ON")
    return words


class _Tables(msgspec.Struct, frozen=True, kw_only=True):
    """What the tables of `settings.toml` say."""

    environments: "tuple[EnvironmentTable, ...]" = ()
    repositories: "tuple[RepositoryTable, ...]" = ()
    ci: tuple[CiTable, ...] = ()
    groups: tuple[GroupTable, ...] = ()
    teams: tuple[TeamTable, ...] = ()
    notices: "tuple[NoticeTable, ...]" = ()
    sources: "tuple[SourceTable, ...]" = ()
    schedules: "tuple[ScheduleTable, ...]" = ()


def _tables(content: dict[str, object], file: Path, mail: "Mail | None") -> _Tables:
    """The tables in the `content` of `file`; raises `InputError`."""
    if not content:
        return _Tables()
    # Most homes have no such file, and every command loads settings.
    from tidewaiter.core.settings import notices, sources
    from tidewaiter.core.settings.tables import environments, repositories, tables

    found = sources.checked_sources(tables(content.get("source"), "source", sources.SourceTable, file), file)
    schedules = tables(content.get("schedule"), "schedule", sources.ScheduleTable, file)
    return _Tables(
        environments=environments(content.get("environment"), file),
        repositories=repositories(content.get("repository"), file),
        ci=tables(content.get("ci"), "ci", CiTable, file),
        groups=tables(content.get("oidc_group"), "oidc_group", GroupTable, file),
        teams=tables(content.get("team"), "team", TeamTable, file),
        notices=notices.checked(tables(content.get("notice"), "notice", notices.NoticeTable, file), file, mail),
        sources=found,
        schedules=sources.checked_schedules(schedules, found, file),
    )


def _mail(text: Callable[[str], str]) -> "Mail | None":
    """The mail server, of which `text` gives each setting; None when there is none. Raises `InputError`."""
    if not text("mail_server").strip():
        return None
    from tidewaiter.core.settings import notices

    return notices.mail(text)


def load(environment: dict[str, str] | None = None, *, with_file: bool = True) -> Settings:
    """Settings from the environment (or the mapping given), `settings.toml` and the defaults.

    Without `with_file`, `settings.toml` is not read: for what must work when the home is damaged.

    Raises:
        InputError: a value is malformed or a key of `settings.toml` is unknown.
    """
    variables = dict(os.environ) if environment is None else environment
    home_text = variables.get("TIDEWAITER_HOME", "")
    home = Home(Path(home_text).expanduser().absolute() if home_text else default_home())
    file = read_file(home.settings_file) if with_file else {}
    known = {setting.name: setting for setting in SETTINGS}

    def text(name: str) -> str:
        setting = known[name]
        value: object = variables.get(setting.variable)
        if value is None:
            value = file.get(name, setting.default)
        if isinstance(value, bool) or not isinstance(value, (str, int)):
            raise InputError(
                f"{home.settings_file}: {name} must be a string or a whole number",
                next_step=f"See what {name} means in docs/reference/settings.md.",
            )
        return str(value)

    threads = text("threads")
    ca_file, certificates, token_file = text("ca_file"), text("certificates"), text("token_file")
    run = text("pipeline_run")
    mail = _mail(text)
    listed = _tables(file, home.settings_file, mail)
    epoch = variables.get("SOURCE_DATE_EPOCH")
    password = variables.get("COSIGN_PASSWORD")
    return Settings(
        home=home,
        database_url=database_url(text("database_url"), "TIDEWAITER_DATABASE_URL"),
        debian_mirror=text("debian_mirror").rstrip("/"),
        debian_snapshot=text("debian_snapshot").rstrip("/"),
        python_index=text("python_index"),
        python_mirror=text("python_mirror"),
        python_mirror_fallback=reading.yes_or_no(text("python_mirror_fallback"), "TIDEWAITER_PYTHON_MIRROR_FALLBACK"),
        osv_mirror=text("osv_mirror").rstrip("/"),
        kev_feed=text("kev_feed"),
        epss_feed=text("epss_feed"),
        plain_http=frozenset(host.strip() for host in text("plain_http").split(",") if host.strip()),
        ca_file=Path(ca_file).expanduser().absolute() if ca_file else None,
        certificates=home.certificates
        if certificates == "certs.d in the home"
        else Path(certificates).expanduser().absolute(),
        threads=processors()
        if threads == "the number of processors"
        else reading.whole_number(threads, "TIDEWAITER_THREADS", least=1),
        builder=reading.one_of(text("builder"), "TIDEWAITER_BUILDER", ("auto", "buildctl", "buildah", "docker")),
        builder_seconds=reading.whole_number(text("builder_seconds"), "TIDEWAITER_BUILDER_SECONDS", least=1),
        cache_from=text("cache_from"),
        cache_to=text("cache_to"),
        runner=reading.one_of(text("runner"), "TIDEWAITER_RUNNER", ("auto", "bwrap", "podman", "docker")),
        cache_bytes=sizes.parse(text("cache_bytes"), what="TIDEWAITER_CACHE_BYTES"),
        prune=reading.yes_or_no(text("prune"), "TIDEWAITER_PRUNE"),
        shared_layers=text("shared_layers").strip().removeprefix("docker://"),
        trusted_builders=reading.paths(text("trusted_builders")),
        registries=reading.words(text("registries")),
        static_fail_on=_stops(text("static_fail_on")),
        private_names=reading.words(text("private_names")),
        private_names_asked=reading.yes_or_no(text("private_names_asked"), "TIDEWAITER_PRIVATE_NAMES_ASKED"),
        gate_upstream=text("gate_upstream").strip().strip("/"),
        pipelines=pipelines(text, listed.teams),
        webhook_hosts=reading.words(text("webhook_hosts").lower()),
        mail=mail,
        notices=listed.notices,
        policy=reading.paths(text("policy")),
        policy_keys=reading.paths(text("policy_keys")),
        policy_engine=reading.one_of(text("policy_engine"), "TIDEWAITER_POLICY_ENGINE", ("embedded", "opa")),
        opa=text("opa"),
        signature_formats=reading.some_of(text("signature_formats"), "TIDEWAITER_SIGNATURE_FORMATS", ("tag", "bundle")),
        pipeline_run=_pipeline_run(variables) if run == FROM_CI else run.strip(),
        ci_variables=continuous.ci_variables(variables),
        identity=text("identity").strip(),
        waiver_days=reading.whole_number(text("waiver_days"), "TIDEWAITER_WAIVER_DAYS", least=1),
        audit_days=reading.whole_number(text("audit_days"), "TIDEWAITER_AUDIT_DAYS", least=0),
        audit_witnesses=tuple(key.strip() for key in text("audit_witnesses").split(",") if key.strip()),
        audit_witness_days=reading.whole_number(text("audit_witness_days"), "TIDEWAITER_AUDIT_WITNESS_DAYS", least=1),
        origin=reading.origin(text("origin")),
        log_format=reading.log_format(text("log_format"), "TIDEWAITER_LOG_FORMAT"),
        server=reading.server(text("server")),
        token_file=Path(token_file).expanduser().absolute() if token_file else None,
        server_key=reading.paths(text("server_key")),
        environments=listed.environments,
        repositories=listed.repositories,
        default_environment=_default_environment(text("default_environment"), listed.environments),
        access=access(text, variables, listed.ci, listed.groups),
        sources=listed.sources,
        schedules=listed.schedules,
        local_sources=reading.paths(text("local_sources")),
        submodule_hosts=frozenset(host.strip().lower() for host in text("submodule_hosts").split(",") if host.strip()),
        source_date_epoch=None if not epoch else reading.whole_number(epoch, "SOURCE_DATE_EPOCH", least=0),
        key_password=None if password is None else os.fsencode(password),
    )


def load_home() -> Settings:
    """The home, and the default of everything else: for when a value keeps `load` from giving an answer."""
    home = os.environ.get("TIDEWAITER_HOME", "")
    return load({"TIDEWAITER_HOME": home}, with_file=False)
