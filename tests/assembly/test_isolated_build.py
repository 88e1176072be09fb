"""Source builds in the real sandbox: a root file system around this test's own Python, backends that misbehave."""

import hashlib
import os
import shutil
import zipfile
from pathlib import Path

import pytest
from little_projects import backend, build_root, pyproject, write_sdist
from little_wheels import VERSION, locked, write_wheel

from servers import Tool
from tidewaiter.assembly import isolated_build
from tidewaiter.assembly.bytecode import Interpreter
from tidewaiter.assembly.isolated_build import Distribution, Sandbox
from tidewaiter.core import limits
from tidewaiter.core.errors import DeadlineError, InputError, IntegrityError, MissingToolError, UndeterminedError


@pytest.fixture(scope="module")
def interpreter(tmp_path_factory: pytest.TempPathFactory, tool: Tool) -> Interpreter:
    """This test's Python as the base's; nothing else of this machine is in it."""
    tool("bwrap")
    return build_root(tmp_path_factory.mktemp("rootfs") / "root")


def _sandbox(tmp_path: Path, archive: Path, interpreter: Interpreter, name: str = "one") -> Sandbox:
    folder = tmp_path / f"scratch-{name}"
    folder.mkdir()
    return Sandbox(archive, folder, interpreter=interpreter, what="app 1.0")


def _build(tmp_path: Path, archive: Path, interpreter: Interpreter, name: str = "one") -> tuple[Distribution, Path]:
    target = tmp_path / f"built-{name}"
    target.mkdir()
    found = _sandbox(tmp_path, archive, interpreter, name).build(target)
    return found, target / found.filename


def _printed(tmp_path: Path, interpreter: Interpreter, expression: str) -> str:
    """What `expression` is inside of the sandbox."""
    source = backend("app", "1.0", content=f"str({expression})")
    _, path = _build(tmp_path, write_sdist(tmp_path, "app", source=source), interpreter)
    with zipfile.ZipFile(path) as wheel:
        return wheel.read("app/__init__.py").decode()


def test_a_source_becomes_a_wheel(tmp_path: Path, interpreter: Interpreter) -> None:
    """The source's own backend builds it; the wheel is one that installs."""
    found, path = _build(tmp_path, write_sdist(tmp_path, "app"), interpreter)
    assert (found.name, found.version, found.filename) == ("app", "1.0", "app-1.0-py3-none-any.whl")
    assert b"Name: app" in found.metadata
    with zipfile.ZipFile(path) as wheel:
        assert wheel.read("app/__init__.py") == b"VALUE = 1\n"


@pytest.mark.thorough
def test_the_same_source_gives_the_same_bytes(tmp_path: Path, interpreter: Interpreter) -> None:
    """Times, order of files and hash seed of a build do not reach the wheel."""
    source = backend("app", "1.0", before="import time; time.sleep(1.1)", content="str(list({'a', 'b', 'c', 'd'}))")
    archive = write_sdist(tmp_path, "app", source=source)
    hashes = {
        hashlib.sha256(_build(tmp_path, archive, interpreter, name)[1].read_bytes()).hexdigest() for name in ("a", "b")
    }
    assert len(hashes) == 1
    with zipfile.ZipFile(tmp_path / "built-a/app-1.0-py3-none-any.whl") as wheel:
        assert {info.date_time for info in wheel.infolist()} == {(1980, 1, 1, 0, 0, 0)}
        assert wheel.namelist() == sorted(wheel.namelist())


