"""Settings of the home, and the only place that reads environment variables.

A value comes from the variable, else from `settings.toml` in the home, else from its default. The table in
`docs/reference/settings.md` is compared with `SETTINGS` by a test.
"""

import os
import tomllib
from pathlib import Path
from typing import NamedTuple

import msgspec

from tidewaiter.core import limits
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
        "osv_mirror",
        "TIDEWAITER_OSV_MIRROR",
        "https://osv-vulnerabilities.storage.googleapis.com",
        "Where `advisories update` fetches OSV bulk exports.",
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
    osv_mirror: str
    plain_http: frozenset[str]
    ca_file: Path | None
    certificates: Path
    threads: int
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
    try:
        content = tomllib.loads(data.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
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
        osv_mirror=text("osv_mirror").rstrip("/"),
        plain_http=frozenset(host.strip() for host in text("plain_http").split(",") if host.strip()),
        ca_file=Path(ca_file).expanduser().absolute() if ca_file else None,
        certificates=home.certificates
        if certificates == "certs.d in the home"
        else Path(certificates).expanduser().absolute(),
        threads=processors()
        if threads == "the number of processors"
        else _whole_number(threads, "TIDEWAITER_THREADS", least=1),
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
    )
    proxies = ("http_proxy", "https_proxy", "no_proxy", "all_proxy")
    names = {*kept, *proxies, *(name.upper() for name in proxies)}
    return {name: value for name, value in os.environ.items() if name in names}


def proxy_variables() -> dict[str, str]:
    """What the environment says about proxies."""
    names = {"http_proxy", "https_proxy", "no_proxy", "all_proxy", "request_method"}
    return {name: value for name, value in os.environ.items() if name.lower() in names}


def docker_folder() -> Path:
    """Where `docker login` keeps its `config.json`: `DOCKER_CONFIG`, else `~/.docker`."""
    folder = os.environ.get("DOCKER_CONFIG", "")
    return Path(folder).expanduser() if folder else Path.home() / ".docker"


def tracing() -> bool:
    """Whether unexpected errors show their traceback (`TIDEWAITER_TRACE=1`)."""
    return os.environ.get("TIDEWAITER_TRACE", "") not in {"", "0"}
