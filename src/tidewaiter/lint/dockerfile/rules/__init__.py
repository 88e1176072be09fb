"""Rules about Dockerfiles, by subject."""

from tidewaiter.lint.dockerfile.rules import (
    base,
    commands,
    debian,
    files,
    knowledge,
    names,
    onbuild,
    packages,
    python,
    starting,
    user,
    variables,
)

__all__ = [
    "base",
    "commands",
    "debian",
    "files",
    "knowledge",
    "names",
    "onbuild",
    "packages",
    "python",
    "starting",
    "user",
    "variables",
]
