"""Images with NVIDIA's wheels, and that other tools read layers which take over a wheel's own deflate data."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from servers import Tool
from tidewaiter.assembly.python_layers import OWN_LAYER_BYTES
from workplace import commit, run, small_project

_SITE = "/usr/local/lib/python3.11/dist-packages/nvidia"
_PROGRAM = """\
import ctypes

version = ctypes.c_int()
ctypes.CDLL("libcupti.so.12")
print(ctypes.CDLL("libcudart.so.12").cudaRuntimeGetVersion(ctypes.byref(version)), version.value)
"""


@pytest.fixture
def built(tmp_path: Path, home: Path) -> Any:
    """A build with two small ones of the wheels that `tensorflow[and-cuda]` asks for."""
    project = small_project(tmp_path / "project", home)
    pinned = "nvidia-cuda-runtime-cu12==12.2.140\nnvidia-cuda-cupti-cu12==12.2.142\nsix==1.17.0\n"
    (project / "requirements.in").write_text(pinned)
    (project / "main.py").write_text(_PROGRAM)
    locked = run(home, "lock", project, "--format", "json")
    if locked.code == 3:
        pytest.skip(f"the package index is out of reach: {locked.err}")
    assert locked.code == 0, locked.err
    commit(project)
    done = run(home, "build", project, "--format", "json")
    assert done.code == 0, done.err
    return done.json


def _config(home: Path, reference: str, tool: Tool) -> Any:
    command = [tool("skopeo"), "inspect", "--config", f"oci:{home / 'store'}:{reference}"]
    return json.loads(subprocess.run(command, capture_output=True, check=True).stdout)["config"]


@pytest.mark.interop
def test_nvidias_libraries_are_found_when_the_image_runs(home: Path, built: Any, tool: Tool) -> None:
    """The image's own Python loads them by name; the folders stand in the config, in a fixed order."""
    tool("bwrap")
    assert built["layers"][-3]["contents"] == ["nvidia-cuda-cupti-cu12 12.2.142"]
    assert built["layers"][-3]["size"] >= OWN_LAYER_BYTES
    expected = f"LD_LIBRARY_PATH={_SITE}/cuda_cupti/lib:{_SITE}/cuda_runtime/lib"
    assert expected in _config(home, built["reference"], tool)["Env"]
    ran = run(home, "exec", f"store:{built['reference']}")
    assert (ran.code, ran.out) == (0, "0 12020\n"), ran.err


@pytest.mark.interop
def test_images_without_such_wheels_search_nothing(tmp_path: Path, home: Path, tool: Tool) -> None:
    """An image for CPUs has neither the libraries nor the variable."""
    done = run(home, "build", small_project(tmp_path / "project", home), "--format", "json")
    assert done.code == 0, done.err
    assert not any("LD_LIBRARY_PATH" in one for one in _config(home, done.json["reference"], tool)["Env"])


@pytest.mark.interop
def test_other_tools_unpack_layers_of_several_gzip_members(
    tmp_path: Path, home: Path, built: Any, tool: Tool, docker_registry: str
) -> None:
    """umoci, buildah and crane read the same bytes out of the layers that hold deflate data of wheels."""
    image = f"{home / 'store'}:{built['reference']}"
    library = f"{_SITE[1:]}/cuda_cupti/lib/libcupti.so.12"
    bundle = tmp_path / "bundle"
    subprocess.run([tool("umoci"), "unpack", "--rootless", "--image", image, bundle], check=True, capture_output=True)
    content = (bundle / "rootfs" / library).read_bytes()
    assert len(content) == 7_530_512

    remote = f"{docker_registry}/gpu:1"
    copy = [
        tool("skopeo"),
        "copy",
        "--dest-tls-verify=false",
        "--insecure-policy",
        f"oci:{image}",
        f"docker://{remote}",
    ]
    subprocess.run(copy, check=True, capture_output=True)
    subprocess.run([tool("crane"), "validate", "--insecure", "--remote", remote], check=True, capture_output=True)

    storage = ["--root", str(tmp_path / "root"), "--runroot", str(tmp_path / "run"), "--storage-driver", "vfs"]
    name = subprocess.run(
        [tool("buildah"), *storage, "from", f"oci:{image}"], check=True, capture_output=True, text=True
    ).stdout.strip()
    mounted = subprocess.run(
        [tool("buildah"), *storage, "mount", name], check=True, capture_output=True, text=True
    ).stdout.strip()
    assert (Path(mounted) / library).read_bytes() == content
    subprocess.run([tool("buildah"), *storage, "rm", "-a"], check=True, capture_output=True)
