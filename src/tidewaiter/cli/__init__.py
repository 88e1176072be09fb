"""The command line: one module per command group, imported only when its command runs."""

import gc

_OBJECTS = 50_000
"""New objects between two collections. Python's 700 have it look, while modules load, again and again for nothing."""


def main() -> None:
    """Entry point of `tidewaiter`."""
    gc.set_threshold(_OBJECTS)
    from tidewaiter.cli.app import run

    code = run()
    gc.freeze()  # else the interpreter looks for garbage in everything before it ends, twice
    raise SystemExit(code)
