"""Logging in with a real OIDC provider: Dex, on this machine."""

import re
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple
from urllib.parse import parse_qs, urlencode, urljoin, urlsplit

import httpx2
import pytest
from starlette.testclient import TestClient

from servers import Tool
from tidewaiter.access import users
from tidewaiter.catalog.catalog import Catalog
from tidewaiter.core import settings as all_settings
from tidewaiter.web.app import create

pytestmark = pytest.mark.interop

HERE = "http://testserver"
SECRET = "a secret of the client"
PASSWORD_HASH = "$2a$10$2b2cU8CPhOTaGrs1HRQuAueS7JTT5ZHsHSzYiFPm1leZck7Mc8T4W"  # bcrypt of `password`


class Dex(NamedTuple):
    """A running provider."""

    issuer: str
    log: Path


CONFIG = """
issuer: {issuer}
storage: {{type: memory}}
web: {{http: {host}}}
oauth2: {{skipApprovalScreen: true}}
enablePasswordDB: true
staticClients:
- {{id: tidewaiter, name: Tidewaiter, secret: {secret}, redirectURIs: ['{here}/login/oidc/back']}}
- {{id: public, name: Public, public: true, redirectURIs: ['{here}/login/oidc/back']}}
staticPasswords:
- {{email: Alice@example.com, hash: '{hash}', username: alice, userID: user-1}}
connectors:
- {{type: mockCallback, id: mock, name: Mock}}
"""


def _is_up(address: str) -> bool:
    try:
        return httpx2.get(address, trust_env=False).status_code == 200
    except httpx2.TransportError:
        return False


