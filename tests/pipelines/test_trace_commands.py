"""`trace`, `affected`, `verdicts`, `workload`, `model` and `owner` on the command line, about a pulled image."""

import json
from pathlib import Path
from typing import Any

import pytest

from image_builder import Tar, put_image
from tidewaiter.cli import app
from tidewaiter.core import clock
from tidewaiter.oci.layout import Layout
from tidewaiter.oci.manifest import RunConfig

SITE = "usr/lib/python3/dist-packages"


@pytest.fixture
def tidewaiter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """Runs a command in a home with the image `a/leaky:1.0.0`, decided for research; exit code and what it printed."""
    monkeypatch.setenv("TIDEWAITER_HOME", str(tmp_path / "home"))

    def run(*words: object) -> tuple[int, Any]:
        code = app.run([str(word) for word in words])
        printed = capsys.readouterr()
        return code, json.loads(printed.out) if "json" in words else printed.out + printed.err

    tar = Tar().file("etc/os-release", 'ID=debian\nVERSION_ID="12"\n')
    tar.file(f"{SITE}/leaky-1.4.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: leaky\nVersion: 1.4.0\n")
    put_image(Layout(tmp_path / "layout"), [tar.bytes()], name="1", run=RunConfig(user="1000"))
    assert run("pull", f"oci:{tmp_path}/layout:1", "a/leaky:1.0.0")[0] == 0
    assert run("check", "a/leaky:1.0.0", "--environment", "research")[0] == 0
    (tmp_path / "advisory.json").write_text(
        json.dumps(
            {
                "id": "PYSEC-2026-1",
                "aliases": ["CVE-2026-10001"],
                "modified": "2026-01-01T00:00:00Z",
                "affected": [
                    {
                        "package": {"ecosystem": "PyPI", "name": "leaky"},
                        "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "2.0"}]}],
                    }
                ],
            }
        )
    )
    assert run("advisories", "import", tmp_path / "advisory.json")[0] == 0
    return run


def test_from_a_workload_to_the_advisory_and_back(tidewaiter: Any) -> None:
    """What is recorded by command is in the trace, in the answer about the advisory, and in the audit log."""
    assert tidewaiter("workload", "record", "eu1/vision/web", "--image", "a/leaky:1.0.0", "--owner", "web")[0] == 0
    assert tidewaiter("model", "record", "mnist:7", "--image", "a/leaky:1.0.0", "--stage", "production")[0] == 0
    assert tidewaiter("owner", "record", "repository", "a", "vision")[0] == 0
    (work,) = tidewaiter("workload", "list", "--format", "json")[1]["workloads"]
    (model,) = tidewaiter("model", "list", "--format", "json")[1]["models"]
    assert (work["owner"], model["stage"], work["digest"]) == ("web", "production", model["digest"])
    owned = tidewaiter("owner", "list", "--format", "json")[1]["owners"]
    assert {(one["kind"], one["subject"], one["owner"]) for one in owned} == {
        ("repository", "a", "vision"),
        ("workload", "eu1/vision/web", "web"),
    }
    code, found = tidewaiter("affected", "CVE-2026-10001", "--running", "--owner", "vision", "--format", "json")
    assert code == 0
    assert (found["images"][0]["owner"], found["images"][0]["workloads"]) == ("vision", 1)
    assert [one["name"] for one in found["workloads"]] == ["web"]
    assert [(one["name"], one["to"], one["images"]) for one in found["fixes"]] == [("leaky", "2.0", 1)]
    code, text = tidewaiter("affected", "CVE-2026-10001")
    for words in ("running: 1; workloads: 1; model versions: 1", "fix: take leaky 2.0", "eu1/vision/web", "mnist:7"):
        assert words in text
    code, found = tidewaiter("trace", "leaky@1.4.0", "--format", "json")
    assert code == 0
    assert {"package", "layer", "image", "tag", "workload", "model"} == {one["kind"] for one in found["nodes"]}
    ids = {one["id"] for one in found["nodes"]}
    assert {edge[end] for edge in found["edges"] for end in ("source", "target")} <= ids
    entries = tidewaiter("audit", "list", "--format", "json")[1]["entries"]
    assert {"workload.record", "model.record", "owner.set"} <= {one["action"] for one in entries}


