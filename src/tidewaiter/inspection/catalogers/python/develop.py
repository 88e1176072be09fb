"""Develop installs of setuptools before PEP 660: `NAME.egg-link` and `easy-install.pth`, which name folders of code.

The metadata of such a distribution lies in the folder that they name, as `NAME.egg-info`.
"""

import posixpath

from tidewaiter.core import limits
from tidewaiter.inspection.catalogers import Cataloger
from tidewaiter.inspection.layer_facts import Collector
from tidewaiter.inspection.paths import readable


def wants(path: str) -> bool:
    """The link of one distribution, and the list of all of them."""
    return path.endswith((".egg-link", "/easy-install.pth"))


def folders(path: str, data: bytes) -> tuple[str, ...]:
    """Folders that the file at `path` names, relative to the root and sorted; eggs, which are installed, are not."""
    lines = data.decode("utf-8", "surrogateescape").split("\n")
    if path.endswith(".egg-link"):
        lines = lines[:1]  # the second line leads from there to `setup.py`
    found = set()
    for line in map(str.strip, lines[: limits.REQUIREMENTS]):
        # In a `.pth` file lines that begin with `import` are code.
        if not line or line.startswith(("#", "import ", "import\t")) or line.endswith(".egg"):
            continue
        found.add(readable(posixpath.normpath(posixpath.join("/", posixpath.dirname(path), line)).lstrip("/")))
    return tuple(sorted(found - {""}))


def is_develop(location: str, named: frozenset[str]) -> bool:
    """Whether metadata at `location` is that of a distribution in one of the folders `named`."""
    folder = location.rpartition("/")[0]
    return folder.endswith(".egg-info") and folder.rpartition("/")[0] in named


def read(path: str, data: bytes, collector: Collector) -> None:
    """Record the folders."""
    found = folders(path, data)
    if found:
        collector.keep(path, *found)
        collector.develop[path] = found


CATALOGER = Cataloger("python-develop", (".egg-link", ".pth"), wants, read, 64 * 1024)
