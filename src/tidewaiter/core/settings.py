"""Settings of the home, and the only place that reads environment variables.

A value comes from the variable, else from `settings.toml` in the home, else from its default. The table in
`docs/reference/settings.md` is compared with `SETTINGS` by a test.
"""

import os
import re
from pathlib import Path
from typing import NamedTuple

import msgspec

from tidewaiter.core import limits, sizes
from tidewaiter.core.errors import InputError


class Setting(NamedTuple):
    """One documented setting: its name in `settings.toml`, its variable, its default as written, its meaning."""

    name: str
    variable: str
    default: str
    meaning: str


SETTINGS: tuple[Setting, ...] = (
    Setting(
        "home",
        "TIDEWAITER_HOME",
        "the platform's user data folder",
        "Folder that holds settings, catalog, store, cache and keys.",
    ),
    Setting(
        "debian_mirror",
        "TIDEWAITER_DEBIAN_MIRROR",
        "http://deb.debian.org",
        "Host (and path prefix) that carries `debian` and `debian-security`.",
    ),
    Setting(
        "debian_snapshot",
        "TIDEWAITER_DEBIAN_SNAPSHOT",
        "https://snapshot.debian.org/archive",
        "Where packages are looked up that the archive has dropped; empty turns it off.",
    ),
    Setting(
        "python_index",
        "TIDEWAITER_PYTHON_INDEX",
        "https://pypi.org/simple",
        "Index that `lock` resolves requirements against.",
    ),
    Setting(
        "python_mirror",
        "TIDEWAITER_PYTHON_MIRROR",
        "",
        "Index where locked wheels are looked up by name, file name and hash, instead of the address in the lock; "
        "packages of `[[python.indexes]]` are not asked for there. Empty: the address in the lock.",
    ),
    Setting(
        "python_mirror_fallback",
        "TIDEWAITER_PYTHON_MIRROR_FALLBACK",
        "no",
        "`yes`: a wheel that the mirror does not have is taken from the address in the lock. `no`: it is an error.",
    ),
    Setting(
        "osv_mirror",
        "TIDEWAITER_OSV_MIRROR",
        "https://osv-vulnerabilities.storage.googleapis.com",
        "Where `advisories update` fetches OSV bulk exports.",
    ),
    Setting(
        "kev_feed",
        "TIDEWAITER_KEV_FEED",
        "https://www.cisa.gov/sites/default/files/feeds/known_exploited_vulnerabilities.json",
        "Where `advisories update` fetches CISA's catalogue of known exploited vulnerabilities (KEV).",
    ),
    Setting(
        "epss_feed",
        "TIDEWAITER_EPSS_FEED",
        "https://epss.empiricalsecurity.com/epss_scores-current.csv.gz",
        "Where `advisories update` fetches EPSS's scores.",
    ),
    Setting(
        "plain_http",
        "TIDEWAITER_PLAIN_HTTP",
        "",
        "Registries, as HOST[:PORT] separated by commas, that are spoken to without TLS. Never implied.",
    ),
    Setting(
        "ca_file",
        "TIDEWAITER_CA_FILE",
        "",
        "PEM file of certificate authorities that are trusted beside the system's, for every host.",
    ),
    Setting(
        "certificates",
        "TIDEWAITER_CERTIFICATES",
        "certs.d in the home",
        "Folder in Docker's layout: `HOST[:PORT]/*.crt` are authorities, `NAME.cert` and `NAME.key` a client "
        "certificate, for that host only.",
    ),
    Setting(
        "threads",
        "TIDEWAITER_THREADS",
        "the number of processors",
        "Threads that build and inspect layers.",
    ),
    Setting(
        "builder",
        "TIDEWAITER_BUILDER",
        "auto",
        "What builds Dockerfiles: `buildctl`, `buildah` or `docker` (its buildx); `auto` takes the first of them that "
        "works here.",
    ),
    Setting(
        "builder_seconds",
        "TIDEWAITER_BUILDER_SECONDS",
        "3600",
        "How long the build of a Dockerfile may take, and how long another one of this home waits for it.",
    ),
    Setting(
        "cache_from",
        "TIDEWAITER_CACHE_FROM",
        "",
        "Repository HOST/REPO of a registry from which Dockerfile builds take finished steps; name one that only "
        "trusted builds can write to.",
    ),
    Setting(
        "cache_to",
        "TIDEWAITER_CACHE_TO",
        "",
        "Repository HOST/REPO of a registry to which Dockerfile builds send finished steps.",
    ),
    Setting(
        "runner",
        "TIDEWAITER_RUNNER",
        "auto",
        "What `exec` runs images with: `bwrap`, `podman` or `docker`; `auto` takes the first of them that works here.",
    ),
    Setting(
        "cache_bytes",
        "TIDEWAITER_CACHE_BYTES",
        "20GB",
        "Bound that `cache prune` keeps: downloads, unpacked bases and layers that no image needs. A size as 20GB, "
        "512MiB or a number of bytes.",
    ),
    Setting(
        "prune",
        "TIDEWAITER_PRUNE",
        "yes",
        "`yes`: `build` and `ci` prune the cache when it outgrew `cache_bytes`. `no`: only `cache prune` does.",
    ),
    Setting(
        "shared_layers",
        "TIDEWAITER_SHARED_LAYERS",
        "",
        "Repository, as HOST/REPO, where `push` shares the layers that this home made, and where `build` looks for "
        "layers before it fetches wheels. Empty: none.",
    ),
    Setting(
        "trusted_builders",
        "TIDEWAITER_TRUSTED_BUILDERS",
        "",
        "Public key files, separated by commas, of builders whose shared layers are used. The keys of this home count "
        "too.",
    ),
    Setting(
        "identity",
        "TIDEWAITER_IDENTITY",
        "",
        "Who you are, where `waiver` records a person and `--as` does not say it. Declared, not proven.",
    ),
    Setting(
        "waiver_days",
        "TIDEWAITER_WAIVER_DAYS",
        "180",
        "How many days after its request a waiver for production may end at most.",
    ),
    Setting(
        "policy",
        "TIDEWAITER_POLICY",
        "",
        "Policy packs (folders or bundles), separated by commas, that lie on top of the one that ships, the lowest "
        "first: the company's, then the team's. Each may tighten what is below it, never loosen.",
    ),
    Setting(
        "policy_engine",
        "TIDEWAITER_POLICY_ENGINE",
        "embedded",
        "What evaluates rules: `embedded`, the engine that ships, or `opa`, an Open Policy Agent of this machine.",
    ),
    Setting(
        "opa",
        "TIDEWAITER_OPA",
        "opa",
        "The Open Policy Agent (1.0 or later) that `policy_engine` `opa` starts: a path, or a name on PATH.",
    ),
    Setting(
        "origin",
        "TIDEWAITER_ORIGIN",
        "tidewaiter.local",
        "Name under which policies are identified in verdicts.",
    ),
)


