"""Users, roles and tokens by API: who may give what to whom, what is shown once, and who cannot be locked out."""

import datetime as dt
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from tidewaiter.access import tokens, users
from tidewaiter.access.roles import Role
from tidewaiter.catalog.audit import sequencer
from tidewaiter.catalog.catalog import Catalog
from tidewaiter.core import settings as all_settings
from tidewaiter.core.settings import Settings
from tidewaiter.web.app import create


class Place:
    """A server on a home, and tokens for it."""

    def __init__(self, settings: Settings, app: FastAPI, catalog: Catalog) -> None:
        self.settings = settings
        self.catalog = catalog
        self._app = app

    def user(self, name: str, role: Role, *, project: str = "*", **limits: Any) -> "Asking":
        """A client with a token of a new service of that name."""
        users.add(self.catalog, name, with_password=False, given={project: frozenset({role})})
        return self.with_token(tokens.create(self.catalog, "first", days=7, most_days=7, user=name, **limits).secret)

    def with_token(self, secret: str) -> "Asking":
        """A client with that token."""
        headers = {"Authorization": f"Bearer {secret}"}
        return Asking(TestClient(self._app, headers=headers, raise_server_exceptions=False))


class Asking:
    """A client; answers are status and document."""

    def __init__(self, client: TestClient) -> None:
        self.client = client

    def __call__(
        self, method: Literal["GET", "POST"], path: str, body: Any = None, **headers: str
    ) -> tuple[int, dict[str, Any]]:
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        answer = self.client.request(method, f"/api/v1{path}", json=body, headers=given)
        return answer.status_code, answer.json()


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    settings = all_settings.load({"TIDEWAITER_HOME": str(tmp_path), "TIDEWAITER_REQUESTS_PER_SECOND": "0"})
    with Catalog.open(settings) as catalog, TestClient(create(settings, anonymous=True)) as client:
        app = client.app
        assert isinstance(app, FastAPI)
        yield Place(settings, app, catalog)


def logged(place: Place, admin: Asking) -> list[tuple[str, str, str]]:
    """Who did what to whom, as the audit log says."""
    assert sequencer.settle(place.settings) == ""
    status, answer = admin("GET", "/audit/entries?limit=200")
    assert status == 200
    return [(one["actor"], one["action"], one["subject"]) for one in reversed(answer["items"])]


def test_a_user_comes_gets_roles_and_goes(place: Place) -> None:
    """Added with a password that is shown once and kept nowhere, given and taken roles, disabled; all in the log."""
    admin = place.user("owner", "admin")
    answer = admin.client.post(
        "/api/v1/users", json={"name": "anna", "roles": {"vision": ["developer"]}}, headers={"Idempotency-Key": "a"}
    )
    assert (answer.status_code, answer.headers["cache-control"]) == (201, "no-store")
    made = answer.json()
    assert made["roles"] == {"vision": ["developer"]}
    again = admin.client.post(
        "/api/v1/users", json={"name": "anna", "roles": {"vision": ["developer"]}}, headers={"Idempotency-Key": "a"}
    )
    assert (again.status_code, again.json()["code"]) == (409, "idempotency_answer_lost")
    assert users.Logins().login(place.catalog, "anna", made["password"], "192.0.2.1").name == "anna"
    status, given = admin("POST", "/users/anna/grant", {"role": "security", "project": "*"})
    assert (status, given["changed"], given["user"]["roles"]["*"]) == (200, True, ["security"])
    assert admin("POST", "/users/anna/grant", {"role": "security", "project": "*"})[1]["changed"] is False
    assert admin("POST", "/users/anna/revoke", {"role": "security", "project": "*"})[1]["changed"] is True
    status, reset = admin("POST", "/users/anna/password")
    assert (status, reset["password"] not in {"", made["password"]}) == (200, True)
    assert admin("POST", "/users/anna/disable")[1]["user"]["disabled_at"]
    assert admin("POST", "/users/anna/enable")[1]["user"]["disabled_at"] is None
    status, listed = admin("GET", "/users")
    assert [one["name"] for one in listed["items"]] == ["anna", "owner"]
    assert "password" not in listed["items"][0]
    assert admin("GET", "/users/anna")[1] == listed["items"][0]
    told = [(action, subject) for actor, action, subject in logged(place, admin) if actor == "owner"]
    assert told == [
        ("user.add", "anna"),
        ("role.grant", "anna"),
        ("role.grant", "anna"),
        ("role.revoke", "anna"),
        ("user.password", "anna"),
        ("user.disable", "anna"),
        ("user.enable", "anna"),
    ]


