"""The catalog's tests on SQLite and again on PostgreSQL: every test in `tests/catalog` but those of SQLite's own."""

import os
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import pytest

import postgres

OF_SQLITE = frozenset(
    {
        "test_audit_verify",  # manipulates the file
        "test_built",  # of the way without SQLAlchemy
        "test_catalog_database",  # kills, damage and a full disk, of the file
        "test_catalog_decisions",
        "test_catalog_postgres",  # has a server of its own
        "test_copies",
        "test_versions",
        "test_glance",  # of the way without SQLAlchemy
        "test_saying",  # of the way without SQLAlchemy
        # One test of a module: a file as an earlier release left it, or a disk.
        "test_audit_sequencer::test_one_that_becomes_visible_late_is_not_lost",
        "test_audit_sequencer::test_what_is_no_entry_stops_nobody",
        # Of a log that is one home's alone.
        "test_audit_sequencer::test_the_key_is_made_once_and_only_for_its_owner",
        "test_audit_sequencer::test_a_thread_says_once_why_entries_wait",
        "test_among::test_sqlite_answers_it_by_an_index",
        "test_bases::test_a_catalog_from_before_bases_is_brought_along",
        "test_pulled::test_a_catalog_of_the_first_release_is_brought_along",
        "test_audit::test_events_of_before_become_the_first_entries",
        "test_synced::test_a_full_disk_leaves_the_catalog_whole",
    }
)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[postgres.Server]:
    """A running server with a migrated database."""
    found = postgres.programs()
    if found is None:
        reason = "PostgreSQL is not installed (Debian's package postgresql)"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    with postgres.running(found) as server:
        yield server


@pytest.fixture(autouse=True)
def database_kind(request: pytest.FixtureRequest) -> Iterator[str]:
    """Where homes of the test have their catalog: `sqlite`, or `postgresql` as well."""
    kind = str(getattr(request, "param", "sqlite"))
    server = request.getfixturevalue("postgres_server") if kind == "postgresql" else None
    with nullcontext() if server is None else postgres.in_use(server):
        yield kind
        if server is not None:
            postgres.drop_homes()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test of the catalog once more."""
    module = Path(metafunc.module.__file__ or "")
    names = {module.stem, f"{module.stem}::{metafunc.function.__name__}"}
    if module.parent.name == "catalog" and not names & OF_SQLITE:
        both = ["sqlite", pytest.param("postgresql", marks=pytest.mark.interop)]
        metafunc.parametrize("database_kind", both, indirect=True)
