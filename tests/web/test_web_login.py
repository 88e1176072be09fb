"""Logging in, the account page, and who asks: as a browser and as a program would."""

import base64
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from starlette.testclient import TestClient

from tidewaiter.access import sessions, tokens, users
from tidewaiter.catalog.catalog import Catalog
from tidewaiter.core import limits
from tidewaiter.core import settings as all_settings
from tidewaiter.web.app import create

OURS = {"Origin": "http://testserver"}
GOOD = "a sentence that is long"


class Place(NamedTuple):
    """A server where nobody may do anything without saying who he is, and its catalog."""

    client: TestClient
    catalog: Catalog


@pytest.fixture(scope="module")
def made_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with the user `alice`, viewer everywhere, and her password; tests only copy it."""
    home = tmp_path_factory.mktemp("made-once")
    with Catalog.open(all_settings.load({"TIDEWAITER_HOME": str(home)})) as catalog:
        users.add(catalog, "alice", with_password=False, given={"*": frozenset({"viewer"})})
        users.set_password(catalog, "alice", GOOD)
    return home


@pytest.fixture
def home(made_once: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    return Path(shutil.copytree(made_once, tmp_path / "home"))


@pytest.fixture
def place(home: Path) -> Iterator[Place]:
    """A server of it."""
    settings = all_settings.load({"TIDEWAITER_HOME": str(home)})
    with (
        Catalog.open(settings) as catalog,
        TestClient(create(settings, anonymous=False), follow_redirects=False) as client,
    ):
        yield Place(client, catalog)


def form_token(page: str) -> str:
    """What the forms of a page carry."""
    found = re.search(r'name="token" value="([0-9a-f]{64})"', page)
    assert found is not None, page[:2000]
    return found[1]


def log_in(place: Place, password: str = GOOD, *, target: str = "/", user: str = "alice") -> str:
    """Where a login leads."""
    token = form_token(place.client.get("/login").text)
    answer = place.client.post(
        "/login", data={"token": token, "user": user, "password": password, "next": target}, headers=OURS
    )
    assert answer.status_code == 303, answer.text
    return str(answer.headers["location"])


def logged_in(place: Place) -> Place:
    """The same, with alice's browser."""
    log_in(place)
    return place


def test_a_page_leads_to_the_login_and_back(place: Place) -> None:
    """Whoever may not read is asked who he is, and then gets where he wanted to go."""
    answer = place.client.get("/?search=a%26b&page=2")
    assert answer.status_code == 303
    assert answer.headers["location"] == "/login?next=%2F%3Fsearch%3Da%2526b%26page%3D2"
    page = place.client.get(answer.headers["location"])
    assert page.headers["cache-control"] == "no-store"
    assert 'value="/?search=a%26b&amp;page=2"' in page.text
    assert log_in(place, target="/?search=a%26b&page=2") == "/?search=a%26b&page=2"
    assert place.client.get("/").status_code == 200
    assert place.client.get("/login").headers["location"] == "/"


@pytest.mark.parametrize(
    "target",
    [
        "//evil.example/",
        "/\\evil.example/",
        "https://evil.example/",
        "/\t/evil.example",
        "javascript:alert(1)",
        "evil",
        "",
        "/a\r\nSet-Cookie: x=y",
        "/" + "a" * limits.FORM_NEXT_CHARACTERS,
    ],
)
def test_a_login_leads_nowhere_else(place: Place, target: str) -> None:
    """Only to a path of this server."""
    assert log_in(place, target=target) == "/"


def test_a_login_begins_a_new_session(place: Place) -> None:
    """What an attacker planted in the browser before, or the session before, is no session after."""
    log_in(place)
    first = place.client.cookies["tidewaiter-session"]
    place.client.cookies.delete("tidewaiter-session")
    planted = "A" * 43
    place.client.cookies.set("tidewaiter-session", planted, domain="testserver.local", path="/")
    token = form_token(place.client.get("/login").text)
    answer = place.client.post("/login", data={"token": token, "user": "alice", "password": GOOD}, headers=OURS)
    second = answer.cookies["tidewaiter-session"]
    assert len({first, second, planted}) == 3
    assert sessions.find(place.catalog, planted) is None
    assert sessions.find(place.catalog, second) is not None


def test_cookies_are_for_this_server_alone(place: Place) -> None:
    """No script reads them, no other site sends them along."""
    token = form_token(place.client.get("/login").text)
    answer = place.client.post("/login", data={"token": token, "user": "alice", "password": GOOD}, headers=OURS)
    cookie = next(one for one in answer.headers.get_list("set-cookie") if one.startswith("tidewaiter-session="))
    assert {part.strip().lower() for part in cookie.split(";")[1:]} == {"httponly", "path=/", "samesite=lax"}


