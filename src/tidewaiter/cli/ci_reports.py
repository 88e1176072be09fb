"""Reports of `ci`: written whatever the answer is, and never in its place."""

from collections.abc import Callable, Sequence

from tidewaiter.core.errors import StorageError, TidewaiterError
from tidewaiter.core.progress import Progress
from tidewaiter.pipelines.continuous import reports
from tidewaiter.pipelines.continuous.comparison import Comparison
from tidewaiter.pipelines.continuous.surroundings import Surroundings
from tidewaiter.pipelines.continuous.way import Way


def write(
    progress: Progress,
    asked: Sequence[reports.Wanted],
    way: Way,
    around: Surroundings | None,
    compared: Callable[[], Comparison | str],
) -> None:
    """Write the reports; what ended the way stays the answer when one cannot be written. Raises `StorageError`."""
    try:
        reports.write(asked, way, around, compared)
    except StorageError as error:
        if way.error is None:
            raise
        progress.note(f"warning: {error.message}")


def ended(progress: Progress, way: Way, error: TidewaiterError) -> TidewaiterError:
    """What ended the way, for whoever raises it; findings in the sources that did are told first."""
    if way.sources is not None and way.build is None:
        for one in way.sources.stopping:
            place = f"{one.file}:{one.line}" if one.line else one.file
            progress.note(f"{place}: {one.severity}: {one.message} [{one.rule}]\n  do: {one.remedy}")
    return error


def counted(way: Way) -> dict[str, int]:
    """How many files were looked at before the build, and how many findings count."""
    found = way.sources
    if found is None:
        return {"files": 0, "findings": 0}
    return {"files": found.files, "findings": sum(one.ignored is None for one in found.findings)}