@pytest.mark.parametrize(
    ("path", "body", "status", "code"),
    [
        ("/users", {"name": "owner"}, 403, "name_taken"),
        ("/users", {"name": "../x"}, 422, "bad_input"),
        ("/users", {"name": "anonymous"}, 400, "bad_input"),
        ("/users", {"name": "a", "roles": {"A B": ["viewer"]}}, 400, "bad_input"),
        ("/users", {"name": "a", "roles": {"*": ["king"]}}, 422, "bad_input"),
        ("/users", {"name": "a", "password": "given"}, 422, "bad_input"),
        ("/users/nobody/disable", None, 404, "not_found"),
        ("/users/owner/grant", {"role": "viewer", "project": "a/b"}, 400, "bad_input"),
    ],
)
def test_what_is_no_user(place: Place, path: str, body: Any, status: int, code: str) -> None:
    """Taken, malformed and reserved names, roles and projects that there are not."""
    answer = place.user("owner", "admin")("POST", path, body)
    assert (answer[0], answer[1]["code"]) == (status, code)


def test_the_last_administrator_stays(place: Place) -> None:
    """Nobody disables or demotes the last one who can come in; one who cannot does not count."""
    admin = place.user("owner", "admin")
    users.add(place.catalog, "asleep", with_password=False, given={"*": frozenset({"admin"})})
    users.add(place.catalog, "half", given={"vision": frozenset({"admin"})})
    role = {"role": "admin", "project": "*"}
    for path, body in (("/users/owner/disable", None), ("/users/owner/revoke", role)):
        answer = admin("POST", path, body)
        assert (answer[0], answer[1]["code"]) == (403, "last_admin")
    users.add(place.catalog, "second", given={"*": frozenset({"admin"})})
    assert admin("POST", "/users/owner/disable")[0] == 200
    assert admin("GET", "/users")[0] == 401
    assert users.named(place.catalog, "owner").disabled_at is not None


def test_who_manages_no_access_gives_nobody_anything(place: Place) -> None:
    """Neither security, nor a maintainer, nor the admin of one project, nor an admin's token without that scope."""
    place.user("owner", "admin")
    askers = [
        place.user("sec", "security"),
        place.user("main", "maintainer"),
        place.user("of-vision", "admin", project="vision"),
        place.user("limited", "admin", permissions=["catalog.read", "token.make"]),
        place.user("placed", "admin", projects=["vision"]),
    ]
    for ask in askers:
        assert ask("POST", "/users", {"name": "x", "roles": {"*": ["admin"]}})[0] == 403
        assert ask("POST", "/users/sec/grant", {"role": "admin", "project": "*"})[0] == 403
        assert ask("POST", "/users/owner/password")[0] == 403
        assert ask("POST", "/tokens", {"name": "x", "role": "admin"})[0] == 403
        assert ask("POST", "/tokens", {"name": "x", "user": "owner"})[0] == 403
        assert ask("POST", "/tokens/revoke", {"name": "owner/first"})[0] == 404
        assert ask("GET", "/tokens?all=true")[0] == 403
        assert ask("GET", "/tokens?user=owner")[0] == 403