def test_behind_tls_cookies_are_for_tls_alone(home: Path) -> None:
    """With a public address by https: `__Host-`, `Secure`; forms have to come from that address."""
    settings = all_settings.load({"TIDEWAITER_HOME": str(home), "TIDEWAITER_PUBLIC_URL": "https://tidewaiter.example"})
    app = create(settings, anonymous=False)
    with TestClient(app, base_url="https://inside", follow_redirects=False) as client:
        data = {"token": form_token(client.get("/login").text), "user": "alice", "password": GOOD}
        assert client.post("/login", data=data, headers={"Origin": "https://inside"}).status_code == 403
        answer = client.post("/login", data=data, headers={"Origin": "https://tidewaiter.example"})
        assert answer.status_code == 303
        for cookie in answer.headers.get_list("set-cookie"):
            assert cookie.startswith("__Host-")
            assert "; Secure" in cookie
            assert "Domain" not in cookie
        assert client.get("/account").status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://testserver.evil.example"},
        {"Origin": "http://testserver:81"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site", **OURS},
        {"Sec-Fetch-Site": "none"},
        {"Sec-Fetch-Site": "same-origin", "Origin": "https://evil.example"},
    ],
)
def test_forms_of_other_sites_are_refused(place: Place, headers: dict[str, str]) -> None:
    """Even with the right token: at the login, and with a session at every change."""
    token = form_token(place.client.get("/login").text)
    data = {"token": token, "user": "alice", "password": GOOD}
    answer = place.client.post("/login", data=data, headers=headers)
    assert answer.status_code == 403
    assert "tidewaiter-session" not in answer.cookies
    log_in(place)
    token = form_token(place.client.get("/account").text)
    for path in ("/account/tokens", "/account/tokens/revoke", "/account/password", "/logout", "/api/v1/images"):
        answer = place.client.post(path, data={"token": token, "name": "x", "days": "1"}, headers=headers)
        assert answer.status_code == 403, path
    assert tokens.listed(place.catalog) == ()
    assert place.client.get("/account").status_code == 200


@pytest.mark.parametrize("token", ["", "0" * 64, "login"])
def test_forms_without_their_token_are_refused(place: Place, token: str) -> None:
    """Missing, guessed, or of another form and browser; nothing changes."""
    login_token = form_token(place.client.get("/login").text)
    other = TestClient(place.client.app, follow_redirects=False)
    data = {"token": login_token, "user": "alice", "password": GOOD}
    assert other.post("/login", data=data, headers=OURS).status_code == 403
    log_in(place)
    data = {"token": login_token if token == "login" else token, "name": "x", "days": "1"}
    for path in ("/account/tokens", "/account/tokens/revoke", "/account/password", "/logout"):
        assert place.client.post(path, data=data, headers=OURS).status_code == 403
    assert tokens.listed(place.catalog) == ()
    assert place.client.get("/account").status_code == 200


@pytest.mark.parametrize(
    ("content", "kind", "status"),
    [
        (b'{"user":"alice"}', "application/json", 415),
        (b"", "", 415),
        (b"a=" + b"x" * limits.FORM_BYTES, "application/x-www-form-urlencoded", 413),
        (b"&".join(b"a=b" for _ in range(limits.FORM_FIELDS + 1)), "application/x-www-form-urlencoded", 400),
        (b"user=\xff", "application/x-www-form-urlencoded", 400),
        (b"user=%ff", "application/x-www-form-urlencoded", 400),
    ],
)
def test_what_is_no_form_is_refused(place: Place, content: bytes, kind: str, status: int) -> None:
    """Other types, too much, no text."""
    headers = {**OURS, **({"Content-Type": kind} if kind else {})}
    assert place.client.post("/login", content=content, headers=headers).status_code == status


def test_a_one_time_password_is_good_for_choosing_another_only(place: Place) -> None:
    """Every page leads there, the API refuses; afterwards the old sessions are over and a new one goes on."""
    issued = users.reset_password(place.catalog, "alice")
    assert log_in(place, issued.password, target="/account") == "/account/password"
    before = place.client.cookies["tidewaiter-session"]
    for path in ("/", "/account", "/uses"):
        assert place.client.get(path).headers["location"] == "/account/password"
    answer = place.client.get("/api/v1/images")
    assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")
    page = place.client.get("/account/password").text
    assert "Choose a password" in page

    def choose(**fields: str) -> int:
        data = {"token": form_token(page), "password": issued.password, "new": GOOD, "again": GOOD, **fields}
        return place.client.post("/account/password", data=data, headers=OURS).status_code

    assert choose(password="wrong") == 400
    assert choose(again="another sentence") == 400
    assert choose(new="short", again="short") == 400
    assert choose(new=issued.password, again=issued.password) == 400
    assert choose() == 303
    assert place.client.cookies["tidewaiter-session"] != before
    assert sessions.find(place.catalog, before) is None
    assert place.client.get("/").status_code == 200


