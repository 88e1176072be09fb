import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest
from little_wheels import SITE, VERSION, Index, home_settings, locked, write_rootfs, write_wheel

from servers import Serve
from tidewaiter.assembly import options, python_layers, wheel_files
from tidewaiter.assembly.bytecode import Interpreter, bytecode_path
from tidewaiter.assembly.layer_cache import LayerCache
from tidewaiter.assembly.options import Options
from tidewaiter.assembly.part import Part
from tidewaiter.assembly.python_layers import PythonLayers
from tidewaiter.assembly.python_lock import LockedWheel, Origin, PythonLock
from tidewaiter.core import limits
from tidewaiter.core.errors import InputError, IntegrityError, MissingToolError, NetworkError
from tidewaiter.core.progress import SILENT, Progress, Silent
from tidewaiter.oci import manifest as documents
from tidewaiter.oci.layer import Reader
from tidewaiter.oci.layout import Layout
from tidewaiter.transport.client import Client


@pytest.fixture(scope="module")
def interpreter(tmp_path_factory: pytest.TempPathFactory) -> Interpreter:
    return write_rootfs(tmp_path_factory.mktemp("rootfs") / "root")


@pytest.fixture(autouse=True)
def _small_large_wheels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(python_layers, "OWN_LAYER_BYTES", 20_000)


@pytest.fixture
def wheels(tmp_path: Path) -> Path:
    folder = tmp_path / "wheels"
    folder.mkdir()
    return folder


def _build(
    home: Path,
    found: Sequence[LockedWheel],
    interpreter: Interpreter,
    *,
    threads: int = 2,
    wanted: Options = options.DEFAULT,
    most: int = limits.BUILT_LAYERS,
    progress: Progress = SILENT,
) -> tuple[Part, ...]:
    return _made(home, found, interpreter, threads=threads, wanted=wanted, most=most, progress=progress).parts


def _made(
    home: Path,
    found: Sequence[LockedWheel],
    interpreter: Interpreter,
    *,
    threads: int = 2,
    wanted: Options = options.DEFAULT,
    most: int = limits.BUILT_LAYERS,
    progress: Progress = SILENT,
) -> PythonLayers:
    settings = home_settings(home)
    store = Layout(settings.home.store)
    store.create()
    origin = Origin(requirements_sha256="", python=VERSION, platform="", uv="")
    lock = PythonLock(path=home / "pylock.toml", origin=origin, wheels=tuple(found))
    with Client(attempts=1) as client:
        return python_layers.build(
            lock,
            wanted=wanted,
            most=most,
            interpreter=interpreter,
            layers=LayerCache(store, settings.home.cache / "layers", SILENT),
            threads=threads,
            settings=settings,
            connect=lambda: client,
            progress=progress,
        )


def _contents(home: Path, part: Part) -> dict[str, bytes]:
    with Layout(home / "store").open(part.info.digest) as blob:
        return {entry.path: file.read() for entry, file in Reader(blob) if file is not None}


def _wheel(name: str, size: int | None) -> LockedWheel:
    return LockedWheel(
        name=name, version="1.0", filename=f"{name}-1.0-py3-none-any.whl", sha256=name * 64, size=size, url="http://x"
    )


def test_large_wheels_come_first_and_alone() -> None:
    """A layer for each wheel at or over the threshold, heaviest first, equal ones by name; then one for the rest."""
    wheels = [_wheel("a", 19_999), _wheel("b", 20_000), _wheel("c", 90_000), _wheel("d", 20_000), _wheel("e", 1)]
    names = [[one.name for one in group] for group in python_layers.group(wheels)]
    assert names == [["c"], ["b"], ["d"], ["a", "e"]]
    assert python_layers.group(wheels[::-1]) == python_layers.group(wheels)
    assert python_layers.group([]) == []


@pytest.mark.parametrize(
    ("large", "small", "most", "layers"),
    [(30, 0, 30, 30), (29, 1, 30, 30), (30, 1, 30, 30), (31, 0, 30, 30), (60, 5, 30, 30), (3, 2, 1, 1), (3, 2, -9, 1)],
)
def test_layers_are_bounded(large: int, small: int, most: int, layers: int) -> None:
    """When there would be more layers than wanted the smallest wheels share the last; none is lost."""
    wheels = [_wheel(f"large{number:02}", 30_000 + number) for number in range(large)]
    wheels += [_wheel(f"small{number:02}", 10) for number in range(small)]
    groups = python_layers.group(wheels, most)
    assert len(groups) == layers
    assert {one for group in groups for one in group} == set(wheels)
    if layers > 1:
        assert groups[0][0].size == 30_000 + large - 1
    assert len(python_layers.group(wheels)) == min(large + bool(small), limits.BUILT_LAYERS)