class Home(msgspec.Struct, frozen=True):
    """Where things lie in `TIDEWAITER_HOME`."""

    path: Path

    @property
    def settings_file(self) -> Path:
        return self.path / "settings.toml"

    @property
    def catalog(self) -> Path:
        return self.path / "catalog.db"

    @property
    def advisories(self) -> Path:
        return self.path / "advisories.db"

    @property
    def store(self) -> Path:
        return self.path / "store"

    @property
    def cache(self) -> Path:
        return self.path / "cache"

    @property
    def keys(self) -> Path:
        return self.path / "keys"

    @property
    def certificates(self) -> Path:
        """Certificates by registry host, as in Docker's `certs.d`."""
        return self.path / "certs.d"

    @property
    def recipes(self) -> Path:
        """The company's own base recipes; they come before those that ship."""
        return self.path / "recipes"


class Settings(msgspec.Struct, frozen=True):
    """All settings, read once at the start of a command."""

    home: Home
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
    policy_engine: str
    """`embedded` or `opa`."""
    opa: str
    identity: str
    """Declared by whoever runs the command; may be empty."""
    waiver_days: int
    origin: str
    source_date_epoch: int | None
    key_password: bytes | None
    """`COSIGN_PASSWORD`; None when unset, which is not the same as empty."""


def _default_home() -> Path:
    import platformdirs

    return Path(platformdirs.user_data_dir("tidewaiter", appauthor=False))