def test_nothing_of_this_machine_is_inside(
    tmp_path: Path, interpreter: Interpreter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No variable, no file, no user and no other process of this machine is seen."""
    monkeypatch.setenv("TIDEWAITER_INDEX_CO_PASSWORD", "hidden")
    (tmp_path / "key").write_text("hidden")
    seen = _printed(
        tmp_path,
        interpreter,
        f"[dict(os.environ), sorted(os.listdir('/')), os.path.exists({str(tmp_path / 'key')!r}), os.getuid(), "
        "len([one for one in os.listdir('/proc') if one.isdecimal()])]",
    )
    variables, folders, key, user, processes = eval(seen)  # our own expression's value
    assert "hidden" not in seen
    assert set(variables) - {"PWD"} == {
        "PATH", "PYTHONPATH", "PYTHONHASHSEED", "PYTHONDONTWRITEBYTECODE", "SOURCE_DATE_EPOCH", "HOME", "TMPDIR",
        "LC_ALL", "TZ",
    }  # fmt: skip
    assert set(folders) == {"build", "dev", "lib64", "proc", "requirements", "tidewaiter", "tmp", "usr"}
    assert not key
    assert user == 65532
    assert processes <= 3


@pytest.mark.parametrize(
    ("statement", "error"),
    [
        ("import socket; socket.create_connection(('127.0.0.1', 1), 2)", "OSError|refused|unreachable"),
        ("import socket; socket.getaddrinfo('pypi.org', 443)", "gaierror"),
        ("open('/usr/stain', 'w')", "Read-only|PermissionError"),
        ("open('/requirements/stain', 'w')", "Read-only|PermissionError"),
        ("open('/tidewaiter/child.py', 'a')", "Read-only|PermissionError"),
        ("bytearray(6 << 30)", "MemoryError"),
        ("sys.exit(3)", "SystemExit: 3"),
        ("raise ValueError('no')", "ValueError: no"),
    ],
)
def test_a_build_reaches_nothing(tmp_path: Path, interpreter: Interpreter, statement: str, error: str) -> None:
    """No network, nothing to write to outside of its folder; its failure is named."""
    archive = write_sdist(tmp_path, "app", source=backend("app", "1.0", before=statement))
    with pytest.raises(InputError, match=rf"app 1\.0 cannot be built: .*({error})") as caught:
        _build(tmp_path, archive, interpreter)
    assert caught.value.code == "build_failed"


def test_a_build_has_a_deadline(tmp_path: Path, interpreter: Interpreter, monkeypatch: pytest.MonkeyPatch) -> None:
    """`SOURCE_BUILD_SECONDS` pass, then it is ended with all its processes."""
    monkeypatch.setattr(limits, "SOURCE_BUILD_SECONDS", 1)
    archive = write_sdist(tmp_path, "app", source=backend("app", "1.0", before="import time; time.sleep(77)"))
    with pytest.raises(DeadlineError, match="more than 1 s"):
        _build(tmp_path, archive, interpreter)
    alive = [path for path in Path("/proc").glob("[0-9]*/cmdline") if _reads(path, "/tidewaiter/child.py")]
    assert alive == []


def _reads(path: Path, word: str) -> bool:
    try:
        return word.encode() in path.read_bytes() and os.getpid() != int(path.parent.name)
    except OSError:
        return False


def test_what_a_build_writes_is_bounded(
    tmp_path: Path, interpreter: Interpreter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its folder holds `SOURCE_BUILD_BYTES`, and a wheel may have `SOURCE_WHEEL_BYTES`."""
    monkeypatch.setattr(limits, "SOURCE_BUILD_BYTES", 4 * limits.MIB)
    filling = backend("app", "1.0", before="open('/build/much', 'wb').write(bytes(5 << 20))")
    with pytest.raises(InputError, match="No space left"):
        _build(tmp_path, write_sdist(tmp_path, "app", source=filling), interpreter)
    archive = write_sdist(tmp_path, "app")
    found, path = _build(tmp_path, archive, interpreter, "two")
    monkeypatch.setattr(limits, "SOURCE_WHEEL_BYTES", path.stat().st_size // 2)
    with pytest.raises((InputError, UndeterminedError)):
        _build(tmp_path, archive, interpreter, "three")
    assert found.filename == path.name


def test_an_archive_is_bounded(tmp_path: Path, interpreter: Interpreter, monkeypatch: pytest.MonkeyPatch) -> None:
    """`SOURCE_MEMBERS` files are unpacked, one more is not."""
    archive = write_sdist(tmp_path, "app")
    monkeypatch.setattr(limits, "SOURCE_MEMBERS", 2)
    _build(tmp_path, archive, interpreter, "two")
    monkeypatch.setattr(limits, "SOURCE_MEMBERS", 1)
    with pytest.raises(InputError, match="more than 1 files"):
        _build(tmp_path, archive, interpreter, "one")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tag": "cp311-cp311-linux_x86_64"}, "holds compiled code"),
        ({"before": "return '../../x.whl'"}, "says that it wrote"),
        ({"before": "return 'app-1.0-py3-none-any.whl'"}, "not a readable zip"),
        ({"before": "import subprocess; subprocess.run(['gcc', 'x.c'], check=True)"}, "needs a compiler"),
        ({"requires": "X: y\n", "before": "raise SystemExit('error: command gcc failed: No such file')"}, "a compiler"),
    ],
)
def test_what_gives_no_pure_wheel_is_refused(
    tmp_path: Path, interpreter: Interpreter, change: dict[str, str], message: str
) -> None:
    """Compiled code, names that lead elsewhere, missing files and missing compilers are each named."""
    archive = write_sdist(tmp_path, "app", source=backend("app", "1.0", **change))
    with pytest.raises(InputError, match=message):
        _build(tmp_path, archive, interpreter)