def test_a_large_rest_gives_its_heaviest_wheels_away(monkeypatch: pytest.MonkeyPatch) -> None:
    """Until what every small update sends again is small, or only wheels are left that are tiny."""
    monkeypatch.setattr(python_layers, "REST_BYTES", 10_000)
    monkeypatch.setattr(python_layers, "SMALL_BYTES", 1_000)
    fitting = [_wheel("a", 30_000), _wheel("b", 6_000), _wheel("c", 4_000)]
    assert [[one.name for one in group] for group in python_layers.group(fitting)] == [["a"], ["b", "c"]]
    over = [*fitting, _wheel("d", 1)]
    assert [[one.name for one in group] for group in python_layers.group(over)] == [["a"], ["b"], ["c", "d"]]
    tiny = [_wheel(f"{number:02}", 999) for number in range(20)]
    assert [len(group) for group in python_layers.group(tiny)] == [20]


class _Notes(Silent):
    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


def test_layers_that_are_merged_are_told(tmp_path: Path, wheels: Path, interpreter: Interpreter) -> None:
    """Over the bound the smallest large wheels share a layer, the user hears which, and nothing is lost."""
    found = [
        locked(write_wheel(wheels, name, files={f"{name}/data": os.urandom(size)}))
        for name, size in (("a", 40_000), ("b", 30_000), ("c", 50_000))
    ]
    notes = _Notes()
    parts = _build(tmp_path / "home", found, interpreter, most=2, progress=notes)
    assert [part.contents for part in parts] == [("c 1.0",), ("a 1.0", "b 1.0")]
    assert notes.notes == ["2 large wheels share a layer, because an image has at most 40: a, b"]
    _build(tmp_path / "home", found, interpreter, progress=notes)
    assert len(notes.notes) == 1


def test_a_wheel_has_one_layer_in_all_images(tmp_path: Path, wheels: Path, interpreter: Interpreter) -> None:
    """Whatever else is required, on whatever base with the same interpreter, a large wheel is the same layer."""
    big = locked(write_wheel(wheels, "big", files={"big/data": os.urandom(30_000), "big/x.py": "x = 1\n"}))
    other = locked(write_wheel(wheels, "other", files={"other/data": os.urandom(60_000), "other/y.py": ""}))
    small = [locked(write_wheel(wheels, name)) for name in ("one", "two")]
    (alone,) = _build(tmp_path / "alone", [big], interpreter)
    elsewhere = write_rootfs(tmp_path / "another/base")
    parts = _build(tmp_path / "many", [*small, other, big], elsewhere, threads=1)
    assert [part.contents for part in parts] == [("other 1.0",), ("big 1.0",), ("one 1.0", "two 1.0")]
    assert parts[1].info == alone.info


def test_zstd_layers_hold_the_same_files(tmp_path: Path, wheels: Path, interpreter: Interpreter) -> None:
    """The tar is the same; blob, media type and cache key are not, so that both lie side by side in one store."""
    found = [locked(write_wheel(wheels, "big", files={"big/data": os.urandom(300_000), "big/x.py": "x = 1\n"}))]
    (gzip,) = _build(tmp_path / "home", found, interpreter)
    zstd, again = (
        _build(tmp_path / "home", found, interpreter, wanted=Options(compression="zstd"))[0] for _ in range(2)
    )
    assert (zstd.info.diff_id, zstd.info.tar_size) == (gzip.info.diff_id, gzip.info.tar_size)
    assert zstd.info.digest != gzip.info.digest
    assert (gzip.media_type, zstd.media_type) == (documents.LAYER_GZIP, documents.LAYER_ZSTD)
    assert not zstd.reused
    assert again == msgspec.structs.replace(zstd, reused=True)
    assert _contents(tmp_path / "home", zstd) == _contents(tmp_path / "home", gzip)


def test_without_bytecode_no_interpreter_is_started(tmp_path: Path, wheels: Path, interpreter: Interpreter) -> None:
    """Such a layer has no `.pyc`, and is the same whatever the interpreter's patch release or processor."""
    found = [locked(write_wheel(wheels, "one"))]
    wanted = Options(bytecode=False)
    gone = msgspec.structs.replace(interpreter, rootfs=tmp_path / "gone", architecture="arm64")
    (part,) = _build(tmp_path / "home", found, gone, wanted=wanted)
    assert not [path for path in _contents(tmp_path / "home", part) if "__pycache__" in path]
    other = msgspec.structs.replace(interpreter, identity="sha256:" + "1" * 64)
    assert python_layers.layer_key(tuple(found), other, wanted) == python_layers.layer_key(tuple(found), gone, wanted)
    (compiled,) = _build(tmp_path / "home", found, interpreter)
    assert compiled.info.digest != part.info.digest


