"""Reading files of an unpacked image by their real paths."""

from pathlib import Path

import pytest

from tidewaiter.assembly.ground import Ground
from tidewaiter.assembly.unpacked_image import UnpackedImage
from tidewaiter.core.errors import InputError
from tidewaiter.oci.layer import Entry


def _image(root: Path, files: dict[str, str], variables: list[str] | None = None) -> UnpackedImage:
    entries = []
    for path, text in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)
        entries.append(Entry(path=path, kind="file", size=len(text)))
    return UnpackedImage(Ground([entries]), root, variables or [])


def test_the_loader_is_told_of_folders(tmp_path: Path) -> None:
    """LD_LIBRARY_PATH comes first, then ld.so.conf with what it includes; comments and other words are passed over."""
    image = _image(
        tmp_path,
        {
            "etc/ld.so.conf": "include /etc/ld.so.conf.d/*.conf\n/opt/last # said here\nhwcap 0 nosegneg\n",
            "etc/ld.so.conf.d/b.conf": "/opt/b\n",
            "etc/ld.so.conf.d/a.conf": "/opt/a\ninclude ld.so.conf\n",
            "etc/ld.so.conf.d/c.txt": "/opt/c\n",
        },
        ["LD_LIBRARY_PATH=/env:relative", "PATH=/bin"],
    )
    # The include that leads back to the first file ends there.
    assert image.library_folders() == ["env", "opt/a", "opt/b", "opt/last"]


def test_no_link_of_this_machine_is_followed(tmp_path: Path) -> None:
    """A link where the image lists a file or folder is an error, so that nothing of this machine is read."""
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/file").write_text("secret")
    root = tmp_path / "root"
    image = _image(root, {"a/file": "x", "b": "y"})
    assert image.head("a/file") == b"x"
    (root / "a/file").unlink()
    (root / "a").rmdir()
    (root / "a").symlink_to(tmp_path / "outside")
    (root / "b").unlink()
    (root / "b").symlink_to(tmp_path / "outside/file")
    for path in ("a/file", "b"):
        with pytest.raises(InputError, match="behind a link"):
            image.head(path)


def test_long_texts_are_not_read(tmp_path: Path) -> None:
    """A text over the bound counts as none; at the bound it is read."""
    image = _image(tmp_path, {"x": "12345"})
    assert image.text("x", 5) == "12345"
    assert image.text("x", 4) is None
    assert image.text("absent", 5) is None
