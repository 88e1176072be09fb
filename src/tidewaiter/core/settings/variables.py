"""What the environment says beside the settings, and what of it other programs are given."""

import os
import re
from pathlib import Path

from tidewaiter.core.errors import InputError
from tidewaiter.core.settings.table import SETTINGS

_BESIDE = ("TIDEWAITER_TRACE", "TIDEWAITER_TOKEN", "TIDEWAITER_ID_TOKEN", "TIDEWAITER_OIDC_CLIENT_SECRET")
"""What has no row in the table of settings, for it is no setting or a secret."""
_TELLING = r"(?:PASSWORD|PASSWD|PASSPHRASE|TOKEN|SECRET|CREDENTIALS?|API_?KEY|PRIVATE_KEY)$"


def unknown_variables() -> tuple[str, ...]:
    """Variables of the environment that are named like settings and mean nothing: typing mistakes."""
    known = {setting.variable for setting in SETTINGS} | set(_BESIDE)
    index = re.compile(r"TIDEWAITER_INDEX_[A-Z0-9_]+_(?:USERNAME|PASSWORD)")
    named = (name for name in os.environ if name.startswith("TIDEWAITER_"))
    return tuple(sorted(name for name in named if name not in known and not index.fullmatch(name)))


def secret_values() -> tuple[str, ...]:
    """What stands in variables whose names say that it is a secret: for those who take it out of what they print."""
    return tuple(value for name, value in os.environ.items() if value and re.search(_TELLING, name.upper()))


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


def key_variable(variable: str) -> str | None:
    """What the environment holds under the name that a key given as `env://VARIABLE` names; None when it is not set."""
    return os.environ.get(variable)


def source_variable(variable: str) -> str | None:
    """What the environment holds under the name that `[[source]]` gives as `env:VARIABLE`; None when it is not set."""
    return os.environ.get(variable)


def hook_environment(variables: tuple[str, ...]) -> dict[str, str]:
    """`tool_environment` and the variables that a key hook asks for by name, such as those of a key service.

    Raises:
        InputError: one of them is tidewaiter's own.
    """
    for variable in variables:
        if variable == "COSIGN_PASSWORD" or variable.startswith("TIDEWAITER_"):
            raise InputError(
                f"{variable} is tidewaiter's own and is handed to no key hook",
                next_step="Put what the command needs into a variable of another name.",
            )
    return tool_environment() | {name: os.environ[name] for name in variables if name in os.environ}


def module_environment() -> dict[str, str]:
    """Environment for a vendor's PKCS#11 module, of which each has variables of its own: all but tidewaiter's."""
    ours = ("COSIGN_PASSWORD", "TIDEWAITER_")
    return {name: value for name, value in os.environ.items() if not name.startswith(ours)}


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


def api_token() -> str:
    """`TIDEWAITER_TOKEN`: what proves to the server who asks; empty when it is not set."""
    return os.environ.get("TIDEWAITER_TOKEN", "")


def job_token() -> str:
    """`TIDEWAITER_ID_TOKEN`: the OIDC token that GitLab gives a job under the name that its `id_tokens` says."""
    return os.environ.get("TIDEWAITER_ID_TOKEN", "")


def github_token_request() -> tuple[str, str]:
    """Address where a job of GitHub Actions gets its OIDC token, and the token to show there; empty outside of one."""
    return os.environ.get("ACTIONS_ID_TOKEN_REQUEST_URL", ""), os.environ.get("ACTIONS_ID_TOKEN_REQUEST_TOKEN", "")


def netrc_file() -> Path:
    """Where passwords by host stand: `NETRC`, else `~/.netrc`."""
    path = os.environ.get("NETRC", "")
    return Path(path).expanduser() if path else Path.home() / ".netrc"


def tracing() -> bool:
    """Whether unexpected errors show their traceback (`TIDEWAITER_TRACE=1`)."""
    return os.environ.get("TIDEWAITER_TRACE", "") not in {"", "0"}