def test_an_interpreter_for_another_processor_names_the_way_out(
    tmp_path: Path, wheels: Path, interpreter: Interpreter
) -> None:
    """What cannot be compiled here is not left out silently; the error says what to ask for."""
    foreign = msgspec.structs.replace(interpreter, architecture="riscv64")
    with pytest.raises(MissingToolError, match=r"linux/riscv64\) does not run on this machine") as caught:
        _build(tmp_path / "home", [locked(write_wheel(wheels, "one"))], foreign)
    assert "--no-bytecode" in caught.value.next_step


def test_folders_of_nvidia_libraries_are_searched(tmp_path: Path, wheels: Path, interpreter: Interpreter) -> None:
    """Every folder of theirs with a library, sorted; nothing for images without such wheels."""
    gpu = [
        locked(write_wheel(wheels, name, files={"nvidia/__init__.py": "", **dict.fromkeys(paths, "x")}))
        for name, paths in (
            ("nvidia_nvtx", ("nvidia/nvtx/lib/libnvToolsExt.so.1", "nvidia/nvtx/include/x.h")),
            ("nvidia_cudnn", ("nvidia/cudnn/lib/libcudnn.so.8", "nvidia/cudnn/lib/libcudnn.so")),
            ("nvidia_nvcc", ("nvidia/nvcc/bin/ptxas", "nvidia/nvcc/lib/__init__.py", "nvidia/nvcc/x/y.so")),
        )
    ]
    cpu = [locked(write_wheel(wheels, "one", files={"one/lib/libone.so": "x"}))]
    made = _made(tmp_path / "home", [*cpu, *gpu], interpreter)
    assert made.library_path == (f"/{SITE}/nvidia/cudnn/lib", f"/{SITE}/nvidia/nvtx/lib")
    assert _made(tmp_path / "home", [*cpu, *gpu], interpreter).library_path == made.library_path
    assert _made(tmp_path / "home", cpu, interpreter).library_path == ()


def test_wheels_become_layers_with_bytecode(
    tmp_path: Path, wheels: Path, serve: Serve, interpreter: Interpreter
) -> None:
    """Fetched, unpacked, compiled, described; a second build reuses everything and asks the index nothing."""
    index = Index(wheels)
    url = serve(index)
    found = [
        locked(path, url=f"{url}/files/{path.name}")
        for path in (
            write_wheel(wheels, "big", files={"big/__init__.py": "X = 1\n", "big/data": os.urandom(30_000)}),
            write_wheel(wheels, "one"),
            write_wheel(wheels, "two", files={"two.py": "print 'for Python 2'\n"}),
        )
    ]
    first = _build(tmp_path / "home", found, interpreter)
    assert [(part.kind, part.contents, part.reused) for part in first] == [
        ("python", ("big 1.0",), False),
        ("python", ("one 1.0", "two 1.0"), False),
    ]
    assert first[0].title == "wheel big-1.0-py3-none-any.whl"
    contents = _contents(tmp_path / "home", first[1])
    assert bytecode_path(f"{SITE}/one/__init__.py", VERSION) in contents
    assert bytecode_path(f"{SITE}/two.py", VERSION) not in contents
    assert len(index.asked) == 3
    second = _build(tmp_path / "home", found, interpreter)
    assert [part.reused for part in second] == [True, True]
    assert [part.info for part in second] == [part.info for part in first]
    assert len(index.asked) == 3


def test_a_known_layer_needs_neither_wheel_nor_interpreter(
    tmp_path: Path, wheels: Path, serve: Serve, interpreter: Interpreter
) -> None:
    """With the layer in the store, an unreachable index, an empty wheel cache and lost listings do no harm."""
    path = write_wheel(wheels, "one")
    found = [locked(path, url=f"{serve(Index(wheels))}/files/{path.name}")]
    first = _build(tmp_path / "home", found, interpreter)
    for folder in ("wheels", "wheel-files"):
        for file in sorted((tmp_path / "home/cache" / folder).rglob("*"), reverse=True):
            file.rmdir() if file.is_dir() else file.unlink()
    gone = msgspec.structs.replace(interpreter, rootfs=tmp_path / "gone")
    unreachable = [msgspec.structs.replace(found[0], url="http://127.0.0.1:9/one.whl")]
    (again,) = _build(tmp_path / "home", unreachable, gone)
    assert again.info == first[0].info
    (listing,) = (tmp_path / "home/cache/wheel-files").glob(f"{found[0].sha256}-*")
    assert f"{SITE}/one/__init__.py" in msgspec.json.decode(listing.read_bytes())["files"]


