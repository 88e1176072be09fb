"""What commands print: data to stdout, all else to stderr; bars on a terminal, plain lines elsewhere."""

import os
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from tidewaiter.core.progress import Progress, Task, Unit

if TYPE_CHECKING:
    from rich.progress import Progress as Bars
    from rich.progress import TaskID

Format = Literal["text", "json"]

_PLAIN_SECONDS = 5.0


def shown(text: str, *, keep: str = "\t") -> str:
    """`text` without what could steer a terminal or hide in it: control, bidirectional and invisible characters."""
    strange = {c for c in text if not c.isprintable() and c not in keep}
    if not strange:
        return text
    import unicodedata  # a library of its own, which hardly any text needs

    harmful = {c for c in strange if unicodedata.category(c) != "Zs"}
    return "".join("?" if c in harmful else c for c in text)


@contextmanager
def _reader_may_leave() -> Iterator[None]:
    """Writing goes on into nothing when the reader of stdout has gone: the exit code must still be the answer."""
    try:
        yield
    except BrokenPipeError:
        _drop_stdout()


def _drop_stdout() -> None:
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, sys.stdout.fileno())
    os.close(nothing)


def emit_bytes(data: bytes) -> None:
    """A document and a newline to stdout."""
    with _reader_may_leave():
        sys.stdout.buffer.write(data + b"\n")
        sys.stdout.buffer.flush()


def emit_json(document: Any) -> None:  # noqa: ANN401  # anything that msgspec encodes
    """One JSON document and a newline to stdout."""
    emit_bytes(msgspec.json.encode(document))


def emit(text: str = "") -> None:
    """One line of data to stdout; control characters of foreign names do not reach the terminal."""
    encoding = sys.stdout.encoding or "utf-8"
    with _reader_may_leave():
        sys.stdout.write(shown(text).encode(encoding, "backslashreplace").decode(encoding) + "\n")


def finish() -> None:
    """Write out what is still buffered; raises `OSError` when the disk behind stdout refuses."""
    if sys.stdout is None:  # closed from the start, and nothing was written
        return
    try:
        with _reader_may_leave():
            sys.stdout.flush()
    except OSError:
        _drop_stdout()  # else the interpreter tries once more at its end and changes the exit code
        raise


def tell(text: str) -> None:
    """One line (or several) for the person, to stderr; as harmless as `emit`."""
    sys.stderr.write(shown(text, keep="\t\n") + "\n")
    sys.stderr.flush()


def size(count: int) -> str:
    """Bytes for people, in powers of ten: `12.3 MB`."""
    amount = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if amount < 1000:
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1000
    return f"{amount:.1f} TB"


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """A table to stdout, columns as wide as their longest cell, no wrapping."""
    cells = [list(columns), *([str(cell) for cell in row] for row in rows)]
    widths = [max(len(row[index]) for row in cells) for index in range(len(columns))]
    for row in cells:
        emit("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


class _BarTask:
    def __init__(self, bars: "Bars", identity: "TaskID") -> None:
        self._bars, self._identity = bars, identity

    def advance(self, amount: int = 1) -> None:
        self._bars.advance(self._identity, amount)

    def describe(self, text: str) -> None:
        self._bars.update(self._identity, description=shown(text))


class _ScaledTask:
    """Turns bytes into megabytes, so that the counter stays readable."""

    def __init__(self, inner: _BarTask, scale: int) -> None:
        self._inner, self._scale, self._rest = inner, scale, 0
        self._lock = threading.Lock()

    def advance(self, amount: int = 1) -> None:
        with self._lock:
            whole, self._rest = divmod(self._rest + amount, self._scale)
        if whole:
            self._inner.advance(whole)

    def describe(self, text: str) -> None:
        self._inner.describe(text)


class BarProgress:
    """Progress bars of rich on stderr; one display for all tasks, from any thread."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

        self._console = Console(stderr=True)
        self._lock = threading.Lock()
        self._open = 0
        self._bars = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=self._console,
            transient=True,
        )

    @contextmanager
    def task(self, title: str, *, total: int | None = None, unit: Unit = "items") -> Iterator[Task]:
        scale = 1_000_000 if unit == "bytes" else 1
        label = shown(f"{title} (MB)" if unit == "bytes" else title)
        with self._lock:
            if self._open == 0:
                self._bars.start()
            self._open += 1
        identity = self._bars.add_task(label, total=None if total is None else max(1, total // scale))
        try:
            yield _ScaledTask(_BarTask(self._bars, identity), scale)
        finally:
            self._bars.remove_task(identity)
            with self._lock:
                self._open -= 1
                if self._open == 0:
                    self._bars.stop()

    def note(self, text: str) -> None:
        self._console.print(shown(text, keep="\t\n"), markup=False, highlight=False)


class _LineTask:
    def __init__(self, title: str, total: int | None, unit: Unit) -> None:
        self._title, self._total, self._unit = title, total, unit
        self._done = 0
        self._last = time.monotonic()
        self._lock = threading.Lock()

    def advance(self, amount: int = 1) -> None:
        with self._lock:
            self._done += amount
            late = time.monotonic() - self._last > _PLAIN_SECONDS
            if late:
                self._last = time.monotonic()
        if late:
            tell(f"  {self._title}: {self._shown()}")

    def _shown(self) -> str:
        done = size(self._done) if self._unit == "bytes" else str(self._done)
        if not self._total:
            return done
        return f"{done} of {size(self._total) if self._unit == 'bytes' else self._total}"

    def describe(self, text: str) -> None:
        pass


class LineProgress:
    """Plain lines on stderr: one when a task starts, one every five seconds while it runs."""

    @contextmanager
    def task(self, title: str, *, total: int | None = None, unit: Unit = "items") -> Iterator[Task]:
        tell(f"{title} ...")
        yield _LineTask(title, total, unit)

    def note(self, text: str) -> None:
        tell(text)


def progress() -> Progress:
    """Bars when stderr is a terminal, lines otherwise."""
    return BarProgress() if sys.stderr.isatty() else LineProgress()
