from hypothesis import given, settings
from hypothesis import strategies as st
from packaging.utils import canonicalize_name

from tidewaiter.inspection.catalogers.python import requirements
from tidewaiter.inspection.layer_facts import FoundPackage

_NAMES = st.sampled_from(("a", "Foo.Bar", "x-_y", "numpy", "a-", "1b", "zope.interface"))
_EXTRAS = st.sampled_from(("", "[socks]", "[a,b]", "[A-b]", "[ a ]"))
_VERSIONS = st.sampled_from(
    (
        "",
        ">=1.2",
        " >=1.2",
        " (>=1.2)",
        ">=1.2,<3",
        "==1.*",
        "!= 1.5.*, >1",
        "<1.*",
        "~=1.4",
        " @ https://x.example/a;b",
    )
)
_QUOTES = st.sampled_from(("'", '"'))
_PARTS = st.one_of(
    st.builds(
        "{} {} {}{}{}".format,
        st.just("python_version"),
        st.sampled_from(("<", "<=", ">", ">=", "==", "!=", "~=", "in")),
        _QUOTES,
        st.sampled_from(("3.8", "3.11", "3.12", "3.9.1", "3", "3.1a1")),
        _QUOTES,
    ),
    st.builds(
        "{} {} '{}'".format,
        st.sampled_from(("sys_platform", "platform_system", "os_name", "platform_machine", "platform_release")),
        st.sampled_from(("==", "!=", "<", "in")),
        st.sampled_from(("linux", "Linux", "win32", "posix", "Windows", "x86_64", "")),
    ),
    st.builds("extra == '{}'".format, st.sampled_from(("test", "a.b", ""))),
)
_MARKERS = st.lists(_PARTS, max_size=3).flatmap(
    lambda parts: st.sampled_from((" and ", " or ", " and (")).map(
        lambda joint: joint.join(parts) + (")" * (len(parts) - 1) if "(" in joint else "")
    )
)
_TEXTS = st.builds(
    lambda name, extras, versions, marker: f"{name}{extras}{versions}" + (f" ; {marker}" if marker else ""),
    _NAMES,
    _EXTRAS,
    _VERSIONS,
    _MARKERS,
)


def _by_packaging(text: str, known: dict[str, str]) -> list[str]:
    parsed = requirements._parsed(text)
    if parsed is None or (parsed.marker is not None and not requirements._holds(parsed.marker, known)):
        return []
    return [canonicalize_name(parsed.name)]


@settings(max_examples=400)
@given(_TEXTS, st.sampled_from(("usr/lib/python3.11/site-packages/p.dist-info/METADATA", "opt/p.dist-info/METADATA")))
def test_short_cuts_say_what_packaging_says(text: str, location: str) -> None:
    """A requirement that is read without `packaging` leads to what its parser and its markers say."""
    package = FoundPackage(kind="python", name="p", version="1", location=location, depends=(text,))
    expected = _by_packaging(text, requirements.environment(location, "amd64"))
    assert list(requirements.needed(package, "amd64")) == expected


@given(st.text("aB.-_1", min_size=1, max_size=12))
def test_names_are_normalised_as_packaging_does(name: str) -> None:
    """Names are compared as indexes compare them."""
    assert requirements.normalised(name) == canonicalize_name(name)
