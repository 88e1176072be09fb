from pathlib import Path

import pytest

from servers import Serve, reply
from tidewaiter.assembly import simple_index
from tidewaiter.assembly.simple_index import File, Index
from tidewaiter.core import limits, settings
from tidewaiter.core.errors import InputError, LimitError, NetworkError, NotFoundError
from tidewaiter.transport.client import Client

_URL = "https://py.example.org/simple/app/"
_HASH = "a" * 64


def _html(text: str) -> tuple[File, ...]:
    return simple_index.parse(text.encode(), url=_URL, content_type="text/html; charset=utf-8")


def test_a_html_page_is_read() -> None:
    """PEP 503 with the attributes of PEP 592, 658 and 714: relative addresses, hashes, yanked, Python, metadata."""
    found = _html(
        "<!DOCTYPE html><html><head><base href='../../files/'></head><body><p>text</p>"
        f'<a href="app-1.0.whl#sha256={_HASH}" data-requires-python="&gt;=3.8" data-yanked="broken" '
        f'data-core-metadata="sha256={_HASH}">app-1.0.whl</a>'
        '<a href="https://e.org/app-2.0.whl" data-yanked data-dist-info-metadata="true"> app-2.0.whl </a>'
        '<a href="app-3.0.whl#md5=00">app-3.0.whl</a><a>nothing</a><a href="ftp://e.org/x">x</a>'
        "</body></html>"
    )
    assert found == (
        File(
            filename="app-1.0.whl",
            url="https://py.example.org/files/app-1.0.whl",
            sha256=_HASH,
            requires_python=">=3.8",
            yanked="broken",
            metadata={"sha256": _HASH},
        ),
        File(filename="app-2.0.whl", url="https://e.org/app-2.0.whl", yanked=True, metadata=True),
        File(filename="app-3.0.whl", url="https://py.example.org/files/app-3.0.whl"),
    )


def test_a_json_page_is_read() -> None:
    """PEP 691 with sizes and upload times; what is malformed in one file does not hide the others."""
    body = (
        '{"meta": {"api-version": "1.1"}, "name": "app", "files": ['
        f'{{"filename": "a.whl", "url": "/f/a.whl", "hashes": {{"sha256": "{_HASH}"}}, "size": 3, '
        '"upload-time": "2026-01-01T00:00:00Z", "core-metadata": false, "dist-info-metadata": true},'
        '{"filename": "b.whl", "url": "javascript:1"}]}'
    )
    (found,) = simple_index.parse(body.encode(), url=_URL, content_type=simple_index.JSON)
    assert found.url == "https://py.example.org/f/a.whl"
    assert (found.size, found.upload_time, found.metadata) == (3, "2026-01-01T00:00:00Z", False)


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"{}", simple_index.JSON),
        (b"[" * 100_000, simple_index.JSON),
        (b"\xff", "text/html"),
        (b"", "application/json"),
        (b'<base href="https://[::1/"><a href="a.whl">a.whl</a>', "text/html"),
    ],
)
def test_what_is_no_page_is_not_a_no(body: bytes, kind: str) -> None:
    """A captive portal or a broken index means that nothing was found out."""
    with pytest.raises(NetworkError, match="no page of a package index"):
        simple_index.parse(body, url=_URL, content_type=kind)


def test_the_number_of_files_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """`INDEX_FILES` are read, one more is not."""
    page = '<a href="a.whl">a.whl</a>' * 3
    monkeypatch.setattr(limits, "INDEX_FILES", 3)
    assert len(_html(page)) == 3
    monkeypatch.setattr(limits, "INDEX_FILES", 2)
    with pytest.raises(LimitError, match="3 files"):
        _html(page)


def test_pages_are_bounded_and_answers_told_apart(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not there, not allowed, failed and too long are four different errors."""

    def answer(status: int, body: bytes = b"") -> Index:
        return Index("", serve(lambda handler: reply(handler, status, body, Content_Type="text/html")))

    with Client(attempts=1) as client:
        with pytest.raises(NotFoundError):
            simple_index.files(answer(404), "App", client)
        with pytest.raises(NetworkError, match="refuses the credentials") as caught:
            simple_index.files(answer(401), "app", client)
        assert "netrc" in caught.value.next_step
        with pytest.raises(NetworkError, match="503"):
            simple_index.files(answer(503), "app", client)
        monkeypatch.setattr(limits, "INDEX_PAGE_BYTES", 10)
        assert simple_index.files(answer(200, b"0123456789"), "app", client) == ()
        with pytest.raises(LimitError):
            simple_index.files(answer(200, b"01234567890"), "app", client)


def test_credentials_come_from_the_address_the_variables_or_netrc(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In this order; they are no part of the address, and go to its origin only."""
    netrc = tmp_path / "netrc"
    netrc.write_text("machine py.example.org login n password p\n")
    monkeypatch.setenv("NETRC", str(netrc))
    wanted = settings.load({"TIDEWAITER_PYTHON_INDEX": "https://u:s%40t@py.example.org:444/simple/"})
    index = simple_index.public(wanted)
    assert index.url == "https://py.example.org:444/simple"
    assert index.headers("https://py.example.org:444/x") == {"Authorization": "Basic dTpzQHQ="}
    for other in ("https://py.example.org/x", "http://py.example.org:444/x", "https://e.org:444/x"):
        assert index.headers(other) == {}
    plain = simple_index.public(settings.load({"TIDEWAITER_PYTHON_INDEX": "https://py.example.org/simple"}))
    assert plain.authorization == "Basic bjpw"
    none = simple_index.public(settings.load({"TIDEWAITER_PYTHON_INDEX": "https://other.example.org/simple"}))
    assert none.authorization is None


def test_an_index_without_tls_gets_no_password_unless_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """`plain_http` names hosts that are spoken to without TLS."""
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))
    variables = {"TIDEWAITER_PYTHON_INDEX": "http://u:p@py.example.org:81/simple"}
    with pytest.raises(InputError, match="without TLS"):
        simple_index.public(settings.load(variables))
    named = settings.load(variables | {"TIDEWAITER_PLAIN_HTTP": "py.example.org:81"})
    assert simple_index.public(named).authorization
