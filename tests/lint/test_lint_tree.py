"""YAML with places, read as parsers in Go read it, within bounds."""

from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from tidewaiter.core import limits
from tidewaiter.core.errors import InputError
from tidewaiter.lint.finding import Span
from tidewaiter.lint.mending import added
from tidewaiter.lint.text import Text, edited
from tidewaiter.lint.tree import Map, Node, Scalar, Sequence, read


def only(content: str) -> Map:
    (document,) = read(Text("x.yaml", content)).documents
    assert isinstance(document, Map)
    return document


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("yes", True),
        ("On", True),
        ("n", False),
        ("0644", 420),
        ("0o17", 15),
        ("0x1F", 31),
        ("1_000", 1000),
        ("-12", -12),
        ("1.5", 1.5),
        ("1e3", 1000.0),
        ("12:30", "12:30"),
        ("~", None),
        ("", None),
        ("089", 89.0),
        ('"yes"', "yes"),
        ("'0644'", "0644"),
        ("1.2.3", "1.2.3"),
        ("nope", "nope"),
    ],
)
def test_values_are_what_kubernetes_reads(written: str, value: object) -> None:
    """YAML 1.1's truth values and octal numbers count; what stands in quotes is a string."""
    found = only(f"a: {written}\n").scalar("a")
    expected = None if found is None else found.value
    assert (expected, type(expected)) == (value, type(value))


def test_places_count_characters_and_newlines_only() -> None:
    """Letters outside ASCII are one character, a carriage return or a line separator ends no line."""
    document = only('ä: "é\u2028ü"\r\nb:\r\n  c: 😀x\r\n')
    assert document.entries["b"][0].span == Span(2, 1, 2, 2)
    assert document.map("b").span_of("c") == Span(3, 3, 3, 8)


def test_aliases_and_merged_maps_are_what_they_stand_for() -> None:
    """`<<` adds what is not there; an alias is the same value in the same place."""
    document = only("a: &a {x: 1, y: 2}\nb:\n  <<: *a\n  y: 3\nc: *a\n")
    assert (document.value("b", "x"), document.value("b", "y"), document.value("c", "y")) == (1, 3, 2)
    assert document.map("c").span_of("x").line == 1


def test_a_key_written_twice_is_kept_apart() -> None:
    """The first one counts here, the second is remembered with its place."""
    document = only("a: 1\nb: 2\na: 3\n")
    assert document.value("a") == 1
    assert [one.span.line for one in document.repeated] == [3]


@pytest.mark.parametrize(
    ("content", "line"),
    [
        ("a: &a [1]\nb: &b [" + ", ".join(["*a"] * 9) + "]\n", None),
        ("a: [b\n", 2),
        ("a: 1\n\tb: 2\n", 2),
        ("a: &a\n  - *a\n", 2),
        ("a: *b\n", 1),
        ("? [a]\n: 1\n", 1),
    ],
)
def test_what_is_malformed_says_where(content: str, line: int | None) -> None:
    """The error has the line; what is well-formed has none."""
    if line is None:
        assert read(Text("x.yaml", content)).documents
        return
    with pytest.raises(InputError, match=rf"x\.yaml:{line}: "):
        read(Text("x.yaml", content))


def test_aliases_of_aliases_are_counted_as_what_they_stand_for() -> None:
    """Nine levels of nine aliases are hundreds of millions of values: refused at once."""
    lines = ["a0: &a0 x"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 10)]
    with pytest.raises(InputError, match=str(limits.YAML_NODES)):
        read(Text("x.yaml", "\n".join(lines)))


def test_depth_and_documents_are_bounded_from_both_sides(monkeypatch: pytest.MonkeyPatch) -> None:
    """As deep and as many as the bound is read, one more is refused."""
    monkeypatch.setattr(limits, "YAML_NODES", 2000)
    monkeypatch.setattr(limits, "YAML_DOCUMENTS", 50)
    for opening, closing in (("[", "]"), ("{a: ", "}")):
        depth = limits.YAML_DEPTH
        assert read(Text("x.yaml", opening * depth + "1" + closing * depth)).documents
        with pytest.raises(InputError, match="deep"):
            read(Text("x.yaml", opening * (depth + 1) + "1" + closing * (depth + 1)))
    assert len(read(Text("x.yaml", "--- 1\n" * limits.YAML_DOCUMENTS)).documents) == limits.YAML_DOCUMENTS
    with pytest.raises(InputError, match="documents"):
        read(Text("x.yaml", "--- 1\n" * (limits.YAML_DOCUMENTS + 1)))
    assert read(Text("x.yaml", "- 1\n" * (limits.YAML_NODES - 1))).documents
    with pytest.raises(InputError, match="values"):
        read(Text("x.yaml", "- 1\n" * limits.YAML_NODES))


def test_templates_are_nothing() -> None:
    """What Helm or Jinja fills in is no YAML yet, and no mistake."""
    assert read(Text("x.yaml", "a: {{ .Values.a }}\n{{- if .b }}\nc: 1\n{{ end }}\n")).documents == ()
    assert read(Text("x.yaml", "a: {{ .Values.a }}\n")).documents == ()


def test_json_is_yaml() -> None:
    """Also with its places."""
    assert only('{"a": {"b": [1, "x"]}}').map("a").span_of("b").column == 8


def plain(node: Node | None) -> Any:
    if isinstance(node, Map):
        return {key: plain(value) for key, (_, value) in node.entries.items()}
    if isinstance(node, Sequence):
        return [plain(one) for one in node.items]
    return node.value if isinstance(node, Scalar) else None


_VALUES = st.recursive(
    st.text(alphabet="abc \n:#-'\"é", max_size=8) | st.integers(0, 99) | st.booleans(),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(alphabet="abcd", min_size=1, max_size=3), inner)
    ),
    max_leaves=12,
)
_MAPS = st.dictionaries(st.sampled_from(["k1", "k2", "k3"]), _VALUES, min_size=1)


@given(_MAPS, st.booleans())
def test_what_pyyaml_writes_is_read_back(value: dict[str, Any], flow: bool) -> None:
    """Every scalar, list and map of a document is there, in block and in flow style."""
    text = yaml.safe_dump(value, default_flow_style=flow, allow_unicode=True)
    assert plain(only(text)) == value


@given(_MAPS, st.booleans())
def test_an_added_line_changes_nothing_else(value: dict[str, Any], flow: bool) -> None:
    """Where an edit is offered, the document is the same with the new key in it."""
    content = yaml.safe_dump(value, default_flow_style=flow, allow_unicode=True)
    text = Text("x.yaml", content)
    (document,) = read(text).documents
    assert isinstance(document, Map)
    new, _ = edited(text, list(added(document, "new: true")))
    assert plain(only(new)) == (value if new == content else value | {"new": True})
    assert new != content
