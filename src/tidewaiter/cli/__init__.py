"""The command line: one module per command group, imported only when its command runs."""


def main() -> None:
    """Entry point of `tidewaiter`."""
    from tidewaiter.cli.app import run

    raise SystemExit(run())
