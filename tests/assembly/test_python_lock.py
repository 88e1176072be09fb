from pathlib import Path

import pytest
from little_wheels import write_project
from packaging.pylock import is_valid_pylock_path

from tidewaiter.assembly import python_lock, requirements, wheel_tags, wheel_target
from tidewaiter.core import limits
from tidewaiter.core import project as projects
from tidewaiter.core.errors import InputError, LimitError, NotFoundError, StaleLockError
from tidewaiter.core.project import Project

PYTHON = "3.11"
_HASHES = f'hashes = {{sha256 = "{"a" * 64}"}}'


def _project(tmp_path: Path, requirements: str) -> Project:
    return write_project(tmp_path / "project", requirements, python=PYTHON)


def _written(project: Project, packages: str, **changes: str) -> python_lock.PythonLock:
    """The lock of `project` with these packages, read as a build does."""
    origin = {
        "requirements-sha256": requirements.sha256(project),
        "python": PYTHON,
        "platform": "x86_64-manylinux_2_36",
        "uv": "0.13.9",
    } | {key.replace("_", "-"): value for key, value in changes.items()}
    table = "".join(f'{key} = "{value}"\n' for key, value in origin.items())
    head = 'lock-version = "1.0"\ncreated-by = "uv"\n'
    project.python_lock.write_text(f"{head}{packages}\n[tool.tidewaiter]\n{table}")
    return python_lock.read(project)


_ONE = "app-1.0-py3-none-any.whl"


def _package(name: str, *files: str, marker: str = "", size: int = 10, more: str = "") -> str:
    wheels = ",".join(
        f'{{url = "https://example.org/{one}", size = {size}, hashes = {{sha256 = "{"a" * 64}"}}}}' for one in files
    )
    listed = f"wheels = [{wheels}]\n" if files else ""
    quoted = f"marker = {marker!r}\n" if marker else ""
    return f'[[packages]]\nname = "{name}"\nversion = "1.0"\n{quoted}{listed}{more}\n'


def test_the_best_wheel_is_taken(tmp_path: Path) -> None:
    """The newest glibc that the base has, before abi3, before pure Python; what cannot run is passed over."""
    project = _project(tmp_path, "app\n")
    offered = [
        "app-1.0-py3-none-any.whl",
        "app-1.0-cp39-abi3-manylinux2014_x86_64.whl",
        "app-1.0-cp311-cp311-manylinux1_x86_64.whl",
        "app-1.0-cp311-cp311-manylinux_2_28_x86_64.whl",
        "app-1.0-cp311-cp311-manylinux_2_39_x86_64.whl",
        "app-1.0-cp312-cp312-manylinux_2_28_x86_64.whl",
        "app-1.0-cp311-cp311-manylinux_2_28_aarch64.whl",
        "app-1.0-cp311-cp311-musllinux_1_2_x86_64.whl",
    ]
    for best in (offered[3], offered[2], offered[1], offered[0]):
        (wheel,) = _written(project, _package("app", *offered)).wheels
        assert wheel.filename == best
        offered.remove(best)
    with pytest.raises(InputError, match="'app'"):
        _written(project, _package("app", *offered))


def test_markers_decide_for_the_image_not_for_this_machine(tmp_path: Path) -> None:
    """A package for Windows or another Python is left out, whatever machine builds."""
    project = _project(tmp_path, "app\n")
    lock = _written(
        project,
        _package("linux", "linux-1.0-py3-none-any.whl", marker="sys_platform == 'linux' and python_version == '3.11'")
        + _package("windows", "windows-1.0-py3-none-any.whl", marker="sys_platform == 'win32'")
        + _package("newer", "newer-1.0-py3-none-any.whl", marker="python_version >= '3.12'"),
    )
    assert [wheel.name for wheel in lock.wheels] == ["linux"]


@pytest.mark.parametrize(
    ("package", "message"),
    [
        (
            _package("app", more=f'sdist = {{url = "http://e.org/app-1.0.tar.gz", {_HASHES}}}'),
            "only a source distribution",
        ),
        (
            _package("app", more='vcs = {type = "git", url = "https://e.org/app", commit-id = "a"}'),
            "folder or repository",
        ),
        (_package("app", more=f'archive = {{url = "https://e.org/app-1.0.zip", {_HASHES}}}'), "source archive"),
        (
            _package("app", more=f'archive = {{url = "http://e.org/app-1.0-cp312-cp312-win32.whl", {_HASHES}}}'),
            "something else",
        ),
        (_package("app", _ONE).replace("sha256", "md5"), "no SHA-256"),
        (_package("app", _ONE).replace("a" * 64, "short"), "no SHA-256"),
        (_package("app", _ONE).replace("https", "file"), "not an http"),
        (_package("app", _ONE).replace('url = "https://example.org/', 'path = "../'), "outside the project"),
        (_package("app", _ONE, size=0), "said to have 0 bytes"),
        (_package("app", _ONE, size=limits.WHEEL_BYTES + 1), "said to have"),
        (_package("app", "other-1.0-py3-none-any.whl"), "not consistent"),
        (_package("app", _ONE) * 2, "Multiple packages"),
        ('[[packages]]\nname = "App"\n', "PEP 751"),
        ("nonsense", "not TOML"),
        ('lock-version = "1.0"\n', "not TOML"),
    ],
)
def test_locks_that_cannot_be_built_are_refused(tmp_path: Path, package: str, message: str) -> None:
    """A lock that names no usable, verifiable wheel is an error that names lock, package and reason."""
    with pytest.raises(InputError, match=rf"pylock\.toml.*{message}"):
        _written(_project(tmp_path, "app\n"), package)


