"""`settings.toml` of a home."""

from pathlib import Path

from tidewaiter.core import limits
from tidewaiter.core.errors import InputError
from tidewaiter.core.settings.table import SETTINGS


def read_file(path: Path) -> dict[str, object]:
    """What stands in the file, by name; nothing when there is none. Raises `InputError`, also for an unknown name."""
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

    from tidewaiter.core.settings.tables import TABLES

    try:
        content = tomllib.loads(data.decode())
    except (ValueError, RecursionError) as error:  # no UTF-8, no TOML, a number too long, nested too deep
        raise InputError(f"{path} is not TOML: {error}", next_step="Mend the line named.") from error
    known = {*TABLES, *(setting.name for setting in SETTINGS)} - {"home"}
    for key in content:
        if key not in known:
            raise InputError(
                f"{path}: unknown setting {key!r}",
                next_step=f"Known settings: {', '.join(sorted(known))}.",
            )
    return content
