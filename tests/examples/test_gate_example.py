"""The example of the registry, run as it stands: a bad image is mended and let in; production takes a builder's."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from servers import Tool
from tidewaiter.core import clock
from workplace import ROOT, commit, environment, run, small_project

EXAMPLE = ROOT / "examples" / "gate"


def walked(name: str, home: Path, *arguments: object, tools: str = "") -> tuple[int, str, str]:
    """Exit code, standard output and standard error of a script of the example."""
    path = os.pathsep.join([str(Path(sys.executable).parent), tools, os.environ["PATH"]])
    done = subprocess.run(
        [EXAMPLE / name, *map(str, arguments)],
        env={**environment(home), "PATH": path},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    return done.returncode, done.stdout, done.stderr


@pytest.mark.interop
def test_a_bad_image_is_mended(tool: Tool, tmp_path: Path) -> None:
    """buildah shows rule, evidence and remedy; with the remedy the image is let in, and pulled."""
    code, out, err = walked("push", tmp_path / "home", tmp_path, tools=str(Path(tool("buildah")).parent))
    assert code == 0, (out, err)
    assert "(1) image.non-root [high] The image runs as root. Found: config.User is" in err
    assert "in a Dockerfile write `USER 65532:65532`" in err
    assert "manifest unknown" in err
    before, _, after = out.partition("== The change that was named")
    assert '"verdict":"allow"' in after
    assert '"verdict"' not in before


@pytest.mark.thorough
def test_production_takes_what_a_builder_built(home: Path, tmp_path: Path) -> None:
    """With an approved base, advisories of today and the key of a registered builder, `ci` ends in production."""
    server = tmp_path / "work" / "server"
    for name in ("cache", "store"):  # so that nothing need be fetched
        shutil.copytree(home / name, server / name, symlinks=True)
    project = small_project(tmp_path / "project", home, env="production")
    file = project / "tidewaiter.toml"
    file.write_text(file.read_text().replace("team/small", "shop/small"))
    commit(project)
    for ecosystem in ("Debian:12", "PyPI"):
        feed = tmp_path / f"{ecosystem}.json"
        feed.write_text(
            f'{{"id":"EXAMPLE-{ecosystem[:2]}","modified":"{clock.rfc3339(clock.now())}",'
            f'"affected":[{{"package":{{"ecosystem":"{ecosystem}","name":"nothing"}},"versions":["1"]}}]}}'
        )
        folder = tmp_path / f"feed-{ecosystem}"
        folder.mkdir()
        feed.rename(folder / feed.name)
        done = run(server, "advisories", "import", folder, "--ecosystem", ecosystem, "--force")
        assert done.code == 0, done.err
    code, out, err = walked("production", home, project, tmp_path / "work")
    assert code == 0, (out, err)
    assert "production: allowed" in out
    assert "attested: vuln, vsa" in out
