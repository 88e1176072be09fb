"""Which flags `tensorflow_model_server` and `tflite_convert` know, by version; both go on with others."""

from typing import Literal

from tidewaiter.frameworks import tables
from tidewaiter.frameworks.tables import ConverterFlag, ServerFlag
from tidewaiter.frameworks.versions import numbers, series

Known = Literal["yes", "no", "unknown"]


def _has(since: str, until: str, version: str) -> bool:
    wanted = numbers(series(version))
    return numbers(since) <= wanted and (not until or wanted <= numbers(until))


def server_flag(name: str) -> ServerFlag | None:
    """The flag of that name, without dashes, of any version."""
    return next((one for one in tables.flags().server if one.name == name), None)


def server_knows(name: str, version: str = "") -> Known:
    """Whether `tensorflow_model_server` of that version (`2.13.0`, `2.13`) has the flag.

    Without a version, whether any has it. Versions newer than the table may have flags that are not in it, and lack
    others: for them, and for those older than it, the answer is `unknown` unless the newest one has it.
    """
    flag = server_flag(name)
    if not series(version):
        return "no" if flag is None else "yes"
    newest = numbers(tables.flags().newest_server)
    oldest = min(numbers(one.since) for one in tables.flags().server)
    if numbers(series(version)) > newest:
        return "yes" if flag is not None and not flag.until else "unknown"
    if numbers(series(version)) < oldest:
        return "unknown"
    return "yes" if flag is not None and _has(flag.since, flag.until, version) else "no"


def server_versions(name: str) -> str:
    """For example `since 2.15`, `from 1.15 to 2.2`; empty for what no version has."""
    flag = server_flag(name)
    if flag is None:
        return ""
    return f"from {flag.since} to {flag.until}" if flag.until else f"since {flag.since}"


def converter_flags(version: str = "", *, converter: Literal[1, 2] | None = None) -> dict[str, ConverterFlag]:
    """The flags of `tflite_convert` by name: of a version of TensorFlow, or of all that are known.

    Args:
        version: `2.15.0` or `2.15`; a version newer than the table counts as the newest.
        converter: 2, or 1 for the converter that `--enable_v1_converter` asks for; both when it is None.
    """
    newest = tables.flags().newest_converter
    if series(version) and numbers(series(version)) > numbers(newest):
        version = newest
    return {
        one.name: one
        for one in tables.flags().converter
        if (converter is None or one.converter == converter)
        and (not series(version) or _has(one.since, one.until, version))
    }
