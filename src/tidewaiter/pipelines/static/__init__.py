"""A project's sources, looked at before anything is built: lint, secrets, dependencies that a stranger answers."""

from tidewaiter.pipelines.static.analysing import analyse
from tidewaiter.pipelines.static.report import NotChecked, StaticFinding, StaticReport, require

__all__ = ["NotChecked", "StaticFinding", "StaticReport", "analyse", "require"]