@pytest.fixture(scope="module")
def dex(tool: Tool, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dex]:
    program = tool("dex")
    folder = tmp_path_factory.mktemp("dex")
    with socket.create_server(("127.0.0.1", 0)) as free:
        host = f"127.0.0.1:{free.getsockname()[1]}"
    issuer = f"http://{host}/dex"
    (folder / "config.yaml").write_text(
        CONFIG.format(issuer=issuer, host=host, secret=SECRET, here=HERE, hash=PASSWORD_HASH)
    )
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([program, "serve", str(folder / "config.yaml")], stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + 30
        while not _is_up(f"{issuer}/.well-known/openid-configuration"):
            if process.poll() is not None or time.monotonic() > deadline:
                pytest.fail(f"dex did not start: {(folder / 'log').read_text()[-2000:]}")
            time.sleep(0.1)
        yield Dex(issuer, folder / "log")
    finally:
        process.terminate()
        process.wait(timeout=20)


@contextmanager
def server(home: Path, dex: Dex, **settings: str) -> Iterator[TestClient]:
    """A server whose settings name Dex; `authors` are developers in `vision`."""
    values = {
        "oidc_issuer": dex.issuer,
        "oidc_client_id": "tidewaiter",
        "oidc_scopes": "openid profile email groups",
        "oidc_name_claim": "email",
        **settings,
    }
    lines = [f'{name} = "{value}"' for name, value in values.items()]
    lines += ["[[oidc_group]]", 'group = "authors"', 'role = "developer"', 'project = "vision"']
    (home / "settings.toml").write_text("\n".join(lines) + "\n")
    secret = {"TIDEWAITER_OIDC_CLIENT_SECRET": SECRET} if values["oidc_client_id"] == "tidewaiter" else {}
    loaded = all_settings.load({"TIDEWAITER_HOME": str(home), **secret})
    with TestClient(create(loaded, anonymous=False), follow_redirects=False) as client:
        yield client


def at_provider(address: str, *, connector: str, user: str = "", password: str = "") -> str:
    """What a person does in the browser, from the provider's first address to the one that leads back."""
    with httpx2.Client(timeout=20, trust_env=False) as browser:
        answer = browser.get(f"{address}&{urlencode({'connector_id': connector})}")
        for _ in range(10):
            while answer.is_redirect:
                target = urljoin(str(answer.url), answer.headers["location"])
                if target.startswith(HERE):
                    return target
                answer = browser.get(target)
            assert answer.status_code == 200, answer.text[:500]
            form = re.search(r'<form[^>]*action="([^"]*)"', answer.text)
            action = form[1].replace("&amp;", "&") if form else ""
            answer = browser.post(
                urljoin(str(answer.url), action) if action else str(answer.url),
                data={"login": user, "password": password},
            )
    raise AssertionError("the provider leads nowhere")


def begin(client: TestClient, target: str = "/account") -> str:
    """Address at the provider, the cookies kept."""
    answer = client.get("/login/oidc", params={"next": target})
    assert answer.status_code == 303
    return str(answer.headers["location"])


@pytest.mark.parametrize("client_id", ["tidewaiter", "public"])
def test_a_person_logs_in(dex: Dex, tmp_path: Path, client_id: str) -> None:
    """With a secret, and with PKCE alone: the user is made, named by its address, and has its groups' roles."""
    with server(tmp_path, dex, oidc_client_id=client_id) as client:
        back = at_provider(begin(client), connector="mock")
        answer = client.get(back)
        assert (answer.status_code, answer.headers["location"]) == (303, "/account"), answer.text[-600:]
        page = client.get("/account").text
        assert "kilgore@kilgore.trout" in page
        assert "developer" in page
        assert "Change the password" not in page
    with Catalog.open(all_settings.load({"TIDEWAITER_HOME": str(tmp_path)})) as catalog:
        (user,) = users.listed(catalog)
        assert user.roles == {"vision": {"developer"}}
        assert user.issuer == dex.issuer


def test_a_password_at_the_provider(dex: Dex, tmp_path: Path) -> None:
    """A person without groups is known and has no role; coming again it is the same user."""
    with server(tmp_path, dex, oidc_name_claim="name") as client:
        for _ in range(2):
            back = at_provider(begin(client), connector="local", user="Alice@example.com", password="password")
            assert client.get(back).headers["location"] == "/account"
            assert "no role yet" in client.get("/account").text
            client.cookies.clear()
    with Catalog.open(all_settings.load({"TIDEWAITER_HOME": str(tmp_path)})) as catalog:
        assert [user.name for user in users.listed(catalog)] == ["alice"]


def test_an_answer_is_good_once_and_in_one_browser(dex: Dex, tmp_path: Path) -> None:
    """Another browser, another state, another code, a code used twice: nobody is logged in."""
    with server(tmp_path, dex) as client:
        back = at_provider(begin(client), connector="mock")
        secret = client.cookies["tidewaiter-provider"]
        query = {name: values[0] for name, values in parse_qs(urlsplit(back).query).items()}

        def refused(address: str, cookies: dict[str, str]) -> str:
            client.cookies.clear()
            for name, value in cookies.items():
                client.cookies.set(name, value)
            answer = client.get(address)
            assert answer.status_code == 403
            assert "tidewaiter-session" not in answer.cookies
            return answer.text

        own = {"tidewaiter-provider": secret}
        assert "of another login" in refused(back, {})
        assert "of another login" in refused(back, {"tidewaiter-provider": "A" * 43})
        for changed in ({"state": "x"}, {"iss": "https://other.example"}, {"code": "x"}, {"error": "access_denied"}):
            refused(f"/login/oidc/back?{urlencode({**query, **changed})}", own)
        client.cookies.clear()
        client.cookies.set("tidewaiter-provider", secret)
        assert client.get(back).status_code == 303
        refused(back, own)


def test_a_name_makes_nobody_somebody_else(dex: Dex, tmp_path: Path) -> None:
    """A person of the provider whose name a user of this home has does not become that user."""
    with Catalog.open(all_settings.load({"TIDEWAITER_HOME": str(tmp_path)})) as catalog:
        users.add(catalog, "kilgore@kilgore.trout", given={"*": frozenset({"admin"})})
    with server(tmp_path, dex) as client:
        answer = client.get(at_provider(begin(client), connector="mock"))
        assert answer.status_code == 403
        assert "there is a user" in answer.text
        assert client.get("/account").headers["location"].startswith("/login")


def test_a_disabled_person_stays_out(dex: Dex, tmp_path: Path) -> None:
    """Whatever the provider says."""
    with server(tmp_path, dex) as client:
        client.get(at_provider(begin(client), connector="mock"))
        with Catalog.open(all_settings.load({"TIDEWAITER_HOME": str(tmp_path)})) as catalog:
            users.set_disabled(catalog, "kilgore@kilgore.trout", disabled=True)
        assert client.get("/account").status_code == 303
        client.cookies.clear()
        assert "disabled" in client.get(at_provider(begin(client), connector="mock")).text
        assert client.get("/account").status_code == 303


def test_where_a_login_leads_is_here(dex: Dex, tmp_path: Path) -> None:
    """Never another server."""
    with server(tmp_path, dex) as client:
        back = at_provider(begin(client, "//evil.example/"), connector="mock")
        assert client.get(back).headers["location"] == "/"


def test_a_wrong_client_secret_lets_nobody_in(dex: Dex, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The provider says no, and so do we; the secret is in no message."""
    monkeypatch.setattr("test_access_dex.SECRET", "another secret")
    with server(tmp_path, dex) as client:
        answer = client.get(at_provider(begin(client), connector="mock"))
        assert answer.status_code == 403
        assert "another secret" not in answer.text
