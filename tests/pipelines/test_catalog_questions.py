"""`affected` and `check --all` on the command line, about images that are pulled from layouts."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from image_builder import Tar, put_image
from inventories import advisory, digest, facts, home, python
from tidewaiter.advisories.database import Database
from tidewaiter.advisories.rows import rows_of
from tidewaiter.catalog.catalog import Catalog
from tidewaiter.cli import app
from tidewaiter.core.errors import InputError
from tidewaiter.oci.layout import Layout
from tidewaiter.oci.manifest import RunConfig
from tidewaiter.pipelines import affected

SITE = "usr/lib/python3/dist-packages"


@pytest.fixture
def tidewaiter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """Runs a command in a home of its own; exit code, and what it printed: JSON, decoded, where that was asked for."""
    monkeypatch.setenv("TIDEWAITER_HOME", str(tmp_path / "home"))

    def run(*words: object) -> tuple[int, Any]:
        code = app.run([str(word) for word in words])
        printed = capsys.readouterr()
        return code, json.loads(printed.out) if "json" in words else printed.out + printed.err

    return run


@pytest.fixture
def images(tmp_path: Path, tidewaiter: Any) -> Path:
    """Two images of the store, `a/leaky:1.0.0` and `a/clean:1.0.0`, checked for staging; the tests' folder."""
    for name, version in (("leaky", "1.4.0"), ("clean", "2.0.0")):
        tar = Tar().file("etc/os-release", 'ID=debian\nVERSION_ID="12"\n')
        metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        tar.file(f"{SITE}/{name}-{version}.dist-info/METADATA", metadata)
        put_image(Layout(tmp_path / name), [tar.bytes()], name="1", run=RunConfig(user="1000"))
        assert tidewaiter("pull", f"oci:{tmp_path}/{name}:1", f"a/{name}:1.0.0")[0] == 0
        assert tidewaiter("check", f"a/{name}:1.0.0", "--environment", "research")[0] == 0
    return tmp_path


def _advise(folder: Path, tidewaiter: Any) -> None:
    entry = {
        "id": "PYSEC-2026-1",
        "aliases": ["CVE-2026-10001"],
        "modified": "2026-01-01T00:00:00Z",
        "severity": [{"type": "CVSS_V3", "score": "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H"}],
        "affected": [
            {
                "package": {"ecosystem": "PyPI", "name": "leaky"},
                "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "2.0"}]}],
            }
        ],
    }
    (folder / "advisory.json").write_text(json.dumps(entry))
    assert tidewaiter("advisories", "import", folder / "advisory.json")[0] == 0


def test_an_advisory_that_is_imported_later_is_answered_at_once(images: Path, tidewaiter: Any) -> None:
    """No image is scanned again; versions, layers, images, tags and the fix are named, by id and by alias."""
    _advise(images, tidewaiter)
    for name in ("CVE-2026-10001", "cve-2026-10001", "PYSEC-2026-1"):
        code, found = tidewaiter("affected", name, "--format", "json")
        assert code == 0
        (version,), (image,) = found["versions"], found["images"]
        assert (version["purl"], version["images"], len(version["layers"])) == ("pkg:pypi/leaky@1.4.0", 1, 1)
        (hit,) = version["findings"]
        assert (hit["advisory"], hit["severity"], hit["fixed_in"], hit["found_as"]) == (
            "PYSEC-2026-1",
            "critical",
            ["2.0"],
            "leaky",
        )
        assert (image["name"], image["tags"]) == ("a/leaky", [{"name": "1.0.0", "visibility": "pulled"}])
        assert (image["cleared"], image["purls"]) == (False, ["pkg:pypi/leaky@1.4.0"])
        assert found["thing"] == name
    code, text = tidewaiter("affected", "CVE-2026-10001")
    assert code == 0
    assert "CVE-2026-10001: package versions: 1; images: 1, cleared: 0" in text
    assert "a/leaky" in text