def test_logging_out_ends_the_session(place: Place) -> None:
    """On the server, not in the browser alone."""
    logged_in(place)
    secret = place.client.cookies["tidewaiter-session"]
    token = form_token(place.client.get("/account").text)
    answer = place.client.post("/logout", data={"token": token}, headers=OURS)
    assert answer.headers["location"] == "/login"
    assert "tidewaiter-session" not in place.client.cookies
    assert sessions.find(place.catalog, secret) is None
    place.client.cookies.set("tidewaiter-session", secret)
    assert place.client.get("/account").status_code == 303


def test_a_session_that_is_over_is_not_nobody(place: Place) -> None:
    """A page leads to the login and drops the cookie, the API says 401."""
    place.client.cookies.set("tidewaiter-session", "A" * 43)
    answer = place.client.get("/account")
    assert answer.headers["location"] == "/login?next=%2Faccount"
    assert 'tidewaiter-session=""; HttpOnly; Max-Age=0' in answer.headers["set-cookie"]
    place.client.cookies.set("tidewaiter-session", "A" * 43)
    answer = place.client.get("/api/v1/images")
    assert (answer.status_code, answer.json()["code"]) == (401, "unauthenticated")
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["www-authenticate"] == 'Bearer realm="tidewaiter"'


def test_wrong_passwords_have_to_wait(place: Place) -> None:
    """429, with the seconds; the page says so."""
    data = {"token": form_token(place.client.get("/login").text), "user": "alice", "password": "wrong"}
    statuses = [
        place.client.post("/login", data=data, headers=OURS).status_code for _ in range(limits.LOGIN_FAILURES_FREE + 4)
    ]
    assert statuses[: limits.LOGIN_FAILURES_FREE] == [403] * limits.LOGIN_FAILURES_FREE
    assert 429 in statuses
    answer = place.client.post("/login", data=data, headers=OURS)
    if answer.status_code == 429:
        assert int(answer.headers["retry-after"]) >= 1


def test_a_token_is_made_shown_once_and_revoked(place: Place) -> None:
    """On the account page; it does what its user may, and nothing after."""
    logged_in(place)
    token = form_token(place.client.get("/account").text)
    data = {"token": token, "name": "laptop", "days": "30", "projects": "vision, speech", "permission": "catalog.read"}
    answer = place.client.post("/account/tokens", data=data, headers=OURS)
    assert answer.headers["cache-control"] == "no-store"
    secret = re.search(r"tdw_[\w-]{51}", answer.text)
    assert secret is not None
    assert secret[0] not in place.client.get("/account").text
    program = TestClient(place.client.app)
    bearer = {"Authorization": f"Bearer {secret[0]}"}
    assert program.get("/api/v1/images", headers=bearer).status_code == 200
    (made,) = tokens.listed(place.catalog, "alice")
    assert (made.projects, made.permissions) == (("vision", "speech"), ("catalog.read",))
    for wrong in ({"name": "laptop"}, {"name": "A B"}, {"days": "0"}, {"days": "x"}, {"permission": "all"}):
        answer = place.client.post("/account/tokens", data={**data, "name": "other", **wrong}, headers=OURS)
        assert answer.status_code == 400, wrong
    assert len(tokens.listed(place.catalog)) == 1
    data = {"token": token, "name": "alice/laptop"}
    assert place.client.post("/account/tokens/revoke", data=data, headers=OURS).status_code == 303
    assert program.get("/api/v1/images", headers=bearer).status_code == 401


def test_nobody_revokes_what_is_not_his(place: Place) -> None:
    """Another's token, and one of no user, are not found."""
    logged_in(place)
    users.add(place.catalog, "bob", with_password=False)
    tokens.create(place.catalog, "x", days=1, most_days=1, user="bob")
    tokens.create(place.catalog, "deploy", days=1, most_days=1, only_role="viewer")
    token = form_token(place.client.get("/account").text)
    for name in ("bob/x", "deploy", "", "../bob/x"):
        data = {"token": token, "name": name}
        assert place.client.post("/account/tokens/revoke", data=data, headers=OURS).status_code == 404
    assert all(one.revoked_at is None for one in tokens.listed(place.catalog))


def test_names_on_the_account_page_are_text(place: Place) -> None:
    """A form's wrong values come back harmless."""
    logged_in(place)
    token = form_token(place.client.get("/account").text)
    data = {"token": token, "name": "<script>alert(1)</script>", "days": "1"}
    answer = place.client.post("/account/tokens", data=data, headers=OURS)
    assert answer.status_code == 400
    assert "<script" not in answer.text


# Programs


