"""What `tidewaiter export` writes, loaded by a real Docker daemon and by a real containerd."""

import json
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from engines import Engine, engine

from images import make_image
from servers import Tool
from tidewaiter.oci import image as images
from workplace import run

pytestmark = pytest.mark.interop


@pytest.fixture(scope="module")
def engines(tool: Tool) -> Iterator[Engine]:
    # Sockets have short names, which a folder of pytest would be too long for.
    folder = Path(tempfile.mkdtemp(prefix="tw-"))
    try:
        with engine(tool, folder) as started:
            yield started
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def test_docker_and_containerd_load_an_export(engines: Engine, tmp_path: Path) -> None:
    """Docker has the image under its name with our config and layers; containerd has every blob of our manifest."""
    layout, image = make_image(tmp_path / "image")
    layout.tag("v1", image)
    home, file = tmp_path / "home", tmp_path / "image.tar"
    for call in (("pull", f"oci:{layout.path}:v1", "team/app:1.0"), ("export", "team/app:1.0", file)):
        done = run(home, *call)
        assert done.code == 0, done.err

    engines.run(*engines.docker, "load", "--input", file)
    (loaded,) = json.loads(engines.run(*engines.docker, "image", "inspect", "team/app:1.0"))
    written = images.load(layout, image)
    assert loaded["Id"] == written.manifest.config.digest
    assert loaded["RootFS"]["Layers"] == written.config.rootfs.diff_ids

    engines.run(*engines.ctr, "images", "import", "--no-unpack", file)
    lines = engines.run(*engines.ctr, "images", "check").splitlines()
    (line,) = [line for line in lines if line.startswith("docker.io/team/app:1.0")]
    assert image.digest in line
    assert "complete" in line


def test_exec_runs_an_image_by_docker(engines: Engine, project: Path, home: Path) -> None:
    """The real daemon runs the image as its own user, without network, on a root that cannot be written."""
    built = run(home, "build", project, "--format", "json")
    assert built.code == 0, built.err
    seen = "import os, socket\nprint(os.getuid(), [name for _, name in socket.if_nameindex()])\nopen('/x', 'w')"
    extra = {"TIDEWAITER_RUNNER": "docker", "DOCKER_HOST": engines.docker[-1]}
    done = run(home, "exec", built.json["reference"], "--", "python", "-c", seen, extra=extra)
    assert done.out.strip() == "65532 ['lo']", done.err
    assert done.code == 1
    assert "Read-only file system" in done.err
