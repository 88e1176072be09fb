"""Copying between a registry and an OCI layout with other people's tools."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

from servers import Tool

Copy = Callable[[Tool, Path, str, str], None]
"""`copy(tool, layout, HOST/REPOSITORY, tag)`."""


def _run(*arguments: str) -> str:
    done = subprocess.run(arguments, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, f"{' '.join(arguments)}: {done.stdout}{done.stderr}"
    return done.stdout


def _regctl(tool: Tool, target: str, *arguments: str) -> str:
    host = target.partition("/")[0]
    return _run(tool("regctl"), "--host", f"reg={host},tls=disabled", *arguments)


def _skopeo_push(tool: Tool, layout: Path, target: str, tag: str) -> None:
    _run(
        tool("skopeo"), "copy", "--all", "--preserve-digests", "--dest-tls-verify=false",
        f"oci:{layout}:{tag}", f"docker://{target}:{tag}",
    )  # fmt: skip


def _skopeo_pull(tool: Tool, layout: Path, source: str, tag: str) -> None:
    _run(
        tool("skopeo"), "copy", "--all", "--preserve-digests", "--src-tls-verify=false",
        f"docker://{source}:{tag}", f"oci:{layout}:{tag}",
    )  # fmt: skip


def _crane_push(tool: Tool, layout: Path, target: str, tag: str) -> None:
    _run(tool("crane"), "push", str(layout), f"{target}:{tag}")


def _crane_pull(tool: Tool, layout: Path, source: str, tag: str) -> None:
    _run(tool("crane"), "pull", "--format=oci", f"{source}:{tag}", str(layout))


def _regctl_push(tool: Tool, layout: Path, target: str, tag: str) -> None:
    _regctl(tool, target, "image", "copy", f"ocidir://{layout}:{tag}", f"{target}:{tag}")


def _regctl_pull(tool: Tool, layout: Path, source: str, tag: str) -> None:
    _regctl(tool, source, "image", "copy", f"{source}:{tag}", f"ocidir://{layout}:{tag}")


def _oras_push(tool: Tool, layout: Path, target: str, tag: str) -> None:
    _run(tool("oras"), "cp", "--from-oci-layout", "--to-plain-http", f"{layout}:{tag}", f"{target}:{tag}")


def _oras_pull(tool: Tool, layout: Path, source: str, tag: str) -> None:
    _run(tool("oras"), "cp", "--to-oci-layout", "--from-plain-http", f"{source}:{tag}", f"{layout}:{tag}")


PUSH: dict[str, Copy] = {
    "skopeo": _skopeo_push, "crane": _crane_push, "regctl": _regctl_push, "oras": _oras_push
}  # fmt: skip
PULL: dict[str, Copy] = {
    "skopeo": _skopeo_pull, "crane": _crane_pull, "regctl": _regctl_pull, "oras": _oras_pull
}  # fmt: skip


# Referrers


def oras_attach(tool: Tool, folder: Path, subject: str, artifact_type: str) -> None:
    """Push an artifact about `subject` (HOST/REPOSITORY@DIGEST)."""
    (folder / "note.txt").write_text("all is well\n")
    done = subprocess.run(
        [tool("oras"), "attach", "--plain-http", "--artifact-type", artifact_type, subject, "note.txt:text/plain"],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        cwd=folder,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def oras_referrers(tool: Tool, subject: str) -> set[str]:
    """Digests of what oras finds about `subject`."""
    shown = json.loads(_run(tool("oras"), "discover", "--plain-http", "--format", "json", subject))
    return {entry["digest"] for entry in shown.get("referrers") or shown.get("manifests") or []}


def regctl_referrers(tool: Tool, subject: str) -> set[str]:
    """Digests of what regctl finds about `subject`."""
    shown = json.loads(_regctl(tool, subject, "artifact", "list", "--format", "{{json .}}", subject))
    return {entry["digest"] for entry in shown.get("descriptors") or shown.get("manifest", {}).get("manifests") or []}
