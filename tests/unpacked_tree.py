"""Facts of an image beside facts of what umoci makes of it: another program's opinion of what a container sees."""

import io
import subprocess
import tarfile
from pathlib import Path
from typing import NamedTuple

from image_builder import Tar, put_image
from tidewaiter.inspection.facts import ImageFacts
from tidewaiter.inspection.image import inspect
from tidewaiter.oci.layout import Layout


def deb(name: str, version: str = "1") -> str:
    """A package in dpkg's status."""
    return f"Package: {name}\nStatus: install ok installed\nVersion: {version}\nArchitecture: amd64\n\n"


def metadata(name: str, version: str = "1") -> str:
    """Metadata of a Python distribution."""
    return f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n\n"


class Said(NamedTuple):
    """What must not depend on how the layers put the files there."""

    packages: list[tuple[str, str]]
    """Package URL without qualifiers, and place."""
    release: str
    exposed: list[tuple[str, str]]
    programs: list[str]
    unread: list[str]


def said(facts: ImageFacts) -> Said:
    """Of an image."""
    return Said(
        sorted((one.purl.partition("?")[0], one.location) for one in facts.components),
        facts.operating_system.id if facts.operating_system else "",
        sorted((one.path, one.kind) for one in facts.exposed),
        sorted(one.path for one in facts.programs),
        sorted(facts.unread),
    )


def ours(folder: Path, layers: list[Tar]) -> ImageFacts:
    """Facts of an image of `layers`."""
    return inspect(put_image(Layout(folder), [layer.bytes() for layer in layers], name="x"), reference="x")


def _tree(root: Path) -> bytes:
    """What lies on disk as a tar without hard links, each path once."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for path in sorted(root.rglob("*")):
            info = tar.gettarinfo(path, str(path.relative_to(root)))
            tar.inodes = {}  # type: ignore[attr-defined]  # it would make the next one a link
            if info.isreg():
                with path.open("rb") as file:
                    tar.addfile(info, file)
            else:
                tar.addfile(info)
    return buffer.getvalue()


def unpacked(umoci: str, folder: Path, layers: list[Tar]) -> tuple[ImageFacts, int]:
    """Facts of what umoci unpacks, and the bytes of its files, each counted once whatever names it has."""
    put_image(Layout(folder / "layout"), [layer.bytes() for layer in layers], name="x")
    bundle = folder / "bundle"
    command = [umoci, "raw", "unpack", "--rootless", "--image", f"{folder}/layout:x", str(bundle)]
    subprocess.run(command, check=True, timeout=60, capture_output=True)
    files = {found.st_ino: found.st_size for path in bundle.rglob("*") if path.is_file() and (found := path.lstat())}
    links = {path.lstat().st_ino for path in bundle.rglob("*") if path.is_symlink()}
    image = put_image(Layout(folder / "tree"), [_tree(bundle)])
    return inspect(image, reference="x"), sum(size for node, size in files.items() if node not in links)