def _read_file(path: Path) -> dict[str, object]:
    try:
        with path.open("rb") as file:
            data = file.read(limits.PROJECT_FILE_BYTES + 1)
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise InputError(
            f"{path} cannot be read: {error.strerror}", next_step="Point TIDEWAITER_HOME to a folder of your own."
        ) from error
    if len(data) > limits.PROJECT_FILE_BYTES:
        raise InputError(f"{path} is over {limits.PROJECT_FILE_BYTES} bytes", next_step="Keep only settings in it.")
    import tomllib

    try:
        content = tomllib.loads(data.decode())
    except (ValueError, RecursionError) as error:  # no UTF-8, no TOML, a number too long, nested too deep
        raise InputError(f"{path} is not TOML: {error}", next_step="Mend the line named.") from error
    known = {setting.name for setting in SETTINGS} - {"home"}
    for key in content:
        if key not in known:
            raise InputError(
                f"{path}: unknown setting {key!r}",
                next_step=f"Known settings: {', '.join(sorted(known))}.",
            )
    return content


def _whole_number(text: str, name: str, *, least: int) -> int:
    try:
        number = int(text)
    except ValueError:
        number = least - 1
    if number < least:
        raise InputError(f"{name} is {text!r}", next_step=f"Give a whole number of at least {least}.")
    return number


def _yes_or_no(text: str, name: str) -> bool:
    if text not in {"yes", "no"}:
        raise InputError(f"{name} is {text!r}", next_step="Write yes or no.")
    return text == "yes"


def _one_of(text: str, name: str, known: tuple[str, ...]) -> str:
    if text not in known:
        raise InputError(f"{name} is {text!r}", next_step=f"Write one of: {', '.join(known)}.")
    return text


def _paths(text: str) -> tuple[Path, ...]:
    return tuple(Path(name.strip()).expanduser().absolute() for name in text.split(",") if name.strip())


def processors() -> int:
    """Processors that this process may use, at least one."""
    return max(1, len(os.sched_getaffinity(0)))


def load(environment: dict[str, str] | None = None) -> Settings:
    """Settings from the environment (or the mapping given), `settings.toml` and the defaults.

    Raises:
        InputError: a value is malformed or a key of `settings.toml` is unknown.
    """
    variables = dict(os.environ) if environment is None else environment
    home_text = variables.get("TIDEWAITER_HOME", "")
    home = Home(Path(home_text).expanduser().absolute() if home_text else _default_home())
    file = _read_file(home.settings_file)

    def text(name: str) -> str:
        setting = next(setting for setting in SETTINGS if setting.name == name)
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
    ca_file, certificates = text("ca_file"), text("certificates")
    epoch = variables.get("SOURCE_DATE_EPOCH")
    password = variables.get("COSIGN_PASSWORD")
    return Settings(
        home=home,
        debian_mirror=text("debian_mirror").rstrip("/"),
        debian_snapshot=text("debian_snapshot").rstrip("/"),
        python_index=text("python_index"),
        python_mirror=text("python_mirror"),
        python_mirror_fallback=_yes_or_no(text("python_mirror_fallback"), "TIDEWAITER_PYTHON_MIRROR_FALLBACK"),
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
        else _whole_number(threads, "TIDEWAITER_THREADS", least=1),
        builder=_one_of(text("builder"), "TIDEWAITER_BUILDER", ("auto", "buildctl", "buildah", "docker")),
        builder_seconds=_whole_number(text("builder_seconds"), "TIDEWAITER_BUILDER_SECONDS", least=1),
        cache_from=text("cache_from"),
        cache_to=text("cache_to"),
        runner=_one_of(text("runner"), "TIDEWAITER_RUNNER", ("auto", "bwrap", "podman", "docker")),
        cache_bytes=sizes.parse(text("cache_bytes"), what="TIDEWAITER_CACHE_BYTES"),
        prune=_yes_or_no(text("prune"), "TIDEWAITER_PRUNE"),
        shared_layers=text("shared_layers").strip().removeprefix("docker://"),
        trusted_builders=_paths(text("trusted_builders")),
        policy=_paths(text("policy")),
        policy_engine=_one_of(text("policy_engine"), "TIDEWAITER_POLICY_ENGINE", ("embedded", "opa")),
        opa=text("opa"),
        identity=text("identity").strip(),
        waiver_days=_whole_number(text("waiver_days"), "TIDEWAITER_WAIVER_DAYS", least=1),
        origin=text("origin"),
        source_date_epoch=None if not epoch else _whole_number(epoch, "SOURCE_DATE_EPOCH", least=0),
        key_password=None if password is None else password.encode(),
    )


