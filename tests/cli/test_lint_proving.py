"""`lint --fix --rewrite --prove`, with images that buildah makes."""

import json
from pathlib import Path

import pytest

import little_shell
from servers import Tool
from workplace import run

pytestmark = pytest.mark.interop

DOCKERFILE = "FROM {base}\nADD app.sh /app/\nWORKDIR /app\nCMD /bin/sh app.sh\n"
REWRITTEN = 'FROM {base}\nCOPY app.sh /app/\nWORKDIR /app\nCMD ["/bin/sh", "app.sh"]\n'


@pytest.fixture
def base(docker_registry: str, tmp_path: Path) -> str:
    """HOST/REPO:TAG of an image with a shell in a registry without TLS."""
    little_shell.make_shell(tmp_path / "layout")
    name = f"{docker_registry}/lint/shell:1"
    extra = {"TIDEWAITER_PLAIN_HTTP": docker_registry}
    copied = run(tmp_path / "home", "copy", f"oci:{tmp_path}/layout:shell", name, extra=extra)
    assert copied.code == 0, copied.err
    return name


def test_a_rewrite_is_proved_by_builds_of_both(tmp_path: Path, base: str, tool: Tool) -> None:
    """Both are built and compared, the command runs in both, and the new file is written; the document says so."""
    tool("buildah")
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "Dockerfile").write_text(DOCKERFILE.format(base=base))
    (folder / "app.sh").write_text("echo started\n")
    done = run(
        tmp_path / "home",
        *("lint", folder / "Dockerfile", "--fix", "--rewrite", "--prove", "--smoke", "/bin/sh /app/app.sh"),
        *("--format", "json", "--fail-on", "error"),
        extra={"TIDEWAITER_PLAIN_HTTP": base.partition("/")[0]},
    )
    assert done.code == 0, done.err
    (proof,) = json.loads(done.out)["proofs"]
    assert (proof["same"], proof["differences"], proof["tried"]) == (True, [], "/bin/sh /app/app.sh"), done.err
    for which in ("before", "after"):
        assert 0 < proof[which]["size"] < proof[which]["unpacked_size"]
        assert proof[which]["rebuild_seconds"] > 0
    assert (folder / "Dockerfile").read_text() == REWRITTEN.format(base=base)
    assert done.err.count("started") == 2


def test_what_is_not_the_same_is_kept(tmp_path: Path, base: str, tool: Tool) -> None:
    """Where the command fails in the new image alone, the old Dockerfile stays, and the exit code is 1."""
    tool("buildah")
    folder = tmp_path / "project"
    folder.mkdir()
    content = DOCKERFILE.format(base=base).replace("app.sh /app/", ". /app/")
    (folder / "Dockerfile").write_text(content)
    (folder / "app.sh").write_text("echo started\n")
    (folder / ".env").write_text("A=b\n")  # which the .dockerignore of a rewrite leaves out
    done = run(
        tmp_path / "home",
        *("lint", folder / "Dockerfile", "--fix", "--rewrite", "--prove", "--smoke", "/bin/sh -c 'test -e /app/.env'"),
        *("--format", "json", "--fail-on", "error"),
        extra={"TIDEWAITER_PLAIN_HTTP": base.partition("/")[0]},
    )
    assert done.code == 1, done.err
    (proof,) = json.loads(done.out)["proofs"]
    assert (proof["same"], len(proof["differences"])) == (False, 1)
    assert "ends with 1 in the new image, and with 0 in the old one" in proof["differences"][0]
    assert (folder / "Dockerfile").read_text() == content
    assert not (folder / ".dockerignore").exists()
