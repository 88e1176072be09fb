"""Where runs work, and where they are seen."""

import shutil
from pathlib import Path

from tidewaiter.core.settings import Settings


def folder(settings: Settings, run: str) -> Path:
    """Where the sources of a run lie while it works."""
    return settings.home.cache / "work" / run


def clean(settings: Settings, run: str) -> None:
    """Remove what a run needs no more."""
    shutil.rmtree(folder(settings, run), ignore_errors=True)


def address(settings: Settings, run: str) -> str:
    """What provenance calls the run: its page where the server has a public address, else a name."""
    public = settings.access.public_url
    return f"{public}/pipelines/{run}" if public else f"urn:tidewaiter:{run}"