def test_a_wheel_that_lies_is_refused(tmp_path: Path, interpreter: Interpreter) -> None:
    """What its RECORD says is held against its files."""
    lying = backend("app", "1.0").replace("sha256={digest}", "sha256=AAAA{digest[4:]}")
    with pytest.raises(IntegrityError):
        _build(tmp_path, write_sdist(tmp_path, "app", source=lying), interpreter)


@pytest.mark.parametrize(
    "files",
    [
        {"pyproject.toml": "nonsense"},
        {"pyproject.toml": "[build-system]\n"},
        {"pyproject.toml": '[build-system]\nrequires = []\nbuild-backend = "none_such"\n'},
        {"pyproject.toml": '[build-system]\nrequires = []\nbuild-backend = "os"\nbackend-path = ["../../.."]\n'},
        {"../../outside": "x"},
        {"setup.py": ""},
    ],
)
def test_broken_sources_are_bad_input(tmp_path: Path, interpreter: Interpreter, files: dict[str, str]) -> None:
    """A source without a usable backend, or that leaves its folder, is refused by name."""
    with pytest.raises(InputError, match=r"app 1\.0 cannot be built"):
        _build(tmp_path, write_sdist(tmp_path, "app", files=files), interpreter)


def test_build_requirements_are_those_given(tmp_path: Path, interpreter: Interpreter) -> None:
    """The backend comes from wheels that are given, and from nowhere else; it may ask for more."""
    helper = write_wheel(tmp_path, "own_backend", files={"own_backend.py": backend("app", "1.0", wanted="['more>=2']")})
    system = '[build-system]\nrequires = ["own-backend"]\nbuild-backend = "own_backend"\n'
    archive = write_sdist(tmp_path, "app", files={"pyproject.toml": system})
    sandbox = _sandbox(tmp_path, archive, interpreter)
    assert sandbox.requires() == ("own-backend",)
    with pytest.raises(InputError, match="No module named 'own_backend'"):
        sandbox.all_requires()
    sandbox.install([(locked(helper), helper)])
    assert sandbox.all_requires() == ("own-backend", "more>=2")
    assert sandbox.build(tmp_path).name == "app"


def test_a_source_without_pyproject_asks_for_setuptools(tmp_path: Path, interpreter: Interpreter) -> None:
    """As PEP 517 says of what was made before it."""
    archive = write_sdist(tmp_path, "app", files={"setup.py": ""})
    assert _sandbox(tmp_path, archive, interpreter).requires() == ("setuptools >= 40.8.0",)


def test_a_zip_is_a_source_too(tmp_path: Path, interpreter: Interpreter) -> None:
    """Old source distributions are zip files."""
    archive = tmp_path / "app-1.0.zip"
    with zipfile.ZipFile(archive, "w") as written:
        written.writestr("app-1.0/pyproject.toml", pyproject("app", "1.0"))
        written.writestr("app-1.0/own_backend.py", backend("app", "1.0"))
    assert _build(tmp_path, archive, interpreter)[0].name == "app"


def test_without_bwrap_nothing_is_built(
    tmp_path: Path, interpreter: Interpreter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There is no build outside of the sandbox; the error says what to install."""
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingToolError, match="bwrap") as caught:
        _build(tmp_path, write_sdist(tmp_path, "app"), interpreter)
    assert "bubblewrap" in caught.value.next_step


def test_a_sandbox_that_does_not_start_is_not_a_no(tmp_path: Path, interpreter: Interpreter) -> None:
    """A base whose interpreter does not run says nothing of the source."""
    root = tmp_path / "root"
    shutil.copytree(interpreter.rootfs, root, symlinks=True, ignore=lambda _, names: {f"python{VERSION}"} & set(names))
    broken = Interpreter(rootfs=root, version=VERSION, identity=interpreter.identity)
    with pytest.raises(UndeterminedError, match="could not be built in the sandbox"):
        _build(tmp_path, write_sdist(tmp_path, "app"), broken)


def test_requirements_are_held_against_wheels(tmp_path: Path) -> None:
    """Versions, markers and extras count; what is malformed is bad input."""
    have = [locked(write_wheel(tmp_path, "lib", version="2.0"))]
    wanted = ["lib>=2", "Lib<2", "other", "other; python_version < '3'", "extra; extra == 'x'", "lib[x]"]
    assert isolated_build.unsatisfied(wanted, have) == ["Lib<2", "other"]
    with pytest.raises(InputError, match="malformed"):
        isolated_build.unsatisfied(["=="], have)