def test_a_trace_is_a_tree_for_people_and_a_graph_for_graphviz(tidewaiter: Any) -> None:
    """Two trees that say what names what; DOT begins and ends as one; a thing that is not there is exit code 2."""
    code, text = tidewaiter("trace", "a/leaky:1.0.0")
    assert code == 0
    assert text.index("comes from:") < text.index("has layer sha256:") < text.index("reaches:")
    assert "[means] tag a/leaky:1.0.0 visibility=pulled" in text
    code, text = tidewaiter("trace", "a/leaky:1.0.0", "--format", "dot", "--packages")
    assert (code, text.startswith("digraph trace {"), text.rstrip().endswith("}")) == (0, True, True)
    assert "pkg:pypi/leaky@1.4.0" in text
    assert tidewaiter("trace", "a/leaky:1.0.0", "--depth", "1", "--rows", "1", "--format", "json")[0] == 0
    assert tidewaiter("trace", "nothing:1", "--format", "json")[1]["error"]["code"] == "not_found"


def test_before_anything_was_recorded_nothing_is_claimed(tidewaiter: Any) -> None:
    """A day before the catalog began: no verdict, no workload, and each says that it is not known."""
    tidewaiter("workload", "record", "eu1/vision/web", "--image", "a/leaky:1.0.0")
    digest = tidewaiter("workload", "list", "--format", "json")[1]["workloads"][0]["digest"]
    code, found = tidewaiter("verdicts", digest, "--as-of", "2020-01-01", "--format", "json")
    assert (code, found["verdicts"]) == (0, [])
    assert any(text.startswith("verdicts: recorded since") for text in found["unknown"])
    (stands,) = tidewaiter("verdicts", "a/leaky:1.0.0", "--format", "json")[1]["verdicts"]
    assert (stands["environment"], stands["valid"]) == ("research", True)
    assert "research" in tidewaiter("verdicts", digest)[1]
    for command in ("workload", "model", "owner"):
        code, text = tidewaiter(command, "list", "--as-of", "2020-01-01")
        assert (code, "not known: " in text) == (0, True)
    code, found = tidewaiter("affected", "CVE-2026-10001", "--as-of", "2020-01-01", "--format", "json")
    assert (code, found["images"], bool(found["unknown"])) == (0, [], True)
    code, found = tidewaiter("affected", "pkg:pypi/leaky", "--as-of", "2999-01-01", "--format", "json")
    assert (code, found["error"]["code"]) == (2, "bad_input")


def test_what_is_gone_is_listed_only_when_asked_for(tidewaiter: Any) -> None:
    """`--gone` ends it, `--all` shows it, with the moment; what was never there cannot be gone."""
    tidewaiter("workload", "record", "eu1/vision/web", "--image", "a/leaky:1.0.0", "--seen", "2026-01-01T00:00:00Z")
    assert tidewaiter("workload", "record", "eu1/vision/web", "--gone")[0] == 0
    assert tidewaiter("workload", "list", "--format", "json")[1]["workloads"] == []
    (one,) = tidewaiter("workload", "list", "--all", "--format", "json")[1]["workloads"]
    assert one["gone_at"] is not None
    (one,) = tidewaiter("workload", "list", "--as-of", "2026-02-01", "--format", "json")[1]["workloads"]
    assert one["first_seen"] == "2026-01-01T00:00:00Z"
    assert tidewaiter("model", "record", "mnist:7", "--gone", "--format", "json")[1]["error"]["code"] == "not_found"
    for wrong in ("web", "a/b", "a/b/c/d"):
        assert tidewaiter("workload", "record", wrong, "--image", "a/leaky:1.0.0")[0] == 2


def test_a_list_of_a_day_says_what_each_tag_meant(tidewaiter: Any) -> None:
    """Today it is what is there, before the catalog began nothing, which is said; filters about images are refused."""
    code, found = tidewaiter("catalog", "list", "--as-of", "2020-01-01", "--format", "json")
    assert (code, found["items"], len(found["unknown"])) == (0, [], 4)
    now = clock.rfc3339(clock.now())
    (one,) = tidewaiter("catalog", "list", "--as-of", now, "--repository", "a", "--format", "json")[1]["items"]
    assert (one["name"], one["tag"], one["visibility"]) == ("a/leaky", "1.0.0", "pulled")
    assert [said["environment"] for said in one["verdicts"]] == ["research"]
    assert sum(one["findings"].values()) == 1
    assert "a/leaky" in tidewaiter("catalog", "list", "--as-of", now)[1]
    assert tidewaiter("catalog", "list", "--as-of", now, "--unbuilt")[0] == 2
    assert tidewaiter("catalog", "list", "--as-of", now, "--cursor", "x")[0] == 2
