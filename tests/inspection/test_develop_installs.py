from pathlib import Path

import pytest

from image_builder import Tar, put_image
from tidewaiter.inspection.catalogers.python import develop
from tidewaiter.inspection.image import inspect
from tidewaiter.oci.layout import Layout

SITE = "usr/lib/python3/dist-packages"


@pytest.mark.parametrize(
    ("path", "data", "folders"),
    [
        (f"{SITE}/demo.egg-link", b"/src/demo\n.", ("src/demo",)),
        (f"{SITE}/demo.egg-link", b"/src/demo/src\n../", ("src/demo/src",)),
        (f"{SITE}/demo.egg-link", b"../../../../src//demo/\r\n.", ("src/demo",)),
        (f"{SITE}/easy-install.pth", b"/src/b\n/src/a\n./old-1.0-py3.11.egg\nimport sys\n\n# no\n", ("src/a", "src/b")),
        (f"{SITE}/easy-install.pth", b"/\n../../../../../..\n", ()),
        (f"{SITE}/demo.egg-link", b"", ()),
        (f"{SITE}/demo.egg-link", b"/s\xff\x1b", ("s\\udcff\\x1b",)),
    ],
    ids=range(7),
)
def test_folders_of_develop_installs(path: str, data: bytes, folders: tuple[str, ...]) -> None:
    """Both files name folders, absolute or relative to themselves; code, eggs and the root are none."""
    assert develop.wants(path)
    found = develop.folders(path, data)
    assert all(one.isprintable() for one in found)
    assert len(found) == len(folders)
    if b"\xff" not in data:
        assert found == folders


def test_lines_are_bounded() -> None:
    """A list of any length is read up to a bound."""
    assert len(develop.folders(f"{SITE}/easy-install.pth", b"".join(b"/s/%d\n" % one for one in range(9000)))) == 2000


def metadata(name: str) -> str:
    return f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n"


def test_a_distribution_in_a_named_folder_is_editable(tmp_path: Path) -> None:
    """Only metadata of setuptools right in the folder counts, and only as long as the link is there."""
    tar = Tar().file(f"{SITE}/demo.egg-link", "/src/demo\n.").file(f"{SITE}/gone.egg-link", "/src/gone\n.")
    tar.file("src/demo/demo.egg-info/PKG-INFO", metadata("demo"))
    tar.file("src/demo/deep/deep.egg-info/PKG-INFO", metadata("deep"))
    tar.file("src/gone/gone.egg-info/PKG-INFO", metadata("gone"))
    tar.file(f"{SITE}/plain-1.0.egg-info", metadata("plain"))
    above = Tar().file(f"{SITE}/.wh.gone.egg-link")
    image = put_image(Layout(tmp_path / "layout"), [tar.bytes(), above.bytes()])
    found = {one.name: one.install for one in inspect(image, reference="it:1").components}
    assert found == {"demo": "editable", "deep": "", "gone": "", "plain": ""}