def test_a_package_is_answered_whether_an_advisory_touches_it_or_not(images: Path, tidewaiter: Any) -> None:
    """With and without a version; a package that is nowhere is an empty answer, not an error."""
    _advise(images, tidewaiter)
    for thing, versions in (
        ("pkg:pypi/leaky", 1),
        ("pkg:pypi/Leaky@1.4.0", 1),
        ("pkg:pypi/leaky@1.4", 0),
        ("pkg:pypi/clean", 1),
        ("pkg:pypi/nowhere", 0),
    ):
        code, found = tidewaiter("affected", thing, "--format", "json")
        assert (code, len(found["versions"]), len(found["images"])) == (0, versions, versions), thing


def test_an_unknown_advisory_is_not_an_advisory_without_images(images: Path, tidewaiter: Any) -> None:
    """One that is known and touches nothing: an empty answer. One that nobody imported: could not find out."""
    _advise(images, tidewaiter)
    code, found = tidewaiter("affected", "PYSEC-2021-66", "--format", "json")
    assert (code, found["versions"], found["images"]) == (0, [], [])
    code, answer = tidewaiter("affected", "CVE-2999-0001", "--format", "json")
    assert (code, answer["error"]["code"]) == (3, "advisory_unknown")
    for wrong in ("leaky", "pkg:", "CVE-2026-1; DROP", "../x", ""):
        code, answer = tidewaiter("affected", wrong, "--format", "json")
        assert (code, answer["error"]["code"]) == (2, "bad_input"), wrong


def test_images_that_nobody_inspected_are_counted(images: Path, tidewaiter: Any) -> None:
    """A pulled image that was never looked into may be affected too, and the answer says so."""
    tar = Tar().file("etc/os-release", "ID=debian\n")
    put_image(Layout(images / "new"), [tar.bytes()], name="1")
    assert tidewaiter("pull", f"oci:{images}/new:1", "a/new:1.0.0")[0] == 0
    code, found = tidewaiter("affected", "pkg:pypi/leaky", "--format", "json")
    assert (code, found["not_inspected"]) == (0, 1)


def _pack(folder: Path, manifest: str) -> Path:
    place = folder / "team"
    place.mkdir(exist_ok=True)
    (place / "pack.toml").write_text(f'name = "team"\n{manifest}')
    return place


def test_a_tighter_policy_says_which_tags_it_would_deny(images: Path, tidewaiter: Any) -> None:
    """Exit 1 and the rule; nothing is recorded; without an effect exit 0."""
    _advise(images, tidewaiter)
    rule = "advisories.no-fixable-high-critical"
    pack = _pack(images, f'[tighten.rules]\n"{rule}" = {{ research = "deny" }}\n')
    before = tidewaiter("affected", "pkg:pypi/leaky", "--format", "json")[1]["images"]
    code, found = tidewaiter("check", "--all", "--pack", pack, "--format", "json")
    assert code == 1
    told = {one["reference"]: (one["before"], one["after"], one["change"], one["rules"]) for one in found["outcomes"]}
    assert told == {
        "a/leaky:1.0.0": ("allow", "deny", "denied", [rule]),
        "a/clean:1.0.0": ("allow", "allow", "same", []),
    }
    assert found["present"] != found["proposed"]
    assert {one["environment"] for one in found["outcomes"]} == {"research"}
    assert tidewaiter("affected", "pkg:pypi/leaky", "--format", "json")[1]["images"] == before
    code, text = tidewaiter("check", "--all", "--pack", pack)
    assert code == 1
    assert "2 tags: 1 would be denied, 0 would be allowed, 1 stay as they are, 0 could not be decided" in text
    code, found = tidewaiter("check", "--all", "--pack", pack, "--environment", "staging", "--format", "json")
    assert code == 0
    assert {one["change"] for one in found["outcomes"]} == {"same"}


