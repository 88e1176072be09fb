"""`transport.proxies`, and the client behind a small real proxy."""

import pytest

import forward_proxy
from servers import Serve, reply
from tidewaiter.core.errors import InputError, NetworkError
from tidewaiter.transport import proxies
from tidewaiter.transport.client import Client
from tidewaiter.transport.proxies import Proxies


@pytest.mark.parametrize(
    ("url", "no_proxy", "direct"),
    [
        ("https://registry.example/", "", False),
        ("https://registry.example/", "*", True),
        ("https://registry.example/", "example", True),
        ("https://registry.example/", "registry.example", True),
        ("https://REGISTRY.example/", "Registry.Example", True),
        ("https://notregistry.example/", "registry.example", False),
        ("https://a.registry.example/", ".registry.example", True),
        ("https://a.registry.example/", "*.registry.example", True),
        ("https://registry.example/", ".registry.example", False),
        ("https://registry.example:5000/", "registry.example:5000", True),
        ("https://registry.example:5001/", "registry.example:5000", False),
        ("https://registry.example/", "registry.example:443", True),
        ("https://10.1.2.3/", "other, 10.0.0.0/8", True),
        ("https://11.1.2.3/", "10.0.0.0/8", False),
        ("https://[::1]:5000/", "::1", True),
        ("https://[fd00::5]/", "fd00::/8", True),
        ("https://[fd00::5]:5000/", "[fd00::5]:5000", True),
    ],
)
def test_no_proxy_is_read_like_curl_and_go_do(url: str, no_proxy: str, direct: bool) -> None:
    """Names, domains, addresses, networks and ports in NO_PROXY."""
    read = proxies.read({"HTTPS_PROXY": "http://proxy:3128", "NO_PROXY": no_proxy})
    assert read.between(url) == ("" if direct else "http://proxy:3128")


def test_each_scheme_has_its_proxy() -> None:
    """HTTPS_PROXY is for https, HTTP_PROXY for http, ALL_PROXY for the rest; lower case wins."""
    read = proxies.read({"https_proxy": "a:1", "HTTPS_PROXY": "http://b:1", "ALL_PROXY": "http://c:1"})
    assert read.between("https://host/") == "http://a:1"
    assert read.between("http://host/") == "http://c:1"
    assert proxies.read({"HTTP_PROXY": "http://evil:1", "REQUEST_METHOD": "GET"}) == Proxies()


def test_a_proxy_that_is_none_is_bad_input() -> None:
    """SOCKS and nonsense are refused by name, without the password."""
    with pytest.raises(InputError, match="HTTPS_PROXY") as caught:
        proxies.read({"HTTPS_PROXY": "socks5://me:secret@proxy:1080"})
    assert "secret" not in str(caught.value)


def test_plain_requests_go_through_the_proxy_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """HTTP_PROXY is used, with its password, which is not sent further; NO_PROXY is obeyed."""
    asked: forward_proxy.Asked = []
    monkeypatch.setenv("NO_PROXY", "")
    monkeypatch.setenv("no_proxy", "")
    with forward_proxy.running(asked) as proxy:
        monkeypatch.setenv("HTTP_PROXY", f"http://me:p%40ss@{proxy}")
        with Client() as client:
            assert client.get("http://registry.invalid/v2/", limit=10) == b"by proxy"
    assert asked == [("GET http://registry.invalid/v2/", "Basic bWU6cEBzcw==")]
    monkeypatch.setenv("NO_PROXY", ".invalid")
    monkeypatch.delenv("no_proxy")
    with Client(attempts=1) as client, pytest.raises(NetworkError):
        client.get("http://registry.invalid/v2/", limit=10)
    assert len(asked) == 1


def test_a_proxy_that_refuses_is_named_as_such() -> None:
    """407 of the proxy is not taken for an answer of the host, and is asked for once only."""
    asked: forward_proxy.Asked = []
    with (
        forward_proxy.running(asked, refuse=True) as proxy,
        Client(through=Proxies(https=f"http://{proxy}")) as client,
        pytest.raises(NetworkError, match=r"proxy gives no way.*407"),
    ):
        client.get("https://registry.invalid/", limit=10)
    assert asked == [("CONNECT registry.invalid:443", None)]


def test_the_proxy_of_one_client_does_not_touch_direct_hosts(serve: Serve) -> None:
    """A host in NO_PROXY is asked directly by the same client."""
    asked: forward_proxy.Asked = []
    with forward_proxy.running(asked) as proxy:
        through = Proxies(http=f"http://{proxy}", direct=("127.0.0.0/8",))
        with Client(through=through) as client:
            assert client.get(serve(lambda handler: reply(handler, 200, b"direct")), limit=10) == b"direct"
            assert client.get("http://elsewhere.invalid/", limit=10) == b"by proxy"
    assert [what for what, _ in asked] == ["GET http://elsewhere.invalid/"]