@pytest.mark.parametrize(
    "header",
    [
        "Bearer ",
        "Bearer",
        "Bearer tdw_x",
        "Bearer tdw_" + "A" * 43 + "00000000",
        "Bearer x.y.z",
        "Basic !",
        "Basic " + base64.b64encode(b"alice").decode(),
        "Basic " + base64.b64encode(f"alice:{GOOD}".encode()).decode(),
        "Basic " + base64.b64encode(b"\xff:\xff").decode(),
        "Digest username=alice",
        "tdw_x",
        "Bearer " + "A" * limits.CREDENTIAL_CHARACTERS,
    ],
)
def test_wrong_credentials_are_never_nobody(home: Path, header: str) -> None:
    """Where those who say nothing may read, whoever says something wrong may not."""
    settings = all_settings.load({"TIDEWAITER_HOME": str(home)})
    with TestClient(create(settings, anonymous=True), follow_redirects=False) as client:
        assert client.get("/api/v1/images").status_code == 200
        for path in ("/api/v1/images", "/", "/metrics", "/account"):
            answer = client.get(path, headers={"Authorization": header})
            assert answer.status_code == 401, path
            assert answer.headers["content-type"] == "application/problem+json"
        answer = client.get("/v2/", headers={"Authorization": header})
        assert answer.status_code == 401
        assert answer.json()["errors"][0]["code"] == "UNAUTHORIZED"
        assert answer.headers["www-authenticate"].startswith('Bearer realm="http://testserver/v2/token"')
        assert client.get("/healthz", headers={"Authorization": header}).status_code == 200


def test_a_token_comes_as_bearer_or_as_a_password(place: Place) -> None:
    """As registry clients send it, with any user's name; and it needs no origin to change something."""
    made = tokens.create(place.catalog, "deploy", days=1, most_days=1, only_role="viewer")
    basic = base64.b64encode(f"anything:{made.secret}".encode()).decode()
    for header in (f"Bearer {made.secret}", f"bearer {made.secret}", f"Basic {basic}"):
        assert place.client.get("/api/v1/images", headers={"Authorization": header}).status_code == 200
    assert place.client.get("/api/v1/images").status_code == 401
    answer = place.client.get("/metrics")
    assert (answer.status_code, answer.json()["code"]) == (401, "unauthenticated")


def test_a_role_is_needed(place: Place) -> None:
    """A user without any is known, and refused with what to ask for."""
    users.add(place.catalog, "bob", with_password=False)
    made = tokens.create(place.catalog, "x", days=1, most_days=1, user="bob")
    answer = place.client.get("/api/v1/images", headers={"Authorization": f"Bearer {made.secret}"})
    assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")
    assert "viewer" in answer.json()["next"]


def test_too_many_requests_have_to_wait(home: Path) -> None:
    """Of one identity or address; others go on. A person is told so by a page, a program by a document."""
    settings = all_settings.load({"TIDEWAITER_HOME": str(home), "TIDEWAITER_REQUESTS_PER_SECOND": "1"})
    with Catalog.open(settings) as catalog, TestClient(create(settings, anonymous=True)) as client:
        made = tokens.create(catalog, "deploy", days=1, most_days=1, only_role="viewer")
        answers = [client.get("/login") for _ in range(limits.RATE_BURST_SECONDS + 10)]
        limited = [answer for answer in answers if answer.status_code == 429]
        assert limited
        assert all(int(answer.headers["retry-after"]) >= 1 for answer in limited)
        assert limited[0].headers["content-type"] == "text/html; charset=utf-8"
        program = client.get("/api/v1/images")
        assert (program.status_code, program.json()["code"]) == (429, "too_many")
        bearer = {"Authorization": f"Bearer {made.secret}"}
        assert client.get("/api/v1/images", headers=bearer).status_code == 200
        assert client.get("/healthz").status_code == 200


@pytest.mark.parametrize(
    ("forwarded", "limited"),
    [("203.0.113.{n}", False), ("203.0.113.{n}, 198.51.100.1", True), ("rubbish", True), ("{n}, rubbish", True)],
)
def test_a_trusted_proxy_says_who_asks(home: Path, forwarded: str, limited: bool) -> None:
    """Its own last word counts: what a client wrote before it does not."""
    settings = all_settings.load(
        {
            "TIDEWAITER_HOME": str(home),
            "TIDEWAITER_REQUESTS_PER_SECOND": "1",
            "TIDEWAITER_TRUSTED_PROXIES": "127.0.0.0/8",
        }
    )
    with TestClient(create(settings, anonymous=True), client=("127.0.0.1", 1000)) as client:
        statuses = {
            client.get("/login", headers={"X-Forwarded-For": forwarded.format(n=n)}).status_code
            for n in range(limits.RATE_BURST_SECONDS + 10)
        }
    assert (429 in statuses) is limited