def test_two_homes_give_the_same_digests(tmp_path: Path, wheels: Path, interpreter: Interpreter) -> None:
    """Number of threads, hash seed and home do not show in a layer."""
    found = [
        locked(write_wheel(wheels, name, files={f"{name}/m{i}.py": f"x = {{{i}, 'a b'}}\n" for i in range(9)}))
        for name in ("one", "two", "three", "four")
    ]
    one = _build(tmp_path / "one", found, interpreter, threads=1)
    three = _build(tmp_path / "three", found[::-1], interpreter, threads=3)
    assert [part.info for part in one] == [part.info for part in three]
    program = (
        "import sys; from pathlib import Path; sys.path[:0] = sys.argv[1:3]\n"
        "import msgspec, test_python_layers as t\n"
        "found = msgspec.json.decode(sys.argv[4], type=list[t.LockedWheel], dec_hook=lambda _, text: Path(text))\n"
        "rootfs = t.Interpreter(Path(sys.argv[5]), t.VERSION, sys.argv[6])\n"
        "t.python_layers.OWN_LAYER_BYTES = 20_000\n"
        "print([part.info.digest for part in t._build(Path(sys.argv[3]), found, rootfs)])"
    )
    here = Path(__file__).parent
    arguments = [str(here), str(here.parent), str(tmp_path / "other")]
    arguments += [msgspec.json.encode(found, enc_hook=str).decode(), str(interpreter.rootfs), interpreter.identity]
    run = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"PYTHONHASHSEED": "99"},
    )
    assert run.stdout.strip() == str([part.info.digest for part in one])


def test_another_interpreter_makes_other_layers(wheels: Path, interpreter: Interpreter) -> None:
    """The interpreter's identity is part of the key, a mirror's address is not."""
    group = (locked(write_wheel(wheels, "one")),)
    other = msgspec.structs.replace(interpreter, identity="sha256:" + "1" * 64)
    moved = (msgspec.structs.replace(group[0], path=None, url="https://mirror.example.net/one.whl"),)
    assert python_layers.layer_key(group, interpreter) != python_layers.layer_key(group, other)
    assert python_layers.layer_key(group, interpreter) == python_layers.layer_key(moved, interpreter)


def test_unknown_sizes_are_learnt_before_layers_are_cut(tmp_path: Path, wheels: Path, interpreter: Interpreter) -> None:
    """An index that tells no sizes gives the same layers as one that does."""
    found = [
        locked(write_wheel(wheels, "big", files={"big/data": os.urandom(30_000)})),
        locked(write_wheel(wheels, "one")),
    ]
    unknown = [msgspec.structs.replace(one, size=None) for one in found]
    told = _build(tmp_path / "told", found, interpreter)
    learnt = _build(tmp_path / "learnt", unknown, interpreter)
    assert [part.info for part in told] == [part.info for part in learnt]
    assert len(told) == 2


def test_wheels_that_fight_over_a_path_are_both_named(tmp_path: Path, wheels: Path, interpreter: Interpreter) -> None:
    """Different content for one path is an error, in one layer, in two layers, and when both layers are reused."""
    small = [locked(write_wheel(wheels, name, files={"shared/x.py": f"{name}\n"})) for name in ("one", "two")]
    with pytest.raises(InputError, match=rf"one 1\.0 and two 1\.0 both install /{SITE}/shared/x\.py"):
        _build(tmp_path / "home", small, interpreter)
    large = [
        locked(write_wheel(wheels, name, files={"shared/x.py": f"{name}\n", name: os.urandom(30_000)}))
        for name in ("three", "four")
    ]
    for _ in range(2):
        with pytest.raises(InputError, match="both install"):
            _build(tmp_path / "home", large, interpreter)


def test_a_file_of_one_wheel_cannot_be_a_folder_of_another(
    tmp_path: Path, wheels: Path, interpreter: Interpreter
) -> None:
    """`shared` and `shared/x.py` exclude each other; both packages are named."""
    found = [
        locked(write_wheel(wheels, "one", files={"shared": "text"})),
        locked(write_wheel(wheels, "two", files={"shared/x.py": ""})),
    ]
    with pytest.raises(InputError, match=r"/shared is a file of one 1\.0 and a folder of two 1\.0"):
        _build(tmp_path / "home", found, interpreter)


