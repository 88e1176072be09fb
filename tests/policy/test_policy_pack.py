from pathlib import Path

import pytest
from policy_documents import PASSING, make_pack

from tidewaiter.core import limits
from tidewaiter.core.errors import InputError, LimitError
from tidewaiter.policy import pack as packs


def test_default_pack_has_a_rule_file_and_tests() -> None:
    """The shipped pack loads from package data, with its tests."""
    pack = packs.default_pack()
    assert len(pack.rules) >= 14
    assert {module.path for module in pack.tests} >= {"image_test.rego", "advisories_test.rego"}
    # Every new base makes the images on the last one outdated, and an untested combination often works: production is
    # told. Of the analysis of the sources nobody knows but who built the image.
    lenient = [rule.id for rule in pack.rules if rule.levels.production != "deny"]
    assert lenient == ["base.not-outdated", "framework.tested", "sources.no-serious-findings", "sources.analysed"]


def test_revision_names_what_decides(tmp_path: Path) -> None:
    """Equal packs have equal revisions; a changed rule, manifest or data changes it, a changed test does not."""
    plain = make_pack(tmp_path, PASSING, "a.b")
    assert make_pack(tmp_path, PASSING, "a.b").revision == plain.revision
    assert make_pack(tmp_path, {"p.rego": PASSING, "p_test.rego": "package p_test"}, "a.b").revision == plain.revision
    others = [
        make_pack(tmp_path, PASSING + "# x\n", "a.b"),
        make_pack(tmp_path, PASSING, "a.b", levels="warn"),
        make_pack(tmp_path, PASSING, "a.b", data='{"x": 1}'),
        make_pack(tmp_path, {"q.rego": PASSING}, "a.b"),
    ]
    assert len({plain.revision, *(other.revision for other in others)}) == 5


@pytest.mark.parametrize("brackets", ["[]", "()", "{}"])
def test_nesting_is_bounded_from_both_sides(brackets: str) -> None:
    """The deepest allowed nesting passes; one more is refused with file and line."""
    opening, closing = brackets[0], brackets[1]
    deep = limits.POLICY_NESTING
    packs.check_nesting("a.rego", "\n" + opening * deep + closing * deep)
    with pytest.raises(LimitError, match=r"^a\.rego:2: "):
        packs.check_nesting("a.rego", "\n" + opening * (deep + 1) + closing * (deep + 1))


@pytest.mark.parametrize(
    "hidden",
    ['x := "[[[[[[[[[[[[[[[[["', "x := `[[[[[[[\n[[[[[[[[[`", "# [[[[[[[[[[[[[[[[[[[[", r'x := "\"[[[[[[[[[[[[[[[[["'],
)
def test_brackets_in_strings_and_comments_do_not_count(hidden: str) -> None:
    """Only real nesting is counted, and what follows a string or comment is still seen."""
    packs.check_nesting("a.rego", hidden)
    with pytest.raises(LimitError):
        packs.check_nesting("a.rego", hidden + "\n" + "[" * 13)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("pack.toml", "name = 1", "pack.toml"),
        ("pack.toml", "name = 'x'\nrules = []", "unknown field"),
        ("pack.toml", "name = ", "pack.toml"),
        ("data.json", "[]", "not a JSON object"),
        ("data.json", "{", "not JSON"),
        ("run.sh", "echo", "run.sh"),
        ("sub/data.json", "{}", "sub/data.json"),
    ],
)
def test_malformed_files_are_named(tmp_path: Path, name: str, text: str, message: str) -> None:
    """A file that does not belong or does not parse is named."""
    (tmp_path / "pack.toml").write_text('name = "x"')
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=message):
        packs.load(tmp_path)


def test_folder_without_manifest_is_no_pack(tmp_path: Path) -> None:
    """A folder without pack.toml, and a missing folder, are errors that say so."""
    with pytest.raises(InputError, match=r"no pack\.toml"):
        packs.load(tmp_path)
    with pytest.raises(InputError, match="is neither a folder nor a file"):
        packs.load(tmp_path / "missing")


def test_rule_twice_in_the_manifest_is_refused(tmp_path: Path) -> None:
    """A manifest that promises one rule twice is malformed."""
    with pytest.raises(InputError, match=r"a\.b stands in it twice"):
        make_pack(tmp_path, PASSING, "a.b", "a.b")


def test_symbolic_links_are_refused(tmp_path: Path) -> None:
    """A pack cannot reach outside of its folder."""
    (tmp_path / "pack.toml").write_text('name = "x"')
    (tmp_path / "a.rego").symlink_to("/etc/passwd")
    with pytest.raises(InputError, match="symbolic links"):
        packs.load(tmp_path)


def test_file_size_is_bounded_from_both_sides(tmp_path: Path) -> None:
    """A file of exactly the limit passes; one byte more is refused."""
    (tmp_path / "pack.toml").write_text('name = "x"')
    (tmp_path / "a.rego").write_text("#" * limits.POLICY_MODULE_BYTES)
    packs.load(tmp_path)
    (tmp_path / "a.rego").write_text("#" * (limits.POLICY_MODULE_BYTES + 1))
    with pytest.raises(LimitError, match=r"a\.rego"):
        packs.load(tmp_path)


def test_number_of_files_is_bounded(tmp_path: Path) -> None:
    """As many files as the limit pass; one more is refused."""
    (tmp_path / "pack.toml").write_text('name = "x"')
    for number in range(limits.POLICY_MODULES - 1):
        (tmp_path / f"{number}.rego").write_text("package x")
    packs.load(tmp_path)
    (tmp_path / "last.rego").write_text("package x")
    with pytest.raises(LimitError, match="files"):
        packs.load(tmp_path)


def test_rego_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    """Bytes that are no UTF-8 are named by file."""
    (tmp_path / "pack.toml").write_text('name = "x"')
    (tmp_path / "a.rego").write_bytes(b"package x\xff")
    with pytest.raises(InputError, match=r"a\.rego:1: not UTF-8"):
        packs.load(tmp_path)


@pytest.mark.parametrize("character", ["\0", "\x0c", "\x1b", "\u202e", "\u2066", "\ufeff"])
def test_characters_that_hide_what_is_written_are_refused(tmp_path: Path, character: str) -> None:
    """An engine that stops at a NUL would lose the rules behind it; what turns text around deceives who reviews it."""
    with pytest.raises(InputError, match=rf"p\.rego:\d+: it holds the character U\+{ord(character):04X}"):
        make_pack(tmp_path, f"{PASSING}\n# {character}\n", "a.b")


def test_usual_blanks_and_letters_are_accepted(tmp_path: Path) -> None:
    """Tabs, both kinds of line ends, and letters of any language hide nothing."""
    assert make_pack(tmp_path, f"{PASSING}\r\n\t# \u00fc \u738b \u200d\r\n", "a.b").rules