def test_a_lock_of_another_format_version_is_refused(tmp_path: Path) -> None:
    """`lock-version` 2 may mean anything."""
    project = _project(tmp_path, "app\n")
    _written(project, _package("app", "app-1.0-py3-none-any.whl"))
    project.python_lock.write_text(project.python_lock.read_text().replace('"1.0"', '"2.0"', 1))
    with pytest.raises(InputError, match="not supported"):
        python_lock.read(project)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"requirements_sha256": "b" * 64}, "the requirements changed"),
        ({"python": "3.12"}, r"\[python\] version changed from 3\.12 to 3\.11"),
        ({"platform": "x86_64-manylinux_2_28"}, "the platform changed"),
    ],
)
def test_a_stale_lock_names_the_command_that_refreshes_it(tmp_path: Path, change: dict[str, str], message: str) -> None:
    """A lock made from something else is refused and says what changed and what to run."""
    project = _project(tmp_path, "app\n")
    with pytest.raises(StaleLockError, match=message) as caught:
        _written(project, _package("app", "app-1.0-py3-none-any.whl"), **change)
    assert f"tidewaiter lock {project.directory}" in caught.value.next_step


def test_changed_requirements_make_the_lock_stale(tmp_path: Path) -> None:
    """Any byte of the requirements, or of a file that they include, counts."""
    project = _project(tmp_path, "app\n-r more.txt\n-c=limits/constraints.txt\n")
    (project.directory / "more.txt").write_text("lib\n")
    (project.directory / "limits").mkdir()
    (project.directory / "limits/constraints.txt").write_text("lib<2\n")
    packages = _package("app", "app-1.0-py3-none-any.whl")
    _written(project, packages)
    for name in ("requirements.in", "more.txt", "limits/constraints.txt"):
        file = project.directory / name
        before = file.read_text()
        file.write_text(before + "# changed\n")
        with pytest.raises(StaleLockError):
            python_lock.read(project)
        file.write_text(before)
        assert python_lock.read(project).wheels


def test_a_lock_of_somebody_else_is_stale(tmp_path: Path) -> None:
    """Without [tool.tidewaiter] nobody knows what it was made from; a malformed table is no better."""
    project = _project(tmp_path, "app\n")
    head = 'lock-version = "1.0"\ncreated-by = "pip"\npackages = []\n'
    for table in ("", '[tool.tidewaiter]\npython = "3.11"\n', "[tool]\ntidewaiter = 1\n"):
        project.python_lock.write_text(head + table)
        with pytest.raises(StaleLockError):
            python_lock.read(project)


def test_what_a_lock_was_read_as_is_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second reading is the first one's answer, without reading the document; damage and other locks are seen."""
    project = _project(tmp_path, "app\n")
    lock = _written(project, _package("app", _ONE))
    memory = tmp_path / "memory"
    assert python_lock.read(project, known=memory) == lock
    (note,) = memory.iterdir()

    def forbidden(*_: object) -> None:
        raise AssertionError("the document is read again")

    with monkeypatch.context() as patched:
        patched.setattr(python_lock, "parse", forbidden)
        assert python_lock.read(project, known=memory) == lock
        # What the lock was made from is compared every time.
        project.requirements.write_text("other\n")
        with pytest.raises(StaleLockError, match="the requirements changed"):
            python_lock.read(project, known=memory)
        project.requirements.write_text("app\n")
        note.write_bytes(note.read_bytes().replace(b"a" * 64, b"b" * 64))
        with pytest.raises(AssertionError, match="read again"):
            python_lock.read(project, known=memory)
    assert python_lock.read(project, known=memory) == lock
    changed = _written(project, _package("app", _ONE).replace("a" * 64, "b" * 64))
    assert python_lock.read(project, known=memory) == changed != lock
    assert len(list(memory.iterdir())) == 2


def test_a_missing_lock_is_not_found(tmp_path: Path) -> None:
    """The caller decides whether to resolve."""
    with pytest.raises(NotFoundError, match=r"pylock\.toml does not exist"):
        python_lock.read(_project(tmp_path, "app\n"))


