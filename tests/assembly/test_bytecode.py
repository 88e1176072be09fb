import importlib.util
import marshal
import os
import subprocess
import sys
import threading
import time
from functools import partial
from pathlib import Path
from types import CodeType
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from little_wheels import VERSION, write_rootfs

from tidewaiter.assembly import bytecode_child
from tidewaiter.assembly.bytecode import Interpreter, bytecode_path
from tidewaiter.assembly.bytecode_compiler import compile_source, stable_dumps
from tidewaiter.assembly.bytecode_processes import Compiler, compile_tree
from tidewaiter.core import limits
from tidewaiter.core.errors import DeadlineError, InputError, IntegrityError, MissingToolError, UndeterminedError

SOURCE = b'''
"""A module that uses every kind of constant."""
import os.path as path
LARGE = 123456789012345678901234567890
NEGATIVE = -(2 ** 70)
NUMBERS = (1, 2.5, 3j, None, True, ..., b"bytes", "text", "\\u00e9", "e", "\\U0001f600", "\\ud800", "", b"")
class Thing:
    """Has a method."""
    def method(self, a, /, b=1, *args, c: int = 2, **rest):
        def inner():
            nonlocal a
            return [x for x in rest if x in {"one", "two", ("three", 4)}]
        try:
            return inner() or f"{a!r:>{b}} and {c}"
        except* ValueError:
            raise
'''


@pytest.fixture(scope="module")
def interpreter(tmp_path_factory: pytest.TempPathFactory) -> Interpreter:
    return write_rootfs(tmp_path_factory.mktemp("rootfs") / "root")


def _same(left: CodeType, right: CodeType) -> bool:
    pairs = zip(left.co_consts, right.co_consts, strict=True)
    nested = all(_same(a, b) if isinstance(a, CodeType) else a == b or a != a for a, b in pairs)  # noqa: PLR0124  # NaN
    return left == right and nested and left.co_linetable == right.co_linetable


def test_the_path_of_bytecode_follows_pep_3147() -> None:
    """Bytecode lies in `__pycache__` beside its source, tagged with the interpreter."""
    assert bytecode_path("/a/b.py", "3.11") == "/a/__pycache__/b.cpython-311.pyc"


def test_stable_marshal_data_loads_to_the_same_code() -> None:
    """What is written is the code that was compiled."""
    code = compile(SOURCE, "/x.py", "exec", dont_inherit=True)
    assert _same(marshal.loads(stable_dumps(code)), code)  # our own bytes


def test_stable_marshal_data_does_not_depend_on_owners() -> None:
    """Objects that somebody else holds while they are written give the same bytes as objects nobody holds."""

    def held(code: CodeType) -> list[object]:
        kept: list[object] = [code, code.co_code, code.co_linetable, code.co_consts, *code.co_consts]
        for constant in code.co_consts:
            if isinstance(constant, CodeType):
                kept += held(constant)
        return kept

    first = compile(SOURCE, "/x.py", "exec", dont_inherit=True)
    lonely = marshal.dumps(first)
    second = compile(SOURCE, "/x.py", "exec", dont_inherit=True)
    kept = held(second)
    crowded = marshal.dumps(second)
    assert kept
    assert lonely != crowded  # otherwise this test would show nothing
    assert stable_dumps(first) == stable_dumps(second)


_FRESH = (
    "import sys; sys.path.insert(0, sys.argv[1]); from bytecode_compiler import compile_source\n"
    "if sys.argv[3]: compile_source(sys.argv[3].encode(), '/other.py'); exec(sys.argv[3])\n"
    "sys.stdout.buffer.write(compile_source(sys.argv[2].encode(), '/x.py'))"
)


@pytest.mark.parametrize(
    ("source", "earlier"),
    [
        ("x = '\u00e9'", "\u00e9 = 1"),
        ("x = y in {('some_name', 1), ('other_nam', 1)}", "other_nam = 1"),
        ("def f(some_name): return 'third_name'", "some_name = 1\ndef third_name(): other_name = 1"),
    ],
    ids=["characters", "sets", "names"],
)
def test_bytecode_does_not_depend_on_what_was_interned_before(source: str, earlier: str) -> None:
    """Strings that an earlier source made known to the whole process give the same bytes as new ones."""
    folder = str(Path(bytecode_child.__file__).parent)
    outputs = {
        subprocess.run([sys.executable, "-c", _FRESH, folder, source, before], capture_output=True, check=True).stdout
        for before in ("", earlier)
    }
    assert len(outputs) == 1


