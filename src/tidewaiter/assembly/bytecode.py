"""The interpreter of an image, and where the bytecode lies that it makes: by itself, and by nothing else.

`bytecode_child` starts it, `bytecode_processes` shares sources among several.
"""

import posixpath
from collections.abc import Callable
from pathlib import Path

import msgspec

FORMAT_VERSION = 2
"""Part of every layer cache key: raise it when the bytes that the same source gives change."""

Source = bytes | Path | Callable[[], bytes]


class Interpreter(msgspec.Struct, frozen=True):
    """The interpreter of an image."""

    rootfs: Path
    """Folder that holds the image's files."""
    version: str
    """Minor version, `3.11`."""
    identity: str
    """Digest that names exactly this interpreter: that of its packages' lock, or of the layers that hold it."""
    program: str = ""
    """Path in the image, when it is another one than in the bases made here."""
    site: str = ""
    """Where its modules lie, relative to the root, when it is another folder than in the bases made here."""
    foreign: bool = False
    """Whether it comes from an image that was not made here: then it runs in a sandbox only."""
    architecture: str = "amd64"
    """Processor that it runs on, in Go's names."""
    prepare: Callable[[], None] | None = None
    """Puts the files into `rootfs`, or checks those that are there; called before anything that was run is believed."""

    def root(self) -> Path:
        """`rootfs` with everything in it, resolved."""
        if self.prepare is not None:
            self.prepare()
        return self.rootfs.resolve()

    @property
    def tag(self) -> str:
        """Python tag of wheels and bytecode files, `cp311`."""
        return "cp" + self.version.replace(".", "")

    @property
    def executable(self) -> str:
        """Path in the image."""
        return self.program or f"/usr/bin/python{self.version}"

    @property
    def site_packages(self) -> str:
        """Where modules are installed, relative to the root."""
        return self.site or f"usr/local/lib/python{self.version}/dist-packages"


def bytecode_path(path: str, version: str) -> str:
    """Where the bytecode of the source at `path` lies (PEP 3147), `a/__pycache__/b.cpython-311.pyc`."""
    folder, name = posixpath.split(path)
    return posixpath.join(folder, "__pycache__", f"{name.removesuffix('.py')}.cpython-{version.replace('.', '')}.pyc")
