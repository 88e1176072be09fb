"""Options of `tidewaiter build`, as a user gives them."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from servers import Tool
from tidewaiter.oci import manifest as documents
from tidewaiter.oci.layer import Reader
from tidewaiter.oci.layout import Layout
from workplace import commit, run


def _manifest(home: Path, digest: str) -> Any:
    return json.loads((home / "store/blobs/sha256" / digest.removeprefix("sha256:")).read_bytes())


def _compiled(home: Path, built: Any) -> list[bool]:
    """Whether each layer holds bytecode."""
    found = []
    for layer in built["layers"]:
        with Layout(home / "store").open(layer["digest"]) as blob:
            found.append(any(entry.path.endswith(".pyc") for entry, _ in Reader(blob)))
    return found


@pytest.mark.thorough
def test_a_zstd_image_is_read_by_every_command(tmp_path: Path, home: Path, project: Path, tool: Tool) -> None:
    """Own layers are zstd with their media type, the base's stay; inspect, exec and skopeo read the image."""
    done = run(home, "build", project, "--compression", "zstd", "--format", "json")
    assert done.code == 0, done.err
    types = [layer["mediaType"] for layer in _manifest(home, done.json["digest"])["layers"]]
    kinds = [layer["kind"] for layer in done.json["layers"]]
    assert types == [documents.LAYER_GZIP if kind == "base" else documents.LAYER_ZSTD for kind in kinds]
    image = f"store:{done.json['reference']}"
    inspected = run(home, "inspect", image)
    assert inspected.code == 0, inspected.err
    assert "six" in inspected.out
    tool("bwrap")
    assert run(home, "exec", image).out.startswith("six 1.17.0")
    copy = [tool("skopeo"), "copy", "--insecure-policy", f"oci:{home}/store:{done.json['reference']}"]
    subprocess.run([*copy, f"oci:{tmp_path}/copy:x"], check=True, capture_output=True)
    again = run(home, "build", project, "--format", "json")
    assert [layer["diff_id"] for layer in again.json["layers"]] == [layer["diff_id"] for layer in done.json["layers"]]
    assert again.json["digest"] != done.json["digest"]


@pytest.mark.thorough
def test_no_bytecode_is_recorded_in_the_lock(home: Path, project: Path) -> None:
    """What is asked for stands in `pylock.toml` and holds, through `lock` too, until something else is asked for."""
    lock = project / "pylock.toml"
    before = lock.read_text()
    first = run(home, "build", project, "--no-bytecode", "--format", "json")
    assert first.code == 0, first.err
    assert "pylock.toml now says bytecode = false; commit it" in first.err
    assert lock.read_text() == before + "bytecode = false\n"
    assert not any(_compiled(home, first.json))
    commit(project)
    second = run(home, "build", project, "--format", "json")
    assert "now says" not in second.err
    assert [one["digest"] for one in second.json["layers"]] == [one["digest"] for one in first.json["layers"]]
    assert second.json["lock_digest"] == first.json["lock_digest"]
    lock.write_text(before)
    with_bytecode = run(home, "build", project, "--format", "json")
    assert all(_compiled(home, with_bytecode.json)[-3:])
    assert with_bytecode.json["lock_digest"] != first.json["lock_digest"]
    assert run(home, "lock", project, "--no-bytecode").code == 0
    assert run(home, "lock", project).code == 0
    assert lock.read_text() == before + "bytecode = false\n"
    assert run(home, "build", project, "--bytecode").code == 0
    assert lock.read_text() == before


@pytest.mark.parametrize(
    "options", [("--compression", "xz"), ("--platform", "windows/amd64"), ("--platform", "linux/riscv64")]
)
@pytest.mark.thorough
def test_unknown_values_are_wrong_usage(home: Path, project: Path, options: tuple[str, str]) -> None:
    """A compression or platform that is not known is named together with those that are."""
    done = run(home, "build", project, *options)
    assert done.code == 2
    assert options[1] in done.err


@pytest.mark.interop
def test_an_image_for_another_processor_is_built_without_running_anything(home: Path, project: Path) -> None:
    """Packages and wheels are those of the platform; bytecode is refused by name, as its interpreter cannot run."""
    refused = run(home, "build", project, "--platform", "linux/arm64")
    if "network" in refused.err or "out of reach" in refused.err:
        pytest.skip(f"the package archives are out of reach: {refused.err}")
    assert refused.code == 3
    assert "(linux/arm64) does not run on this machine" in refused.err
    assert "--no-bytecode" in refused.err
    commit(project)
    done = run(home, "build", project, "--platform", "linux/arm64", "--no-bytecode", "--format", "json")
    assert done.code == 0, done.err
    assert not any(_compiled(home, done.json))
    assert done.json["reference"].endswith("-arm64-dirty"), "the option was written into the lock"
    config = _manifest(home, done.json["digest"])["config"]["digest"]
    assert _manifest(home, config)["architecture"] == "arm64"
    assert 'platform = "aarch64-manylinux_2_36"' in (project / "pylock.arm64.toml").read_text()
