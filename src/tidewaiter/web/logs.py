"""The server's log: plain text, in which only trouble is said, or one JSON object a line for those who collect logs."""

import datetime as dt
import logging
import sys
from typing import Any

import msgspec

from tidewaiter.core.settings import LogFormat
from tidewaiter.web.observed import request_id


class JsonLines(logging.Formatter):
    """`time`, `level`, `logger`, `message`, `request_id` inside of a request, and the fields of the record."""

    def format(self, record: logging.LogRecord) -> str:
        """One line without a line break in it."""
        moment = dt.datetime.fromtimestamp(record.created, dt.UTC).isoformat(timespec="milliseconds")
        line: dict[str, Any] = {
            "time": moment.replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if identity := request_id.get():
            line["request_id"] = identity
        line |= getattr(record, "fields", {})
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        # What cannot be encoded, such as half of a surrogate pair in a path, must not cost the line.
        return msgspec.json.encode(_writable(line)).decode()


def _writable(line: dict[str, Any]) -> dict[str, Any]:
    return {
        key: value.encode(errors="backslashreplace").decode() if isinstance(value, str) else value
        for key, value in line.items()
    }


def configure(form: LogFormat) -> None:
    """Let this process log in that format to stderr; `text` leaves Python's own way: warnings and worse."""
    if form == "text":
        return
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.INFO)