def test_missing_requirements_are_named(tmp_path: Path) -> None:
    """A typing mistake in [python] requirements, or in an include, gives the file's name."""
    project = _project(tmp_path, "-r nothing.txt\n")
    with pytest.raises(NotFoundError, match=r"nothing\.txt"):
        requirements.sha256(project)
    project.requirements.unlink()
    with pytest.raises(NotFoundError, match=r"requirements\.in"):
        requirements.sha256(project)


@pytest.mark.parametrize("include", ["-r ../other.txt", "-c /etc/passwd", "--requirement https://example.org/r.txt"])
def test_includes_outside_the_project_are_refused(tmp_path: Path, include: str) -> None:
    """What a lock depends on must be in the project's commit."""
    with pytest.raises(InputError, match="not a file below its folder"):
        requirements.sha256(_project(tmp_path, include + "\n"))


def test_sizes_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`LOCK_FILE_BYTES` and `PYTHON_PACKAGES` are taken, one more is not."""
    project = _project(tmp_path, "app\n")
    packages = _package("app", "app-1.0-py3-none-any.whl") + _package("lib", "lib-1.0-py3-none-any.whl")
    _written(project, packages)
    size = project.python_lock.stat().st_size
    monkeypatch.setattr(limits, "LOCK_FILE_BYTES", size)
    monkeypatch.setattr(limits, "PYTHON_PACKAGES", 2)
    python_lock.read(project)
    monkeypatch.setattr(limits, "PYTHON_PACKAGES", 1)
    with pytest.raises(LimitError, match="2 packages"):
        python_lock.read(project)
    monkeypatch.setattr(limits, "LOCK_FILE_BYTES", size - 1)
    with pytest.raises(LimitError, match="is over"):
        python_lock.read(project)


def test_the_digest_names_what_is_installed(tmp_path: Path) -> None:
    """Another hash changes the digest; another mirror, or upload times, do not."""
    project = _project(tmp_path, "app\n")
    package = _package("app", "app-1.0-py3-none-any.whl")
    digest = python_lock.digest(_written(project, package))
    assert python_lock.digest(_written(project, package.replace("example.org", "mirror.example.net"))) == digest
    assert python_lock.digest(_written(project, package.replace("a" * 64, "b" * 64))) != digest
    assert python_lock.digest(_written(project, package, uv="9.9.9")) == digest


def test_the_example_is_locked() -> None:
    """The committed lock of examples/mnist belongs to its requirements and brings TensorFlow for Python 3.11."""
    lock = python_lock.read(projects.load(Path(__file__).parents[2] / "examples/mnist"))
    tensorflow = next(wheel for wheel in lock.wheels if wheel.name == "tensorflow-cpu")
    assert "cp311" in tensorflow.filename
    assert all(wheel.size for wheel in lock.wheels)


def test_the_number_of_included_files_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`REQUIREMENT_FILES` files are read, one more is not; a circle of includes is read once."""
    project = _project(tmp_path, "-r one.txt\n")
    (project.directory / "one.txt").write_text("-r requirements.in\n-r two.txt\n")
    (project.directory / "two.txt").write_text("app\n")
    monkeypatch.setattr(limits, "REQUIREMENT_FILES", 3)
    assert [name for name, _ in requirements.files(project)] == ["requirements.in", "one.txt", "two.txt"]
    monkeypatch.setattr(limits, "REQUIREMENT_FILES", 2)
    with pytest.raises(LimitError, match="more than 2 files"):
        requirements.sha256(project)


def _sections(project: Project, more: str, *, section: str = "python") -> Project:
    """The same project with `more` in one of its sections."""
    text = project.path.read_text().replace(f"[{section}]\n", f"[{section}]\n{more}\n")
    project.path.write_text(text)
    return projects.load(project.directory)


def test_each_architecture_has_its_own_lock(tmp_path: Path) -> None:
    """`pylock.arm64.toml` (a name of PEP 751) holds wheels for arm64 and is no lock for amd64."""
    project = _project(tmp_path, "app\n")
    arm = python_lock.target_of(project, "arm64")
    packages = _package("app", "app-1.0-cp311-cp311-manylinux2014_aarch64.whl", "app-1.0-py3-none-any.whl")
    machine = _package("helper", "helper-1.0-py3-none-any.whl", marker="platform_machine == 'aarch64'")
    path = project.python_lock_for("arm64")
    _written(project, _package("app", _ONE))
    text = (
        project.python_lock.read_text().replace("x86_64", "aarch64").replace(_package("app", _ONE), packages + machine)
    )
    path.write_text(text)
    assert path.name == "pylock.arm64.toml"
    assert is_valid_pylock_path(path)
    lock = python_lock.read(project, arm)
    assert [wheel.filename for wheel in lock.wheels] == [
        "app-1.0-cp311-cp311-manylinux2014_aarch64.whl",
        "helper-1.0-py3-none-any.whl",
    ]
    assert lock.path == path
    project.python_lock.write_text(text)
    with pytest.raises(StaleLockError, match="the platform changed") as caught:
        python_lock.read(project)
    assert "--platform" not in caught.value.next_step
    path.unlink()
    with pytest.raises(NotFoundError, match=r"pylock\.arm64\.toml") as missing:
        python_lock.read(project, arm)
    assert "--platform linux/arm64" in missing.value.next_step


