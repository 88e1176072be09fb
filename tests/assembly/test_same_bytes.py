"""Layers are the same to the bit whoever builds them, where and when."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType

import msgspec
import pytest
from little_wheels import locked, write_rootfs, write_wheel

from tidewaiter.assembly.bytecode import Interpreter

# Everything is imported, and the locale and the zone set, before rights are given up: the other user may not be able
# to read this Python.
_BUILD = """
import tarfile, encodings.cp437, encodings.idna, json, locale, os, sys, time
from pathlib import Path
said = json.loads(sys.argv[1])
sys.path[:0] = said["path"]
import msgspec
from little_wheels import VERSION, home_settings
from tidewaiter.assembly import app, python_layers, wheel_sources, wheel_workshop
from tidewaiter.assembly.bytecode import Interpreter
from tidewaiter.assembly.layer_cache import LayerCache
from tidewaiter.assembly.options import Options
from tidewaiter.assembly.python_lock import LockedWheel, Origin, PythonLock
from tidewaiter.core import project
from tidewaiter.core.progress import SILENT
from tidewaiter.oci.layout import Layout
from tidewaiter.transport.client import Client

python_layers.OWN_LAYER_BYTES = 20_000
locale.setlocale(locale.LC_ALL, "")
time.tzset()
os.umask(said["umask"])
if said["user"]:
    os.setgroups([])
    os.setgid(said["user"])
    os.setuid(said["user"])
home = Path(said["home"])
settings = home_settings(home)
store = Layout(settings.home.store)
store.create()
layers = LayerCache(store, settings.home.cache / "layers", SILENT)
interpreter = Interpreter(Path(said["rootfs"]), VERSION, "sha256:" + "0" * 64)
wheels = msgspec.json.decode(json.dumps(said["wheels"]), type=list[LockedWheel], dec_hook=lambda _, text: Path(text))
lock = PythonLock(home / "pylock.toml", Origin("", VERSION, "", ""), tuple(wheels))
opened = project.load(Path(said["project"]))
found = []
for compression in ("gzip", "zstd"):
    wanted = Options(compression=compression)
    threads = said["threads"]
    with Client(attempts=1) as client:
        made = python_layers.build(lock, wanted=wanted, interpreter=interpreter, layers=layers, threads=threads,
                                   settings=settings, connect=lambda: client, progress=SILENT)
    parts = [*made.parts, app.build(opened, app.collect(opened), wanted=wanted, interpreter=interpreter,
                                    layers=layers, threads=threads, progress=SILENT)]
    found += [part.info.digest for part in parts]
print(json.dumps(found))
"""

_PROJECT = """\
[image]
name = "team/sample"
purpose = "training"
environment = "research"
[base]
use = "debian12-python3.11"
[python]
version = "3.11"
requirements = "requirements.in"
[app]
include = ["src"]
entrypoint = ["python", "/app/src/main.py"]
"""


class _Place:
    """Wheels, an interpreter and a project on tmpfs, and what they gave first."""

    def __init__(self, folder: Path, interpreter: Interpreter) -> None:
        self.folder = folder
        project = folder / "project"
        (project / "src/données").mkdir(parents=True)
        (project / "tidewaiter.toml").write_text(_PROJECT)
        (project / "src/main.py").write_text("print({'one', 'two', 'three'})\n")
        (project / "src/données/run.sh").write_text("#!/bin/sh\n")
        (project / "src/données/run.sh").chmod(0o755)
        (project / "src/link").symlink_to("main.py")
        wheels = folder / "wheels"
        wheels.mkdir()
        found = [
            write_wheel(wheels, name, files={f"{name}/m{i}.py": f"x = {{{i}, 'a b'}}\n" for i in range(9)})
            for name in ("one", "two", "three")
        ]
        found.append(write_wheel(wheels, "big", files={"big/data": os.urandom(300_000), "big/é.py": "x = 'é'\n"}))
        tests = Path(__file__).parents[1]
        self._said = {
            "path": [str(tests), str(tests / "assembly"), *sys.path],
            "wheels": json.loads(msgspec.json.encode([locked(path) for path in found], enc_hook=str)),
            "rootfs": str(interpreter.rootfs),
            "project": str(project),
        }
        self.first = self.build(folder / "first")

    def build(
        self,
        home: Path,
        *,
        umask: int = 0o022,
        threads: int = 2,
        user: int = 0,
        environment: Mapping[str, str] = MappingProxyType({}),
    ) -> list[str]:
        """Digests of the layers, made by another process under these circumstances."""
        home.mkdir()
        if user:
            os.chown(home, user, user)
        said = self._said | {"home": str(home), "umask": umask, "threads": threads, "user": user}
        run = subprocess.run(
            [sys.executable, "-P", "-c", _BUILD, json.dumps(said)],
            capture_output=True,
            text=True,
            check=False,
            env={"PATH": os.environ["PATH"], "HOME": str(home), **environment},
        )
        assert run.returncode == 0, run.stderr
        found: list[str] = json.loads(run.stdout)
        return found


@pytest.fixture(scope="module")
def place() -> Iterator[_Place]:
    shared_memory = Path("/dev/shm")
    if not shared_memory.is_dir():
        pytest.skip("no tmpfs at /dev/shm")
    folder = Path(tempfile.mkdtemp(dir=shared_memory))
    folder.chmod(0o755)
    try:
        yield _Place(folder, write_rootfs(folder / "rootfs"))
    finally:
        shutil.rmtree(folder)


def test_a_first_build_makes_every_kind_of_layer(place: _Place) -> None:
    """What the other tests compare: a large wheel, the small ones and the app, in both compressions."""
    assert len(set(place.first)) == 6


@pytest.mark.parametrize("umask", [0o000, 0o077])
def test_umask_does_not_show(place: _Place, umask: int) -> None:
    """File modes come from wheels and project, never from the process."""
    assert place.build(place.folder / f"umask{umask}", umask=umask) == place.first


def test_zone_locale_and_hash_seed_do_not_show(place: _Place) -> None:
    """No time, no sorting and no encoding of this machine is in a layer."""
    environment = {"TZ": "Pacific/Kiritimati", "LC_ALL": "C", "PYTHONHASHSEED": "7", "PYTHONUTF8": "1"}
    assert place.build(place.folder / "locale", environment=environment) == place.first


@pytest.mark.parametrize("threads", [1, 5])
def test_threads_do_not_show(place: _Place, threads: int) -> None:
    """Side by side or one after the other."""
    assert place.build(place.folder / f"threads{threads}", threads=threads) == place.first


def test_file_systems_do_not_show(place: _Place, tmp_path: Path) -> None:
    """tmpfs and the disk list and number files in other ways."""
    assert place.build(tmp_path / "home") == place.first


def test_users_do_not_show(place: _Place) -> None:
    """Root and a user without rights build the same."""
    if os.geteuid() != 0:
        pytest.skip("only root can become another user")
    assert place.build(place.folder / "user", user=65534) == place.first