def test_a_policy_that_is_taken_back_says_which_tags_it_would_allow(
    images: Path, tidewaiter: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The settings' policy is the present one; what it denies and the proposed one allows is told with the rule."""
    _advise(images, tidewaiter)
    rule = "advisories.no-fixable-high-critical"
    present = _pack(images, f'[tighten.rules]\n"{rule}" = {{ research = "deny" }}\n')
    (images / "none").mkdir()
    (images / "none" / "pack.toml").write_text(
        'name = "none"\n[tighten.rules]\n"name.no-latest" = { research = "warn" }\n'
    )
    monkeypatch.setenv("TIDEWAITER_POLICY", str(present))
    code, found = tidewaiter("check", "--all", "--pack", images / "none", "--format", "json")
    assert code == 0
    told = {one["reference"]: (one["change"], one["rules"]) for one in found["outcomes"]}
    assert told == {"a/leaky:1.0.0": ("allowed", [rule]), "a/clean:1.0.0": ("same", [])}


def test_what_cannot_be_decided_is_said(images: Path, tidewaiter: Any) -> None:
    """A tag without environment, and one whose image is damaged: exit 3 and the reason, never allowed."""
    tar = Tar().file("etc/os-release", "ID=debian\n")
    made = put_image(Layout(images / "new"), [tar.bytes()], name="1")
    assert tidewaiter("pull", f"oci:{images}/new:1", "a/new:1.0.0")[0] == 0
    pack = _pack(images, '[tighten.rules]\n"name.no-latest" = { research = "warn" }\n')
    code, found = tidewaiter("check", "--all", "--pack", pack, "--format", "json")
    told = {one["reference"]: (one["change"], one["reason"]) for one in found["outcomes"]}
    assert code == 3
    assert told["a/new:1.0.0"][0] == "undetermined"
    assert "--environment" in told["a/new:1.0.0"][1]
    algorithm, _, text = made.digest.partition(":")
    (images / "home" / "store" / "blobs" / algorithm / text).unlink()
    code, found = tidewaiter("check", "--all", "--pack", pack, "--environment", "research", "--format", "json")
    told = {one["reference"]: (one["change"], one["reason"]) for one in found["outcomes"]}
    assert code == 3
    assert told["a/new:1.0.0"][0] == "undetermined"
    assert text[:12] in told["a/new:1.0.0"][1]


@pytest.mark.parametrize(
    "words",
    [
        ("--all",),
        ("--all", "--pack", "x", "a/b:1"),
        ("--all", "--pack", "x", "--clear"),
        ("a/b:1",),
        ("--environment", "research"),
    ],
)
def test_check_says_what_it_needs(tidewaiter: Any, words: tuple[str, ...]) -> None:
    """All tags need a policy to compare with, one image an environment: usage errors."""
    code, answer = tidewaiter("check", *words, "--format", "json")
    assert (code, answer["error"]["code"]) == (2, "usage")


def test_an_image_in_no_repository_is_not_hidden(tmp_path: Path) -> None:
    """It is listed without a name, and a finding that could not be decided is shown as such."""
    settings = home(tmp_path)
    with Catalog.open(settings) as catalog, Database(settings.home.advisories) as database:
        catalog.record_facts(facts("one", python("leaky", "not a version")), repository=None)
        database.put_single(rows_of(advisory("PYSEC-2024-1", "leaky", fixed="2.0", aliases=("CVE-2024-1",))))
        found = affected.answer(catalog, database, "CVE-2024-1")
    (image,), (version,) = found.images, found.versions
    assert (image.name, image.digest, image.tags) == ("", digest("one"), ())
    assert version.findings == ()
    assert [gap.advisories for gap in version.gaps] == [("PYSEC-2024-1",)]


@given(st.text(max_size=200))
def test_anything_may_be_asked(text: str) -> None:
    """Whatever is no advisory's name and no package URL is refused before anything is opened."""
    if affected.is_advisory(text) or text.startswith("pkg:"):
        return
    with pytest.raises(InputError):
        affected.answer(None, None, text)  # type: ignore[arg-type]  # refused before either is used