def test_an_unknown_architecture_is_refused(tmp_path: Path) -> None:
    """Wheels are chosen for amd64 and arm64."""
    with pytest.raises(InputError, match="riscv64"):
        wheel_tags.target_tags(python_lock.target_of(_project(tmp_path, "app\n"), "riscv64"))


def test_old_manylinux_names_are_those_of_the_architecture() -> None:
    """manylinux1 and 2010 were never for aarch64."""
    tags = {str(tag) for tag in wheel_tags.target_tags(wheel_target.Target("3.11", "arm64"))}
    assert "cp311-cp311-manylinux2014_aarch64" in tags
    assert "cp311-cp311-manylinux_2_17_aarch64" in tags
    assert not [tag for tag in tags if "2010" in tag or "x86" in tag or "manylinux_2_5_" in tag]


def test_other_indexes_make_the_lock_stale(tmp_path: Path) -> None:
    """Who changes where a package comes from has to resolve again; the order of names does not matter."""
    project = _project(tmp_path, "app\n")
    _written(project, _package("app", _ONE))
    changed = _sections(
        project, 'indexes = [{name = "co", url = "https://py.example.org/simple", packages = ["b", "A.a"]}]'
    )
    with pytest.raises(StaleLockError, match="the indexes or build requirements changed"):
        python_lock.read(changed)
    target = python_lock.target_of(changed)
    origin = python_lock.origin_of(changed, target, "0.13.9")
    assert origin.sources_sha256
    changed.path.write_text(changed.path.read_text().replace('["b", "A.a"]', '["a-a", "B"]'))
    assert python_lock.origin_of(projects.load(changed.directory), target, "0.13.9") == origin


_SDIST = f'sdist = {{url = "https://e.org/app-1.0.tar.gz", size = 9, hashes = {{sha256 = "{"b" * 64}"}}}}\n'
_SETUPTOOLS = "setuptools-80.0-py3-none-any.whl"
_REQUIRES = (
    f'{{ name = "setuptools", version = "80.0", filename = "{_SETUPTOOLS}", sha256 = "{"d" * 64}", size = 5, '
    f'url = "https://e.org/{_SETUPTOOLS}" }}'
)
_BUILT = f'tool.tidewaiter = {{ wheel = "{_ONE}", sha256 = "{"c" * 64}", size = 7, requires = [{_REQUIRES}] }}\n'


def test_a_recorded_build_is_locked(tmp_path: Path) -> None:
    """A package without wheels is locked as the wheel that was built, with all that it was built from."""
    project = _sections(_project(tmp_path, "app\n"), 'build = ["App"]')
    sources = python_lock.origin_of(project, python_lock.target_of(project), "").sources_sha256
    lock = _written(project, _package("app", more=_SDIST + _BUILT), sources_sha256=sources)
    (wheel,) = lock.wheels
    assert (wheel.filename, wheel.sha256, wheel.url) == (_ONE, "c" * 64, None)
    assert wheel.built is not None
    assert wheel.built.sdist.filename == "app-1.0.tar.gz"
    assert [one.filename for one in wheel.built.requires] == ["setuptools-80.0-py3-none-any.whl"]
    for broken, message in (
        (_SDIST, "only a source distribution"),
        (_SDIST.replace("tar.gz", "exe") + _BUILT, "Invalid sdist filename"),
        (_SDIST.replace("https", "file") + _BUILT, "not an http"),
        (_SDIST + _BUILT.replace("py3-none-any", "cp312-cp312-win32", 1), "something else"),
        (_SDIST + _BUILT.replace("size = 7", 'size = "x"'), "malformed"),
        (_SDIST + _BUILT.replace("d" * 64, "short"), "no SHA-256"),
    ):
        with pytest.raises(InputError, match=message):
            _written(project, _package("app", more=broken), sources_sha256=sources)


def test_a_recorded_build_needs_the_permission_of_the_project(tmp_path: Path) -> None:
    """Nothing is built from source that `[python] build` does not name, whatever a lock says."""
    project = _project(tmp_path, "app\n")
    with pytest.raises(InputError, match="only a source distribution") as caught:
        _written(project, _package("app", more=_SDIST + _BUILT))
    assert 'build = ["app"]' in caught.value.next_step