_CONSTANTS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary() | st.just(...),
    lambda inner: st.lists(inner, max_size=4).map(tuple) | st.frozensets(inner, max_size=4),
    max_leaves=30,
)


@given(_CONSTANTS)
def test_every_constant_survives(value: Any) -> None:
    """Whatever may stand among a code object's constants is written, and writing the copy gives the same bytes."""
    code = compile("x", "/x.py", "exec").replace(co_consts=(value,))
    once = stable_dumps(code)
    assert marshal.loads(once).co_consts == (value,)  # our own bytes
    assert stable_dumps(marshal.loads(once)) == once


def test_bytecode_runs_and_names_its_final_path(interpreter: Interpreter) -> None:
    """The `.pyc` has an unchecked-hash header, and its code the path where the image will have the source."""
    path = "/usr/local/lib/python/sample.py"
    (compiled,) = compile_tree(interpreter, [(path, SOURCE)], threads=1).values()
    assert compiled[:4] == importlib.util.MAGIC_NUMBER
    assert int.from_bytes(compiled[4:8], "little") == 0b01
    assert compiled[8:16] == importlib.util.source_hash(SOURCE)
    code = marshal.loads(compiled[16:])  # our own bytes
    assert code.co_filename == path
    namespace: dict[str, object] = {"__name__": "sample"}
    exec(code, namespace)  # our own code
    assert namespace["LARGE"] == 123456789012345678901234567890


