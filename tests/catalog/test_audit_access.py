"""Users, roles and tokens: the log says how their rows read, so that nobody gets in by a statement."""

from pathlib import Path

import pytest
from audit_manipulations import OF_ROWS, flatten, found_after, verified
from catalog_sample import home

from tidewaiter.access import passwords, tokens, users
from tidewaiter.catalog.access import users as rows
from tidewaiter.catalog.audit import sequencer as audit_sequencer
from tidewaiter.catalog.audit import states as audit_states
from tidewaiter.catalog.catalog import Catalog
from tidewaiter.core import clock
from tidewaiter.core.settings import Settings


@pytest.fixture(scope="module")
def peopled(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """A home with users and tokens, some of them changed and taken back."""
    settings = home(tmp_path_factory.mktemp("peopled"))
    with Catalog.open(settings) as catalog:
        for name in ("alice", "bob", "carol"):
            users.add(catalog, name, given={"vision": frozenset({"viewer"})})
        users.set_password(catalog, "alice", "a sentence that is long")
        users.set_disabled(catalog, "bob", disabled=True)
        users.grant(catalog, "alice", "security", "*")
        users.revoke(catalog, "alice", "security", "*")
        users.revoke(catalog, "carol", "viewer", "vision")
        tokens.create(catalog, "laptop", days=1, most_days=2, user="alice", permissions=["catalog.read"])
        tokens.create(catalog, "deploy", days=1, most_days=2, only_role="viewer", projects=["vision", "speech"])
        tokens.revoke(catalog, "deploy")
        with catalog.database.writing() as connection:
            rows.set_group_roles(connection, rows.require(connection, "bob"), {"*": {"viewer"}}, clock.now())
            rows.rehash(connection, rows.require(connection, "bob"), passwords.hashed("b" * 20), clock.now())
    assert audit_sequencer.settle(settings) == ""
    flatten(settings.home.catalog)
    return settings


def test_who_may_what_reads_as_it_was_logged(peopled: Settings) -> None:
    """Also a password that was hashed anew, and a user who has no role any more."""
    assert verified(peopled).problems == ()
    with Catalog.open(peopled) as catalog, catalog.database.reading() as connection:
        told = [(one.kind, one.key) for one in audit_states.all_of(connection)]
        (carol,) = audit_states.now(connection, "role", ("carol",))
    assert sorted(told) == [
        ("role", "alice"),
        ("role", "bob"),
        ("token", "alice/laptop"),
        ("token", "deploy"),
        *(("user", name) for name in ("alice", "bob", "carol")),
    ]
    assert carol.digest == ""


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE user_account SET password = (SELECT password FROM user_account u WHERE u.name = 'bob')",
        "UPDATE user_account SET one_time_until = NULL WHERE name = 'carol'",
        "UPDATE user_account SET disabled_at = NULL WHERE name = 'bob'",
        "UPDATE user_account SET issuer = 'https://evil.example', subject = '1' WHERE name = 'alice'",
        "UPDATE user_account SET name = 'dave' WHERE name = 'carol'",
        (
            "INSERT INTO user_account SELECT 99, 'root', password, NULL, NULL, NULL, NULL, created_at, NULL"
            " FROM user_account LIMIT 1"
        ),
        "DELETE FROM user_account WHERE name = 'carol'",
        "UPDATE role_grant SET role = 'admin'",
        "UPDATE role_grant SET project = '*' WHERE project = 'vision'",
        "INSERT INTO role_grant SELECT 99, id, '*', 'admin', 'granted', created_at FROM user_account LIMIT 1",
        "DELETE FROM role_grant",
        "UPDATE api_token SET revoked_at = NULL WHERE name = 'deploy'",
        "UPDATE api_token SET permissions = 'null' WHERE name = 'alice/laptop'",
        "UPDATE api_token SET projects = '[]' WHERE name = 'deploy'",
        "UPDATE api_token SET role = 'admin' WHERE name = 'deploy'",
        "UPDATE api_token SET hash = 'of another secret' WHERE name = 'deploy'",
        "UPDATE api_token SET expires_at = '2099-01-01 00:00:00.000000'",
        "UPDATE api_token SET user_account_id = (SELECT max(id) FROM user_account) WHERE name = 'alice/laptop'",
        "DELETE FROM api_token WHERE name = 'deploy'",
    ],
)
def test_an_edit_of_who_may_what_is_found(peopled: Settings, tmp_path: Path, statement: str) -> None:
    """Whoever writes to the database does not become somebody else unnoticed."""
    assert found_after(peopled, tmp_path, statement) & OF_ROWS