def test_wheels_may_share_identical_files(tmp_path: Path, wheels: Path, interpreter: Interpreter) -> None:
    """Parts of a namespace that each bring the same `__init__.py` share a layer, where it stands once."""
    found = [
        locked(write_wheel(wheels, name, files={"space/__init__.py": "#\n", f"space/{name}.py": ""}))
        for name in ("one", "two")
    ]
    (part,) = _build(tmp_path / "home", found, interpreter)
    contents = _contents(tmp_path / "home", part)
    assert {f"{SITE}/space/one.py", f"{SITE}/space/two.py", f"{SITE}/space/__init__.py"} <= contents.keys()


@pytest.mark.parametrize("content", [b"", b"{}", b"not json"])
def test_a_damaged_listing_is_read_from_the_layer_again(
    tmp_path: Path, wheels: Path, interpreter: Interpreter, content: bytes
) -> None:
    """Conflicts are found even when the remembered lists of files are broken."""
    found = [
        locked(write_wheel(wheels, name, files={"shared/x.py": f"{name}\n", name: os.urandom(30_000)}))
        for name in ("one", "two")
    ]
    for _ in range(2):
        with pytest.raises(InputError, match="both install"):
            _build(tmp_path / "home", found, interpreter)
        for listing in (tmp_path / "home/cache/wheel-files").iterdir():
            listing.write_bytes(content)


def test_a_bad_wheel_leaves_no_layer(tmp_path: Path, wheels: Path, interpreter: Interpreter) -> None:
    """A wheel that is not what its RECORD says stops the build; the good ones beside it are kept for the next."""
    good = locked(write_wheel(wheels, "good", files={"good/data": os.urandom(30_000)}))
    bad = locked(
        write_wheel(wheels, "bad", files={"bad/data": b"x" * 10}, record={"bad/data": "sha256=" + "A" * 43 + ",10"})
    )
    with pytest.raises(IntegrityError, match=r"bad-1\.0-py3-none-any\.whl: bad/data has sha256"):
        _build(tmp_path / "home", [good, bad], interpreter, threads=1)
    store = Layout(tmp_path / "home/store")
    assert list(store.ingest.iterdir()) == []
    (part,) = _build(tmp_path / "home", [good], interpreter)
    assert [part.info.digest] == list(store.blobs())


def test_a_wheel_that_cannot_be_fetched_stops_the_build(tmp_path: Path, wheels: Path, interpreter: Interpreter) -> None:
    """No network means that it could not be built, and what was fetched stays."""
    here = locked(write_wheel(wheels, "here"))
    away = msgspec.structs.replace(locked(write_wheel(wheels, "away")), path=None, url="http://127.0.0.1:9/away.whl")
    with pytest.raises(NetworkError):
        _build(tmp_path / "home", [here, away], interpreter)


def test_a_missing_interpreter_stops_the_build(tmp_path: Path, wheels: Path, interpreter: Interpreter) -> None:
    """Without the image's interpreter there is no bytecode, and so no layer."""
    gone = msgspec.structs.replace(interpreter, rootfs=tmp_path / "gone")
    with pytest.raises(MissingToolError):
        _build(tmp_path / "home", [locked(write_wheel(wheels, "one"))], gone)


def test_nothing_of_a_wheel_is_run(tmp_path: Path, wheels: Path, interpreter: Interpreter) -> None:
    """Neither a `.pth` file nor a module of a wheel runs while it is built."""
    mark = tmp_path / "mark"
    evil = f"import os; open({str(mark)!r}, 'w').close()\n"
    files = {"evil.pth": evil, "sitecustomize.py": evil, "usercustomize.py": evil, "evil/__init__.py": evil}
    _build(tmp_path / "home", [locked(write_wheel(wheels, "evil", files=files))], interpreter)
    assert not mark.exists()


def test_no_wheels_make_no_layers(tmp_path: Path, interpreter: Interpreter) -> None:
    """A project without requirements has no Python layers."""
    assert _build(tmp_path / "home", [], interpreter) == ()


def test_disjoint_listings_pass() -> None:
    """Different paths, and equal content at one path, are no conflict."""
    one = wheel_files.Listing("one 1.0", {"a/b": "sha256=x", "a/c": "sha256=y"})
    two = wheel_files.Listing("two 1.0", {"a/b": "sha256=x", "a/d": "sha256=z"})
    wheel_files.require_disjoint([one, two])
