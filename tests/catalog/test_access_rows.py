"""Users, tokens and sessions in the catalog: what each of them lets in, and until when."""

import datetime as dt
from collections.abc import Iterator
from pathlib import Path

import pytest
from catalog_sample import home
from sqlalchemy import func, select

from tidewaiter.access import sessions, tokens, users
from tidewaiter.access.roles import Permission
from tidewaiter.catalog import schema
from tidewaiter.catalog.access import users as rows
from tidewaiter.catalog.catalog import Catalog
from tidewaiter.core import clock, limits
from tidewaiter.core.errors import InputError, NotFoundError, RefusedError, UnauthenticatedError

NOW = clock.now()


@pytest.fixture
def catalog(tmp_path: Path) -> Iterator[Catalog]:
    """One with the user `alice`, developer in `vision`, who has no password."""
    with Catalog.open(home(tmp_path)) as found:
        users.add(found, "alice", with_password=False)
        users.grant(found, "alice", "developer", "vision")
        yield found


def _later(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    at = clock.now() + dt.timedelta(seconds=seconds)
    monkeypatch.setattr(clock, "now", lambda: at)


def _told(catalog: Catalog) -> str:
    """All that the audit log will say, and all that lies in these tables."""
    with catalog.database.reading() as connection:
        waiting = connection.execute(select(schema.audit_pending.c.entry)).all()
        kept = [
            connection.execute(select(table)).all()
            for table in (schema.user_account, schema.role_grant, schema.api_token, schema.login_session)
        ]
    return repr((waiting, kept))


def test_roles_are_given_and_taken(catalog: Catalog) -> None:
    """What is given twice, or taken without being there, changes nothing and says so."""
    assert users.grant(catalog, "alice", "security", "*")
    assert not users.grant(catalog, "alice", "security", "*")
    (alice,) = users.listed(catalog)
    assert alice.roles == {"vision": {"developer"}, "*": {"security"}}
    assert users.revoke(catalog, "alice", "security", "*")
    assert not users.revoke(catalog, "alice", "security", "*")
    assert users.named(catalog, "alice").roles == {"vision": {"developer"}}


@pytest.mark.parametrize(
    ("role", "project"), [("root", "*"), ("viewer", ""), ("viewer", "a/b"), ("viewer", "**"), ("Viewer", "*")]
)
def test_what_is_no_role_or_project_is_refused(catalog: Catalog, role: str, project: str) -> None:
    """Neither is stored."""
    with pytest.raises(InputError):
        users.grant(catalog, "alice", role, project)
    assert users.named(catalog, "alice").roles == {"vision": {"developer"}}


@pytest.mark.parametrize("name", ["", "Alice", "a b", "token:x", "anonymous", "local", "a" * 101, "ali\u202ece", "a/b"])
def test_names_that_could_pass_for_somebody_else_are_refused(catalog: Catalog, name: str) -> None:
    """No capitals, no marks of tokens and jobs, none that the audit log uses otherwise."""
    with pytest.raises(InputError):
        users.add(catalog, name)


def test_a_name_is_given_once(catalog: Catalog) -> None:
    """A second user of the name is refused, and there is no user that was not added."""
    with pytest.raises(RefusedError):
        users.add(catalog, "alice")
    with pytest.raises(NotFoundError):
        users.grant(catalog, "bob", "viewer", "*")


def test_the_first_administrator_is_made_once(tmp_path: Path) -> None:
    """In a home without users; never where there is one."""
    with Catalog.open(home(tmp_path)) as catalog:
        issued = users.first_admin(catalog)
        assert issued is not None
        assert issued.user.roles == {"*": {"admin"}}
        assert issued.user.one_time_until == pytest.approx(
            clock.now() + dt.timedelta(hours=72), abs=dt.timedelta(minutes=1)
        )
        assert issued.password
        assert issued.password not in _told(catalog)
        assert users.first_admin(catalog) is None


def test_a_token_has_what_its_user_has(catalog: Catalog) -> None:
    """Now, and as it changes; limited to what was said when it was made."""
    made = tokens.create(
        catalog, "laptop", days=30, most_days=365, user="alice", permissions=["catalog.read", "image.push"]
    )
    assert made.token.name == "alice/laptop"
    identity = tokens.identify(catalog, made.secret)
    assert (identity.name, identity.kind) == ("alice", "token")
    assert identity.may(Permission.IMAGE_PUSH, "vision")
    assert not identity.may(Permission.IMAGE_PUSH, "speech")
    assert not identity.may(Permission.IMAGE_CHECK, "vision")  # a developer may, this token not
    users.revoke(catalog, "alice", "developer", "vision")
    assert not tokens.identify(catalog, made.secret).may(Permission.IMAGE_PUSH, "vision")


def test_a_token_of_some_projects_has_its_users_roles_there_alone(catalog: Catalog) -> None:
    """A role everywhere counts in the named projects, and nowhere else."""
    users.grant(catalog, "alice", "maintainer", "*")
    made = tokens.create(catalog, "speech", days=1, most_days=1, user="alice", projects=["speech"])
    identity = tokens.identify(catalog, made.secret)
    assert identity.may(Permission.IMAGE_DELETE, "speech")
    assert not identity.may(Permission.IMAGE_DELETE, "vision")
    assert not identity.may(Permission.CATALOG_RECORD)


def test_a_token_of_its_own_reviews_nothing(catalog: Catalog) -> None:
    """Whatever role it has: a person answers for that."""
    made = tokens.create(catalog, "deploy", days=1, most_days=1, only_role="admin")
    identity = tokens.identify(catalog, made.secret)
    assert identity.name == "token:deploy"
    assert identity.may(Permission.IMAGE_DELETE, "vision")
    for permission in tokens.PEOPLE_ONLY:
        assert not identity.may(permission)


def test_a_secret_is_nowhere(catalog: Catalog) -> None:
    """Neither the token nor the session's secret nor a password lies in the tables or in the audit log."""
    made = tokens.create(catalog, "deploy", days=1, most_days=1, only_role="viewer")
    secret = sessions.begin(catalog, users.named(catalog, "alice"))
    users.set_password(catalog, "alice", "a sentence that is long")
    for text in (made.secret, made.secret[4:47], secret, "a sentence"):
        assert text not in _told(catalog)


def test_a_token_ends(catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    """At its time to the second, and never later than the settings allow."""
    made = tokens.create(catalog, "deploy", days=2, most_days=2, only_role="viewer")
    assert made.token.expires_at - made.token.created_at == dt.timedelta(days=2)
    for days in (0, 3):
        with pytest.raises(InputError):
            tokens.create(catalog, "other", days=days, most_days=2, only_role="viewer")
    _later(monkeypatch, 2 * 86400 - 2)
    tokens.identify(catalog, made.secret)
    _later(monkeypatch, 3)
    with pytest.raises(UnauthenticatedError):
        tokens.identify(catalog, made.secret)


def test_a_revoked_token_is_dead_at_once(catalog: Catalog) -> None:
    """Its name stays taken, so that the audit log keeps its meaning."""
    made = tokens.create(catalog, "deploy", days=1, most_days=1, only_role="viewer")
    assert tokens.revoke(catalog, "deploy")
    assert not tokens.revoke(catalog, "deploy")
    with pytest.raises(UnauthenticatedError):
        tokens.identify(catalog, made.secret)
    with pytest.raises(RefusedError):
        tokens.create(catalog, "deploy", days=1, most_days=1, only_role="viewer")


def test_the_last_use_of_a_token_is_seen_coarsely(catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first use is recorded, one soon after is not, a later one is."""
    made = tokens.create(catalog, "deploy", days=1, most_days=1, only_role="viewer")
    used = []
    for seconds in (0, 60, 700):
        _later(monkeypatch, seconds)
        tokens.identify(catalog, made.secret)
        used.append(tokens.listed(catalog)[0].used_at)
    assert used[0] is not None
    assert used[2] is not None
    assert used[1] == used[0] < used[2]


def test_a_disabled_user_is_out_at_once(catalog: Catalog) -> None:
    """Sessions end for good; tokens do nothing until it is enabled again."""
    made = tokens.create(catalog, "laptop", days=1, most_days=1, user="alice")
    secret = sessions.begin(catalog, users.named(catalog, "alice"))
    assert users.set_disabled(catalog, "alice", disabled=True)
    assert sessions.find(catalog, secret) is None
    with pytest.raises(UnauthenticatedError):
        tokens.identify(catalog, made.secret)
    assert users.set_disabled(catalog, "alice", disabled=False)
    assert not users.set_disabled(catalog, "alice", disabled=False)
    tokens.identify(catalog, made.secret)
    assert sessions.find(catalog, secret) is None


def test_a_session_ends_when_nobody_uses_it(catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    """Use keeps it alive up to its absolute end, silence ends it."""
    secret = sessions.begin(catalog, users.named(catalog, "alice"))
    other = sessions.begin(catalog, users.named(catalog, "alice"))
    _later(monkeypatch, limits.SESSION_IDLE_SECONDS - 60)
    assert sessions.find(catalog, secret) is not None
    _later(monkeypatch, 120)
    assert sessions.find(catalog, secret) is not None
    assert sessions.find(catalog, other) is None
    steps = limits.SESSION_SECONDS // (limits.SESSION_IDLE_SECONDS - 600)
    for _ in range(steps - 1):
        _later(monkeypatch, limits.SESSION_IDLE_SECONDS - 600)
        assert sessions.find(catalog, secret) is not None
    _later(monkeypatch, limits.SESSION_IDLE_SECONDS - 600)
    assert sessions.find(catalog, secret) is None


def test_another_password_ends_all_sessions(catalog: Catalog) -> None:
    """And a session of a one-time password has no role at all."""
    secret = sessions.begin(catalog, users.named(catalog, "alice"))
    issued = users.reset_password(catalog, "alice")
    assert sessions.find(catalog, secret) is None
    session = sessions.find(catalog, sessions.begin(catalog, issued.user))
    assert session is not None
    assert session.must_change
    assert session.identity.roles == {}


def test_sessions_of_one_user_are_few(catalog: Catalog) -> None:
    """The oldest ends for the newest; what has ended is removed."""
    alice = users.named(catalog, "alice")
    secrets = [sessions.begin(catalog, alice) for _ in range(limits.SESSIONS_OF_ONE + 1)]
    assert sum(sessions.find(catalog, secret) is not None for secret in secrets) == limits.SESSIONS_OF_ONE
    assert sessions.find(catalog, secrets[-1]) is not None
    sessions.end(catalog, secrets[-1])
    with catalog.database.reading() as connection:
        left = connection.scalar(select(func.count()).select_from(schema.login_session))
    assert left == limits.SESSIONS_OF_ONE - 1


def test_roles_of_groups_follow_the_provider(catalog: Catalog) -> None:
    """They are replaced as a whole, and leave alone what an administrator gave."""
    with catalog.database.writing() as connection:
        alice = rows.require(connection, "alice")
        rows.set_group_roles(connection, alice, {"*": ["viewer"], "vision": ["developer"]}, NOW)
    assert users.named(catalog, "alice").roles == {"*": {"viewer"}, "vision": {"developer"}}
    with catalog.database.writing() as connection:
        rows.set_group_roles(connection, alice, {}, NOW)
    assert users.named(catalog, "alice").roles == {"vision": {"developer"}}


def test_every_change_is_in_the_audit_log(catalog: Catalog) -> None:
    """By its own action, in the name of who did it."""
    users.add(catalog, "bob", actor="root")
    users.grant(catalog, "bob", "viewer", "*", actor="root")
    users.revoke(catalog, "bob", "viewer", "*", actor="root")
    users.reset_password(catalog, "bob", actor="root")
    users.set_disabled(catalog, "bob", disabled=True, actor="root")
    users.set_disabled(catalog, "bob", disabled=False, actor="root")
    tokens.create(catalog, "x", days=1, most_days=1, user="bob", actor="bob")
    tokens.revoke(catalog, "bob/x", actor="bob")
    told = _told(catalog)
    for action in (
        "user.add",
        "role.grant",
        "role.revoke",
        "user.password",
        "user.disable",
        "user.enable",
        "token.create",
        "token.revoke",
    ):
        assert f'"action":"{action}"' in told
    assert told.count('"actor":"root"') == 6
    assert told.count('"actor":"bob"') == 2
