"""What a path behind `/v2` names, and what it never names."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gate_place import Place
from tidewaiter.core import limits
from tidewaiter.gate.refusals import RefusalError
from tidewaiter.gate.request import Target, target

HEX = "a" * 64


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("/", Target("base")),
        ("", Target("base")),
        ("/_catalog", Target("catalog")),
        ("/a/b/tags/list", Target("tags", "a/b")),
        ("/a/manifests/v1.0", Target("manifest", "a", "v1.0")),
        (f"/a/manifests/sha256:{HEX}", Target("manifest", "a", f"sha256:{HEX}")),
        (f"/a/blobs/sha256%3A{HEX}", Target("blob", "a", f"sha256:{HEX}")),
        (f"/a/referrers/sha512:{HEX}{HEX}", Target("referrers", "a", f"sha512:{HEX}{HEX}")),
        ("/a/blobs/uploads/", Target("uploads", "a")),
        ("/a/blobs/uploads", Target("uploads", "a")),
        ("/a/blobs/uploads/0123", Target("upload", "a", "0123")),
        ("/manifests/blobs/tags/list", Target("tags", "manifests/blobs")),
        ("/a/manifests/manifests/manifests", Target("manifest", "a/manifests", "manifests")),
    ],
)
def test_what_paths_name(path: str, found: Target) -> None:
    """Each address of the specification names what it says, also where a repository is called like a part of it."""
    assert target(path.encode()) == found


@pytest.mark.parametrize(
    "path",
    [
        "/../etc/passwd",
        "/a/../b/manifests/v1",
        "/a/./manifests/v1",
        "/a//b/manifests/v1",
        "/a%2Fb/manifests/v1",
        "/a/b%2f..%2f..%2fx/blobs/uploads/",
        "/a/%2e%2e/manifests/v1",
        "/a/manifests/%252e%252e",
        "/a/manifests/..",
        "/a/manifests/-v1",
        "/A/manifests/v1",
        "/a\u00e9/manifests/v1",
        "/a/manifests/v1%00",
        "/a/manifests/v1\x00",
        "/a/manifests/v1\n",
        "/a\\b/manifests/v1",
        "/a b/manifests/v1",
        f"/a/blobs/sha256:{HEX}/",
        f"/a/blobs/sha256:{HEX[1:]}",
        f"/a/blobs/sha256:{HEX.upper()}",
        f"/a/blobs/md5:{HEX[:32]}",
        "/a/blobs/sha256:../../../index.json",
        f"/a/blobs/sha256%253A{HEX}",
        "/a/blobs/uploads/../../x",
        "/a/tags/list/",
        "/a/tags",
        "/a",
        "//",
        f"/{'a' * 256}/manifests/v1",
        f"/a/manifests/{'v' * 129}",
        "/" + "a/" * limits.GATE_PATH_BYTES + "manifests/v1",
    ],
)
def test_path_tricks_name_nothing(path: str) -> None:
    """Dots, escapes, double escapes, odd characters and long names are errors, before anything is looked at."""
    with pytest.raises(RefusalError) as caught:
        target(path.encode())
    assert caught.value.status in {400, 404}


@given(st.binary(max_size=200))
def test_no_path_breaks_it(raw: bytes) -> None:
    """Whatever bytes come, they name something with valid names or are refused."""
    try:
        found = target(b"/" + raw)
    except RefusalError:
        return
    assert ".." not in f"{found.repository}/{found.last}".split("/")


def test_methods_that_are_not_there(place: Place) -> None:
    """Another method than the specification has is 405 and says which there are."""
    found = place.ask("POST", "/a/manifests/v1")
    assert (found.status, found.code, found.headers["allow"]) == (405, "UNSUPPORTED", "GET, HEAD, PUT, DELETE")
    assert place.ask("DELETE", "/").status == 405


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/a/tags/list?n=x", 400),
        ("/a/tags/list?n=-1", 400),
        ("/a/tags/list?n=1&n=2", 400),
        ("/a/tags/list?n=%D9%A1", 400),
        ("/a/tags/list?last=" + "x" * 301, 400),
        ("/a/tags/list?n=%ff", 400),
    ],
)
def test_odd_parameters(place: Place, path: str, status: int) -> None:
    """Parameters that are no numbers, twice there, or not text are refused as such."""
    place.put("a", "v1", place.image("a"))
    assert place.ask("GET", path).status == status
