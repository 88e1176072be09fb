import gzip
import io
import json
import subprocess
import tarfile
from pathlib import Path

import msgspec
import pytest
from policy_documents import document
from test_policy_layers import TEAM_REGO, TEAM_RULE, TEAM_TEST, write

from servers import Tool
from tidewaiter.core import limits
from tidewaiter.core.errors import InputError, LimitError, TidewaiterError
from tidewaiter.policy import layers
from tidewaiter.policy import pack as packs
from tidewaiter.policy.engine import EmbeddedEngine


def tarred(*members: tuple[str, bytes], links: tuple[tuple[str, str], ...] = ()) -> bytes:
    """A tar.gz as Python's tarfile writes it."""
    blob = io.BytesIO()
    with tarfile.open(fileobj=blob, mode="w:gz") as archive:
        for name, data in members:
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
        for name, target in links:
            member = tarfile.TarInfo(name)
            member.type, member.linkname = tarfile.SYMTYPE, target
            archive.addfile(member)
    return blob.getvalue()


def refused(tmp_path: Path, data: bytes, error: type[TidewaiterError] = InputError) -> str:
    """Why a bundle of these bytes is not read."""
    (tmp_path / "b.tar.gz").write_bytes(data)
    with pytest.raises(error) as raised:
        packs.load_layer(tmp_path / "b.tar.gz")
    return raised.value.message


def test_bundle_of_a_layer_is_the_layer(tmp_path: Path) -> None:
    """Folder to bundle to pack: the same rules, tests, data and revision; twice the same bytes."""
    company = write(tmp_path, TEAM_RULE, data='{"company": {"x": [1]}}', team=TEAM_REGO, team_test=TEAM_TEST)
    data, revision = layers.write_layer(company)
    (tmp_path / "company.tar.gz").write_bytes(data)
    assert packs.load_layer(tmp_path / "company.tar.gz") == packs.load_layer(company)
    assert packs.load_layer(company).pack.revision == revision
    assert layers.write_layer(company) == (data, revision)
    assert layers.effective([tmp_path / "company.tar.gz"]) == layers.effective([company])


def test_manifest_names_revision_and_roots(tmp_path: Path) -> None:
    """`.manifest` says what OPA's documentation asks for."""
    company = write(tmp_path, TEAM_RULE, team=TEAM_REGO)
    data, revision = layers.write_layer(company)
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        file = archive.extractfile(".manifest")
        assert file is not None
        manifest = json.loads(file.read())
    assert (manifest["revision"], manifest["roots"], manifest["rego_version"]) == (revision, ["company"], 1)


@pytest.mark.interop
def test_opa_loads_the_whole_policy_and_answers_as_we_do(tmp_path: Path, tool: Tool) -> None:
    """`opa eval --bundle` of all layers in one gives the results that the embedded engine gives."""
    company = write(tmp_path, TEAM_RULE + "[tighten.parameters]\nadvisory_age_days = 0\n", team=TEAM_REGO)
    pack = layers.effective([company])
    (tmp_path / "whole.tar.gz").write_bytes(layers.write_whole(pack))
    (tmp_path / "input.json").write_bytes(msgspec.json.encode(document()))
    with EmbeddedEngine(pack) as engine:
        answers = engine.evaluate(document()).packages
    for package, answer in answers.items():
        command = [tool("opa"), "eval", "--bundle", "whole.tar.gz", "--input", "input.json", f"data.{package}.results"]
        said = subprocess.run(command, check=True, capture_output=True, cwd=tmp_path)
        value = json.loads(said.stdout)["result"][0]["expressions"][0]["value"]
        ours = msgspec.json.decode(answer.value)
        assert sorted(value, key=lambda one: one["id"]) == sorted(ours, key=lambda one: one["id"])


@pytest.mark.interop
def test_bundle_that_opa_built_is_read(tmp_path: Path, tool: Tool) -> None:
    """What `opa build` writes becomes a layer when the pack's manifest is put beside it."""
    company = write(tmp_path, "", team="package company.team\n\nresults := set()\n")
    command = [tool("opa"), "build", "--bundle", "company", "--output", "built.tar.gz"]
    subprocess.run(command, check=True, capture_output=True, cwd=tmp_path)
    with tarfile.open(tmp_path / "built.tar.gz") as archive:
        members = [(one.name, archive.extractfile(one)) for one in archive.getmembers() if one.isfile()]
        files = [(name, file.read()) for name, file in members if file is not None]
    (tmp_path / "with.tar.gz").write_bytes(tarred(*files, ("/pack.toml", (company / "pack.toml").read_bytes())))
    (module,) = packs.load_layer(tmp_path / "with.tar.gz").pack.modules
    assert module.path.endswith("team.rego")


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b"", InputError),
        (b"not a tar", InputError),
        (gzip.compress(b"x" * 5000), InputError),
        (tarred(("pack.toml", b"name = 'x'"))[:-20], InputError),
        (tarred(("pack.toml", b"name = 'x'"), ("../outside.rego", b"package x")), InputError),
        (tarred(("pack.toml", b"name = 'x'"), links=(("x.rego", "/etc/passwd"),)), InputError),
        (tarred(("pack.toml", b"name = 'x'"), ("a.rego", b"package a"), ("/a.rego", b"package b")), InputError),
        (tarred(("pack.toml", b"name = 'x'"), ("policy.wasm", b"\0asm")), InputError),
        (tarred(("pack.toml", b"name = 'x'"), (".signatures.json", b"{}")), InputError),
        (tarred(("a.rego", b"package a")), InputError),
        (tarred(("pack.toml", b"name = 'x'"), ("a.rego", b"#" * (limits.POLICY_MODULE_BYTES + 1))), LimitError),
    ],
    ids=[
        "empty",
        "text",
        "gzip of text",
        "cut off",
        "path outside",
        "link",
        "file twice",
        "wasm",
        "signature",
        "no manifest",
        "large file",
    ],
)
def test_bad_bundles_are_refused(tmp_path: Path, data: bytes, error: type[TidewaiterError]) -> None:
    """What is broken, hostile, or holds what a pack does not, is an error and never half a pack."""
    assert refused(tmp_path, data, error)


def test_bomb_is_stopped(tmp_path: Path) -> None:
    """Some kilobytes that unpack to far more than a policy has are given up before they are in memory."""
    size = limits.POLICY_BUNDLE_BYTES + limits.MIB
    member = tarfile.TarInfo("a.md")
    member.size = size
    data = gzip.compress(member.tobuf() + bytes(size), compresslevel=6)
    assert len(data) < size // 500
    assert refused(tmp_path, data, LimitError)


def test_number_of_files_is_bounded(tmp_path: Path) -> None:
    """As many files as the limit pass; one more is refused."""
    files = [(f"{number}.rego", b"package x") for number in range(limits.POLICY_MODULES - 1)]
    (tmp_path / "full.tar.gz").write_bytes(tarred(("pack.toml", b"name = 'x'"), *files))
    packs.load_layer(tmp_path / "full.tar.gz")
    assert "files" in refused(tmp_path, tarred(("pack.toml", b"name = 'x'"), *files, ("y.rego", b"")), LimitError)