def test_tokens_of_ones_own(place: Place) -> None:
    """Made, used, listed, revoked; the secret is shown once and the actor is the user."""
    admin = place.user("owner", "admin")
    anna = place.user("anna", "developer", project="vision")
    answer = anna.client.post("/api/v1/tokens", json={"name": "laptop", "days": 3})
    assert (answer.status_code, answer.headers["cache-control"]) == (201, "no-store")
    made = answer.json()
    assert made["name"] == "anna/laptop"
    laptop = place.with_token(made["token"])
    assert laptop("GET", "/whoami")[1]["roles"] == {"vision": ["developer"]}
    status, listed = laptop("GET", "/tokens")
    assert (status, [one["name"] for one in listed["items"]]) == (200, ["anna/first", "anna/laptop"])
    assert "token" not in listed["items"][0]
    assert anna("POST", "/tokens/revoke", {"name": "anna/laptop"})[1] == {"name": "anna/laptop", "changed": True}
    assert laptop("GET", "/whoami")[0] == 401
    told = logged(place, admin)
    assert ("anna", "token.create", "anna/laptop") in told
    assert ("anna", "token.revoke", "anna/laptop") in told
    assert anna("POST", "/tokens", {"name": "laptop"})[1]["code"] == "name_taken"
    assert anna("POST", "/tokens", {"name": "long", "days": 9999})[0] == 400


def test_a_token_makes_none_that_may_more_than_itself(place: Place) -> None:
    """What is left open is limited as the maker is; more permissions, projects or days are not had."""
    limited = place.user(
        "anna", "maintainer", projects=["vision", "speech"], permissions=["catalog.read", "image.pull", "token.make"]
    )
    status, made = limited("POST", "/tokens", {"name": "copy", "days": 90})
    assert status == 201
    assert made["permissions"] == ["catalog.read", "image.pull", "token.make"]
    assert made["projects"] == ["vision", "speech"]
    ends = dt.datetime.fromisoformat(made["expires_at"])
    assert ends <= tokens.identify(place.catalog, _secret(limited)).ends_at  # type: ignore[operator]  # it has one
    for more in ({"permissions": ["image.push"]}, {"projects": ["other"]}, {"projects": ["*"]}):
        answer = limited("POST", "/tokens", {"name": "more", **more})
        assert (answer[0], answer[1]["code"]) == (403, "forbidden"), more
    status, less = limited("POST", "/tokens", {"name": "less", "projects": ["speech"], "permissions": ["catalog.read"]})
    assert (status, less["projects"], less["permissions"]) == (201, ["speech"], ["catalog.read"])
    assert place.with_token(less["token"])("POST", "/tokens", {"name": "third"})[0] == 403


def _secret(asking: Asking) -> str:
    return str(asking.client.headers["authorization"]).removeprefix("Bearer ")


def test_tokens_of_machines_and_services(place: Place) -> None:
    """Who manages access makes them; nobody makes one in the name of a person, and no machine makes any."""
    admin = place.user("owner", "admin")
    status, made = admin("POST", "/tokens", {"name": "deploy", "role": "developer", "projects": ["vision"]})
    assert (status, made["name"], made["role"]) == (201, "deploy", "developer")
    machine = place.with_token(made["token"])
    assert machine("POST", "/tokens", {"name": "x"})[0] == 403
    assert machine("GET", "/tokens")[0] == 403
    users.add(place.catalog, "anna", given={"*": frozenset({"viewer"})})
    assert admin("POST", "/tokens", {"name": "x", "user": "anna"})[1]["code"] == "forbidden"
    place.user("service", "viewer")
    assert admin("POST", "/tokens", {"name": "second", "user": "service"})[1]["name"] == "service/second"
    assert admin("POST", "/tokens", {"name": "x", "user": "service", "role": "admin"})[0] == 400
    names = [one["name"] for one in admin("GET", "/tokens?all=true")[1]["items"]]
    assert names == ["deploy", "owner/first", "service/first", "service/second"]
    assert admin("POST", "/tokens/revoke", {"name": "service/second"})[1]["changed"] is True
    assert admin("POST", "/tokens/revoke", {"name": "service/second"})[1]["changed"] is False
    assert admin("POST", "/tokens/revoke", {"name": "none"})[0] == 404


def test_nobody_has_no_tokens(place: Place) -> None:
    """Where anyone may read, whoever has no name still makes no token and sees no user."""
    nobody = Asking(TestClient(place.with_token("x").client.app, raise_server_exceptions=False))
    assert nobody("GET", "/images")[0] == 200
    assert nobody("GET", "/tokens")[0] == 401
    assert nobody("POST", "/tokens", {"name": "x"})[0] == 401
    assert nobody("GET", "/users")[0] == 401
