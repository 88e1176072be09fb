"""Settings of the home, and the only package that reads environment variables.

A value comes from the variable, else from `settings.toml` in the home, else from its default. The table in
`docs/reference/settings.md` is compared with `SETTINGS` by a test.
"""

from typing import TYPE_CHECKING

from tidewaiter.core.settings.database import DatabaseUrl
from tidewaiter.core.settings.home import Home
from tidewaiter.core.settings.loading import Settings, load, load_home, processors
from tidewaiter.core.settings.reading import LogFormat, log_format
from tidewaiter.core.settings.table import SETTINGS, Setting
from tidewaiter.core.settings.variables import (
    api_token,
    authority_variables,
    build_secret,
    docker_folder,
    engine_environment,
    github_token_request,
    hook_environment,
    index_credentials,
    index_variables,
    job_token,
    key_variable,
    login_files,
    module_environment,
    netrc_file,
    proxy_variables,
    scanner_environment,
    secret_values,
    source_variable,
    tool_environment,
    tracing,
    unknown_variables,
)

if TYPE_CHECKING:
    from tidewaiter.core.settings.sources import ScheduleTable, SourceTable
    from tidewaiter.core.settings.tables import TABLES, EnvironmentTable

__all__ = [
    "SETTINGS",
    "TABLES",
    "DatabaseUrl",
    "EnvironmentTable",
    "Home",
    "LogFormat",
    "ScheduleTable",
    "Setting",
    "Settings",
    "SourceTable",
    "api_token",
    "authority_variables",
    "build_secret",
    "docker_folder",
    "engine_environment",
    "github_token_request",
    "hook_environment",
    "index_credentials",
    "index_variables",
    "job_token",
    "key_variable",
    "load",
    "load_home",
    "log_format",
    "login_files",
    "module_environment",
    "netrc_file",
    "processors",
    "proxy_variables",
    "scanner_environment",
    "secret_values",
    "source_variable",
    "tool_environment",
    "tracing",
    "unknown_variables",
]

_TABLES = {"ScheduleTable": "sources", "SourceTable": "sources", "EnvironmentTable": "tables", "TABLES": "tables"}
"""Modules of what only a home with a `settings.toml`, or a server, needs: every command loads this package."""


def __getattr__(name: str) -> object:
    if name not in _TABLES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_TABLES[name]}"), name)