def test_bytecode_does_not_depend_on_order_processes_or_environment(
    interpreter: Interpreter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One process or three, forwards or backwards, whatever the caller's hash seed: the same bytes."""
    folder = interpreter.rootfs / f"usr/lib/python{VERSION}"
    sources = [(f"/usr/lib/{one.name}", one) for one in sorted(folder.glob("*.py"))[:40]] + [("/own.py", SOURCE)]
    forwards = compile_tree(interpreter, sources, threads=1)
    monkeypatch.setenv("PYTHONHASHSEED", "4242")
    monkeypatch.setenv("PYTHONOPTIMIZE", "2")
    backwards = compile_tree(interpreter, sources[::-1], threads=3)
    assert len(forwards) == len(sources)
    assert forwards == backwards


def test_hash_seeds_do_not_change_bytecode() -> None:
    """Even if the seed were not fixed, sets of constants would be written alike."""
    program = (
        "import sys; sys.path.insert(0, sys.argv[1]); from bytecode_compiler import compile_source\n"
        "sys.stdout.buffer.write(compile_source(sys.stdin.buffer.read(), '/x.py'))"
    )
    outputs = {
        subprocess.run(
            [sys.executable, "-c", program, str(Path(bytecode_child.__file__).parent)],
            input=SOURCE,
            capture_output=True,
            check=True,
            env=os.environ | {"PYTHONHASHSEED": seed},
        ).stdout
        for seed in ("1", "2", "3")
    }
    assert len(outputs) == 1


@pytest.mark.parametrize(
    "source",
    [
        b"print 'Python 2'\n",
        b"{{ template }} = {% if x %}\n",
        b"# -*- coding: no-such-encoding -*-\nx = 1\n",
        b"x = '\xff\xfe'\n",
        b"x = 1\x00\n",
        b"(" * 500 + b")" * 500,
        b"-" * 100_000 + b"1",
    ],
    ids=["python2", "template", "encoding", "not-utf8", "null", "nesting", "recursion"],
)
def test_sources_that_do_not_compile_are_left_out(interpreter: Interpreter, source: bytes) -> None:
    """A source that this Python cannot compile gets no bytecode, and the next one still does."""
    found = compile_tree(interpreter, [("/bad.py", source), ("/good.py", b"x = 1\n")], threads=1)
    assert list(found) == [bytecode_path("/good.py", VERSION)]
    assert compile_source(source, "/bad.py") is None


@pytest.mark.filterwarnings("ignore::SyntaxWarning")
def test_syntax_warnings_are_silent(interpreter: Interpreter, capfd: pytest.CaptureFixture[str]) -> None:
    """A doubtful source compiles without a word on the terminal."""
    assert compile_tree(interpreter, [("/x.py", b"x = 1 is 1\ny = '\\d'\n")], threads=1)
    assert capfd.readouterr() == ("", "")
    source = b"x = 1 is 1\ny = '\\d'\n"
    frames = [b"/x.py", source]
    request = (1).to_bytes(4, "little") + b"".join(len(one).to_bytes(4, "little") + one for one in frames)
    script = Path(bytecode_child.__file__).with_name("bytecode_compiler.py")
    done = subprocess.run(
        [sys.executable, "-I", "-S", script], input=request, capture_output=True, check=True, env={}, timeout=60
    )
    assert not done.stderr
    greeting = int.from_bytes(done.stdout[:4], "little")
    assert done.stdout[4 + greeting :][:1] == b"c"


def test_nothing_of_a_source_is_run(interpreter: Interpreter, tmp_path: Path) -> None:
    """Compiling a source that would write a file when run or decoded writes none."""
    mark = tmp_path / "mark"
    source = f"open({str(mark)!r}, 'w').close()\n".encode()
    assert compile_tree(interpreter, [("/x.py", source), ("/sitecustomize.py", source)], threads=1)
    assert not mark.exists()


def test_sources_at_the_limit_compile_and_longer_ones_stay_source(
    interpreter: Interpreter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`BYTECODE_SOURCE_BYTES` is the longest source that is compiled."""
    monkeypatch.setattr(limits, "BYTECODE_SOURCE_BYTES", 100)
    fits, exceeds = b"#" * 99 + b"\n", b"#" * 100 + b"\n"
    found = compile_tree(interpreter, [("/fits.py", fits), ("/exceeds.py", exceeds)], threads=1)
    assert list(found) == [bytecode_path("/fits.py", VERSION)]


def test_a_source_that_takes_too_long_ends_the_build(interpreter: Interpreter, monkeypatch: pytest.MonkeyPatch) -> None:
    """An interpreter that does not answer within `BYTECODE_FILE_SECONDS` is killed; the error names the source."""
    endless = b"x = [" + b"(lambda a: [a, 'text', 1.5]), " * 400_000 + b"]\n"
    with Compiler(interpreter, processes=1) as compiler:
        compiler.compile([("/first.py", b"x = 1\n")], lambda *_: None)
        monkeypatch.setattr(limits, "BYTECODE_FILE_SECONDS", 0.3)
        with pytest.raises(DeadlineError, match=r"/endless\.py was given up: it took more than 0\.3 s"):
            compiler.compile([("/endless.py", endless)], lambda *_: None)


def test_an_interpreter_that_does_not_start_in_time_is_given_up(
    interpreter: Interpreter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A start that hangs ends with the same deadline, and is not mistaken for a wrong machine."""
    command = ["sleep", "60"]
    monkeypatch.setattr(bytecode_child, "_command", lambda _: command)
    monkeypatch.setattr(limits, "BYTECODE_FILE_SECONDS", 0.3)
    with pytest.raises(DeadlineError, match="did not start"):
        compile_tree(interpreter, [("/x.py", b"")], threads=1)


def test_all_sources_together_have_a_deadline(interpreter: Interpreter, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work over `BYTECODE_SECONDS` is given up; waiting between sources does not count."""
    endless = b"x = [" + b"(lambda a: [a, 'text', 1.5]), " * 400_000 + b"]\n"
    with Compiler(interpreter, processes=1) as compiler:
        compiler.compile([("/first.py", b"x = 1\n")], lambda *_: None)
        monkeypatch.setattr(limits, "BYTECODE_SECONDS", 0.6)
        time.sleep(0.8)
        compiler.compile([("/second.py", b"x = 1\n")], lambda *_: None)
        with pytest.raises(DeadlineError, match="all files together"):
            compiler.compile([("/endless.py", endless)], lambda *_: None)


def test_a_source_that_takes_too_much_memory_does_not_take_the_machine(
    interpreter: Interpreter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The interpreter runs under `BYTECODE_CHILD_BYTES`; a source that needs more is left out."""
    monkeypatch.setattr(limits, "BYTECODE_CHILD_BYTES", 200 * limits.MIB)
    hungry = b"x = [" + b"(lambda a: [a, 'text', 1.5]), " * 100_000 + b"]\n"
    assert compile_tree(interpreter, [("/hungry.py", hungry)], threads=1) == {}


def test_an_interpreter_that_dies_is_named_with_its_source(interpreter: Interpreter) -> None:
    """When the interpreter is gone, the build could not find out, and says on which source."""
    with Compiler(interpreter, processes=1) as compiler:
        compiler.compile([("/first.py", b"x = 1\n")], lambda *_: None)
        compiler._children[0].kill()
        with pytest.raises(UndeterminedError, match=r"died compiling /second\.py: signal 9"):
            compiler.compile([("/second.py", b"x = 1\n"), ("/third.py", b"x = 1\n")], lambda *_: None)


def test_an_error_of_the_caller_ends_the_work(interpreter: Interpreter) -> None:
    """What `deliver` raises arrives as it is; what nobody waits for is left out, and the next caller is served."""
    sources = [(f"/{number}.py", b"x = 1\n") for number in range(100)]
    read: list[str] = []
    delivered: list[str] = []

    def lazily(path: str) -> bytes:
        read.append(path)
        return b"x = 1\n"

    def refuse(path: str, _: bytes) -> None:
        raise ValueError(path)

    with Compiler(interpreter, processes=2) as compiler:
        with pytest.raises(ValueError, match=r"/\d+\.py"):
            compiler.compile([(path, partial(lazily, path)) for path, _ in sources], refuse)
        compiler.compile(sources, lambda path, _: delivered.append(path))
    assert len(read) < len(sources)
    assert sorted(delivered) == sorted(path for path, _ in sources)
    assert not [one for one in threading.enumerate() if one.name.startswith("bytecode")]


def test_a_closed_compiler_takes_nothing(interpreter: Interpreter) -> None:
    """Whoever comes too late hears so at once; whoever waits when it is closed waits no longer."""
    compiler = Compiler(interpreter, processes=1)
    told: list[str] = []
    holding, let_go = threading.Event(), threading.Event()

    def held() -> bytes:
        holding.set()
        let_go.wait(30)
        return b"x = 1\n"

    def wait() -> None:
        try:
            compiler.compile([(f"/{number}.py", held) for number in range(8 * 4)], lambda *_: None)
        except RuntimeError as error:
            told.append(str(error))

    waiting = threading.Thread(target=wait)
    with compiler:
        waiting.start()
        assert holding.wait(30)
        threading.Timer(0.2, let_go.set).start()
    waiting.join(30)
    assert ["closed" in one for one in told] == [True]
    with pytest.raises(RuntimeError, match="closed"):
        compiler.compile([("/x.py", b"")], lambda *_: None)


def test_an_interpreter_that_cannot_run_says_why(interpreter: Interpreter, tmp_path: Path) -> None:
    """A file that is no program for this machine gives the machine and the reason, not a traceback."""
    root = tmp_path / "root"
    for path in ("lib64/ld-linux-x86-64.so.2", f"usr/bin/python{VERSION}"):
        (root / path).parent.mkdir(parents=True)
        (root / path).write_bytes(b"\x7fELF\x02\x01\x01" + bytes(57))
        (root / path).chmod(0o755)
    broken = Interpreter(rootfs=root, version=VERSION, identity="sha256:" + "0" * 64)
    with pytest.raises(MissingToolError, match=r"does not run on this machine \(Linux x86_64\)"):
        compile_tree(broken, [("/x.py", b"")], threads=1)


def test_a_base_without_interpreter_is_an_error(tmp_path: Path) -> None:
    """A root file system that lacks the interpreter is named, with what to do."""
    with pytest.raises(MissingToolError, match=r"the base has no /lib64/ld-linux-x86-64"):
        compile_tree(Interpreter(rootfs=tmp_path, version=VERSION, identity=""), [("/x.py", b"")], threads=1)


def test_an_interpreter_of_another_version_is_refused(interpreter: Interpreter) -> None:
    """The interpreter must be the version that the base promises."""
    (interpreter.rootfs / "usr/bin/python3.99").symlink_to(f"python{VERSION}")
    other = Interpreter(rootfs=interpreter.rootfs, version="3.99", identity="")
    with pytest.raises(MissingToolError, match=r"instead of 3\.99"):
        compile_tree(other, [("/x.py", b"")], threads=1)


def test_a_library_of_this_machine_is_refused(
    interpreter: Interpreter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An interpreter that takes a library from outside its root file system is not the image's own."""
    strange = Interpreter(rootfs=tmp_path / "root", version=VERSION, identity="")
    (tmp_path / "root/usr/bin").mkdir(parents=True)
    for name in ("usr/lib", "lib64", f"usr/bin/python{VERSION}"):
        (tmp_path / "root" / name).symlink_to(interpreter.rootfs / name)
    command = bytecode_child._command(interpreter)
    monkeypatch.setattr(bytecode_child, "_command", lambda _: command)
    with pytest.raises(MissingToolError, match="from this machine"):
        compile_tree(strange, [("/x.py", b"")], threads=1)


def test_symlinks_never_lead_out_of_the_root(tmp_path: Path) -> None:
    """Absolute targets and `..` are taken relative to the root file system; a circle is an error."""
    (tmp_path / "usr/lib").mkdir(parents=True)
    (tmp_path / "lib").symlink_to("/usr/lib")
    (tmp_path / "usr/lib/up").symlink_to("../../../../../usr")
    (tmp_path / "circle").symlink_to("circle")
    assert bytecode_child._inside(tmp_path, "lib/x") == tmp_path / "usr/lib/x"
    assert bytecode_child._inside(tmp_path, "/lib/up/lib/x") == tmp_path / "usr/lib/x"
    with pytest.raises(InputError, match="symlinks"):
        bytecode_child._inside(tmp_path, "circle")


def test_a_program_for_another_processor_is_named_with_the_way_out(tmp_path: Path) -> None:
    """An interpreter that this machine cannot start says for which platform it is, and names `--no-bytecode`."""
    # A 64-bit ELF header for a machine that no kernel runs.
    stranger = b"\x7fELF\x02\x01\x01" + bytes(9) + b"\x02\x00\xfe\xca\x01" + bytes(43)
    for name in ("lib/ld-linux-aarch64.so.1", f"usr/bin/python{VERSION}"):
        path = tmp_path / name
        path.parent.mkdir(parents=True)
        path.write_bytes(stranger)
        path.chmod(0o755)
    foreign = Interpreter(rootfs=tmp_path, version=VERSION, identity="", architecture="arm64")
    with pytest.raises(MissingToolError, match=r"\(linux/arm64\) does not run on this machine") as caught:
        compile_tree(foreign, [("/x.py", b"")], threads=1)
    assert "for arm64" in caught.value.next_step
    assert "--no-bytecode" in caught.value.next_step


def test_files_that_cannot_be_had_are_said_to_everybody(interpreter: Interpreter) -> None:
    """Whoever asks second hears why, too."""

    def missing() -> None:
        raise IntegrityError("a package has other bytes", next_step="Fetch it again.")

    broken = msgspec.structs.replace(interpreter, prepare=missing)
    with Compiler(broken, processes=1) as compiler:
        for _ in range(2):
            with pytest.raises(IntegrityError, match="other bytes"):
                compiler.compile([("/a.py", b"x = 1\n")], lambda *_: None)


def test_an_interpreter_that_is_replaced_while_it_starts_answers_nothing(
    interpreter: Interpreter, tmp_path: Path
) -> None:
    """Damaged files are unpacked again: what was started of them is ended, and another one asked."""
    root = write_rootfs(tmp_path / "root").rootfs
    started: list[bool] = []

    def unpack() -> None:
        if not started:
            started.append(True)
            root.rename(tmp_path / "old")
            write_rootfs(root)

    renewed = msgspec.structs.replace(interpreter, rootfs=root, prepare=unpack)
    found: dict[str, bytes] = {}
    with Compiler(renewed, processes=2) as compiler:
        compiler.compile([("/a.py", b"x = 1\n")], found.__setitem__)
        (child, _) = compiler._children
        mapped = Path(f"/proc/{child._process.pid}/maps").read_text()
    assert str(tmp_path / "old") not in mapped
    assert str(root) in mapped
    assert list(found) == ["/a.py"]