def tool_environment() -> dict[str, str]:
    """Environment for a child tool that must reach the network as this process does: PATH, proxies, CAs, home."""
    kept = (
        "PATH",
        "HOME",
        "LANG",
        "TMPDIR",
        "SSL_CERT_FILE",
        "SSL_CERT_DIR",
        "XDG_CACHE_HOME",
        "UV_CACHE_DIR",
        "DOCKER_CONFIG",
        "NETRC",
    )
    proxies = ("http_proxy", "https_proxy", "no_proxy", "all_proxy")
    names = {*kept, *proxies, *(name.upper() for name in proxies)}
    return {name: value for name, value in os.environ.items() if name in names}


def scanner_environment() -> dict[str, str]:
    """`tool_environment` and what tells Trivy where its database, its cache and its mirrors are."""
    return tool_environment() | {name: value for name, value in os.environ.items() if name.startswith("TRIVY_")}


def engine_environment() -> dict[str, str]:
    """`tool_environment` and what tells builders and container engines where their daemon and their storage are."""
    names = ("BUILDKIT_HOST", "BUILDAH_ISOLATION", "XDG_RUNTIME_DIR", "XDG_DATA_HOME", "XDG_CONFIG_HOME", "USER")
    docker = ("DOCKER_HOST", "DOCKER_CONTEXT", "DOCKER_CERT_PATH", "DOCKER_TLS_VERIFY", "BUILDX_BUILDER")
    return tool_environment() | {name: os.environ[name] for name in (*names, *docker) if name in os.environ}


def build_secret(variable: str) -> str | None:
    """What the environment holds under the name that a project gives in `[build] secrets`; None when it is not set.

    Raises:
        InputError: it is one of tidewaiter's own: whoever writes a Dockerfile must not get the password of a key.
    """
    if variable == "COSIGN_PASSWORD" or variable.startswith("TIDEWAITER_"):
        raise InputError(
            f"[build] secrets: {variable} is tidewaiter's own and is handed to no build",
            next_step="Put what the Dockerfile needs into a variable of another name.",
        )
    return os.environ.get(variable)


def proxy_variables() -> dict[str, str]:
    """What the environment says about proxies."""
    names = {"http_proxy", "https_proxy", "no_proxy", "all_proxy", "request_method"}
    return {name: value for name, value in os.environ.items() if name.lower() in names}


def authority_variables() -> tuple[str, str]:
    """`SSL_CERT_FILE` and `SSL_CERT_DIR`; empty when not set."""
    return os.environ.get("SSL_CERT_FILE", ""), os.environ.get("SSL_CERT_DIR", "")


def docker_folder() -> Path:
    """Where `docker login` keeps its `config.json`: `DOCKER_CONFIG`, else `~/.docker`."""
    folder = os.environ.get("DOCKER_CONFIG", "")
    return Path(folder).expanduser() if folder else Path.home() / ".docker"


def login_files() -> tuple[Path, ...]:
    """Files with registry passwords, in the order in which they are asked; they need not be there.

    `REGISTRY_AUTH_FILE` alone when it is set, else Docker's `config.json`, then where podman, buildah and skopeo keep
    theirs (containers-auth.json(5)).
    """
    named = os.environ.get("REGISTRY_AUTH_FILE", "")
    if named:
        return (Path(named).expanduser(),)
    session = os.environ.get("XDG_RUNTIME_DIR", "")
    running = Path(session, "containers") if session else Path(f"/run/containers/{os.getuid()}")
    configured = Path(os.environ.get("XDG_CONFIG_HOME", "") or Path.home() / ".config", "containers")
    return (docker_folder() / "config.json", running / "auth.json", configured / "auth.json")


def index_variables(name: str) -> tuple[str, str]:
    """Variables that hold user and password for the package index that a project calls `name`."""
    word = re.sub(r"[^A-Z0-9]", "_", name.upper())
    return f"TIDEWAITER_INDEX_{word}_USERNAME", f"TIDEWAITER_INDEX_{word}_PASSWORD"


def index_credentials(name: str) -> tuple[str, str] | None:
    """User and password for the package index `name`; None when neither variable is set."""
    username, password = (os.environ.get(variable, "") for variable in index_variables(name))
    return (username, password) if username or password else None


def netrc_file() -> Path:
    """Where passwords by host stand: `NETRC`, else `~/.netrc`."""
    path = os.environ.get("NETRC", "")
    return Path(path).expanduser() if path else Path.home() / ".netrc"


def tracing() -> bool:
    """Whether unexpected errors show their traceback (`TIDEWAITER_TRACE=1`)."""
    return os.environ.get("TIDEWAITER_TRACE", "") not in {"", "0"}
