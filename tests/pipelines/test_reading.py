import ast
import gzip
import io
import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, cast

import msgspec
import pytest

from image_builder import Tar, put_image
from tidewaiter.core import limits
from tidewaiter.core.errors import InputError, IntegrityError, NetworkError, TidewaiterError
from tidewaiter.inspection.image import Layer, inspect, read_here
from tidewaiter.oci.digest import Digest
from tidewaiter.oci.image import BlobSource, Image
from tidewaiter.oci.layout import Layout
from tidewaiter.pipelines import reading
from tidewaiter.pipelines.reading import LayerChildError, LayerReaders
from workplace import command, environment

SOURCES = Path(reading.__file__).parents[1]
SEND = "__import__('tidewaiter.core.confined').core.confined.send"
READY = f"""{SEND}(1, b'R{{"network":false,"files":false}}')"""
RELEASE = 'ID=debian\nVERSION_ID="12"\n'
METADATA = "Metadata-Version: 2.4\nName: b\nVersion: 1\nLicense-Expression: MIT OR Apache-2.0\n"


class Elsewhere:
    """The blobs of a layout as a registry gives them: a stream without a file."""

    def __init__(self, layout: Layout, cut: Callable[[bytes], bytes] = bytes) -> None:
        self._layout = layout
        self._cut = cut

    def open(self, digest: Digest) -> IO[bytes]:
        return io.BytesIO(self._cut(self._layout.blob_path(digest).read_bytes()))

    def read(self, digest: Digest, *, limit: int = 0) -> bytes:
        raise NotImplementedError


class Lost(Elsewhere):
    """A registry whose connection breaks."""

    def open(self, digest: Digest) -> IO[bytes]:
        class Broken(io.BytesIO):
            def read(self, size: int | None = -1, /) -> bytes:
                raise NetworkError("the connection was lost", next_step="Try again.")

        return Broken()


def untold(_: int) -> None:
    """Nobody looks at the progress."""


def some_layers(layout: Layout) -> Image:
    """An image with a bit of all that layers may hold."""
    first = Tar().file("etc/os-release", RELEASE).symlink("usr/lib/os-release", "../../etc/os-release")
    first.file("usr/bin/su", b"\x7fELF" + bytes(9000), mode=0o4755).file("bad\udcff\\name\n", b"x")
    second = Tar().file("s/b-1.dist-info/METADATA", METADATA).file("etc/.wh.motd").file("large", bytes(5_000_000))
    return put_image(layout, [first.bytes(), second.bytes()])


def layers_of(image: Image) -> list[Layer]:
    """Its layers."""
    return [Layer(*layer) for layer in image.layers]


def elsewhere(image: Image, cut: Callable[[bytes], bytes] = bytes) -> BlobSource:
    """The image's blobs as a registry gives them."""
    return cast("BlobSource", Elsewhere(cast("Layout", image.source), cut))


@pytest.mark.parametrize("streamed", [False, True])
def test_a_child_says_what_reading_here_says(tmp_path: Path, *, streamed: bool) -> None:
    """Facts and listing are the same, for a blob that is a file and for one that arrives as a stream."""
    image = some_layers(Layout(tmp_path))
    source = elsewhere(image) if streamed else image.source
    told: list[int] = []
    answers = sorted(LayerReaders(2)(source, layers_of(image), told.append), key=lambda answer: answer.layer.diff_id)
    here = sorted(read_here(image.source, layers_of(image), untold), key=lambda answer: answer.layer.diff_id)
    assert answers == here
    assert sum(told) <= sum(blob.size for blob, _ in image.layers)
    facts = inspect(image, reference="it:1", reader=LayerReaders(2))
    assert [one.licenses for one in facts.components if one.name == "b"] == [("MIT OR Apache-2.0",)]


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize(
    ("cut", "error", "reason"),
    [
        (lambda data: data[:-20], IntegrityError, "instead of"),
        (lambda data: data + b"more", IntegrityError, "more than"),
        (lambda data: b"\0" * len(data), IntegrityError, "digest"),
        (lambda data: data, InputError, "not a readable tar"),
    ],
)
def test_what_is_wrong_with_a_layer_is_told_as_here(
    tmp_path: Path, cut: Callable[[bytes], bytes], error: type[TidewaiterError], reason: str, *, streamed: bool
) -> None:
    """Class, message and next step are those of an error that was raised here."""
    tar = Tar().file("a", b"x" * 100_000).bytes()
    whole = reason != "not a readable tar"
    image = put_image(Layout(tmp_path), [tar], blobs=None if whole else [gzip.compress(tar[:-40_000] + b"?" * 4096)])
    path = Layout(tmp_path).blob_path(image.layers[0][0].digest)
    if not streamed:
        path.write_bytes(cut(path.read_bytes()))
    source = elsewhere(image, cut) if streamed else image.source
    with pytest.raises(error, match=reason) as there:
        list(LayerReaders(1)(source, layers_of(image), untold))
    with pytest.raises(error, match=reason) as here:
        list(read_here(source, layers_of(image), untold))
    assert (type(there.value), str(there.value), there.value.next_step, there.value.code) == (
        type(here.value),
        str(here.value),
        here.value.next_step,
        here.value.code,
    )


@pytest.mark.parametrize(
    "text",
    [
        "raise SystemExit(3)",
        "import os; os.abort()",
        "print('hello')",
        f"{SEND}(1, b'X')",
        f"{SEND}(1, b'R{{}}')",
        f"{READY}; {SEND}(1, b'F')",
        f"{READY}; {SEND}(1, b'L'); {SEND}(1, b'F\\x80')",
        f"{READY}; [{SEND}(1, b'P' + b'\\xff' * 8) for _ in range(9)]",
    ],
)
def test_a_child_that_answers_oddly_is_never_taken_for_an_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    """Death, noise, facts without a layer and progress without end: it could not be found out, never "clean"."""
    monkeypatch.setattr(reading, "_COMMAND", ("-c", text))
    image = some_layers(Layout(tmp_path))
    with pytest.raises(LayerChildError) as raised:
        list(LayerReaders(1)(image.source, layers_of(image), untold))
    assert raised.value.exit_code == 3


def test_facts_of_another_layer_are_odd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A child that was taken over cannot pass one layer's facts off as another's."""
    image = some_layers(Layout(tmp_path))
    answer = next(iter(read_here(image.source, layers_of(image)[1:], untold)))
    text = (
        'from tidewaiter.core import confined as c; c.send(1, b\'R{"network":false,"files":false}\'); '
        f"c.send(1, b'L', {answer.listing!r}); c.send(1, b'F', {msgspec.msgpack.encode(answer.facts)!r})"
    )
    monkeypatch.setattr(reading, "_COMMAND", ("-c", text))
    with pytest.raises(LayerChildError, match="another layer"):
        list(LayerReaders(1)(image.source, layers_of(image)[:1], untold))


def test_a_child_that_is_silent_is_late(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that tells of no progress is ended."""
    monkeypatch.setattr(limits, "LAYER_CHILD_SECONDS", 1.0)
    monkeypatch.setattr(reading, "_COMMAND", ("-c", "import time; time.sleep(60)"))
    image = some_layers(Layout(tmp_path))
    with pytest.raises(LayerChildError, match="not done in time"):
        list(LayerReaders(1)(image.source, layers_of(image), untold))


def test_memory_of_a_child_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A child that has no room says so, or dies; neither is an answer about the layer."""
    image = some_layers(Layout(tmp_path))
    monkeypatch.setattr(limits, "LAYER_CHILD_BYTES", 30 << 20)
    with pytest.raises(TidewaiterError) as raised:
        list(LayerReaders(1)(image.source, layers_of(image), untold))
    assert raised.value.exit_code == 3


def test_two_blobs_of_one_layer_are_two_questions(tmp_path: Path) -> None:
    """Layers with the same content but other compression, or annotations without end, are each read from their own."""
    tar = Tar().file("a", b"x" * 1000).bytes()
    image = put_image(
        Layout(tmp_path), [tar, tar], blobs=[gzip.compress(tar, 1, mtime=0), gzip.compress(tar, 9, mtime=0)]
    )
    first, second = layers_of(image)
    loud = first._replace(blob=msgspec.structs.replace(first.blob, annotations={"a": "x" * (3 << 20)}))
    answers = list(LayerReaders(1)(image.source, [loud, second], untold))
    assert [answer.layer.blob.digest for answer in answers] == [first.blob.digest, second.blob.digest]
    wrong = first._replace(blob=msgspec.structs.replace(first.blob, size=first.blob.size - 1))
    with pytest.raises(IntegrityError):
        list(LayerReaders(1)(image.source, [wrong, second], untold))


def test_files_are_opened_for_a_bounded_number_of_layers(tmp_path: Path) -> None:
    """An image of 127 layers is read by a process that may have 128 files, with the answers of reading here."""
    tars = [Tar().file(f"{number}", bytes(number * 1000)).bytes() for number in range(127)]
    image = put_image(Layout(tmp_path / "store"), tars, name="it:1")
    here = {answer.layer.diff_id: answer for answer in read_here(image.source, layers_of(image), untold)}
    there = list(LayerReaders(2)(image.source, layers_of(image), untold))
    assert {answer.layer.diff_id: answer for answer in there} == here
    limited = ["bash", "-c", 'ulimit -n 128; exec "$@"', "bash"]
    done = subprocess.run(
        [*limited, *command("inspect", f"oci:{tmp_path}/store:it:1", "--format", "json")],
        env=environment(tmp_path / "home"),
        capture_output=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert len(json.loads(done.stdout)["layers"]) == 127


def test_a_lost_connection_is_told_as_it_is(tmp_path: Path) -> None:
    """What the source raises while a blob is sent is raised, and no child is left."""
    image = some_layers(Layout(tmp_path))
    source = cast("BlobSource", Lost(Layout(tmp_path)))
    before = threading.active_count()
    with pytest.raises(NetworkError, match="lost"):
        list(LayerReaders(2)(source, layers_of(image), untold))
    assert threading.active_count() <= before  # a thread of an earlier test may have ended


def test_an_interrupt_ends_the_children(tmp_path: Path) -> None:
    """When nobody takes the answers any more, children and threads end at once."""
    image = put_image(Layout(tmp_path), [Tar().file("a", bytes(60_000_000)).bytes()])
    before = threading.active_count()

    def interrupted(_: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(LayerReaders(1)(elsewhere(image), layers_of(image), interrupted))
    assert threading.active_count() <= before  # a thread of an earlier test may have ended


def test_as_many_children_as_there_is_work_for() -> None:
    """Small layers share a child: starting one more takes longer than reading them."""

    def layers(*sizes: int) -> list[Layer]:
        from tidewaiter.oci import digest as digests
        from tidewaiter.oci.manifest import LAYER_GZIP, Descriptor

        name = digests.of(b"")
        return [Layer(Descriptor(media_type=LAYER_GZIP, digest=name, size=size), name) for size in sizes]

    small, large = 1 << 20, 100 << 20
    assert reading._count(layers(large), 8) == 1
    assert reading._count(layers(large, small, small), 8) == 1
    assert reading._count(layers(large, large, small), 8) == 3
    assert reading._count(layers(large, large, large), 2) == 2


def test_a_gzip_stream_that_no_one_reads_is_told(tmp_path: Path) -> None:
    """The error that isal raises for it is a class of Python's own `gzip`, which a child could not load any more."""
    image = put_image(Layout(tmp_path), [Tar().file("a").bytes()], blobs=[b"\x1f\x8b\x07" + bytes(20)])
    with pytest.raises(InputError, match="Unknown compression method"):
        list(LayerReaders(1)(image.source, layers_of(image), untold))


_OF_THE_PARENT = (
    *("inspection/image.py", "inspection/stack.py", "inspection/catalogers/python/requirements.py"),  # many layers
    "oci/entry.py",  # what it imports late, it writes with
)


def _late_imports() -> Iterator[tuple[str, str]]:
    """Modules that functions of the rooms which a child needs import when they are called, with the file's name."""
    files = [*SOURCES.glob("inspection/**/*.py"), *SOURCES.glob("oci/*.py"), SOURCES / "sbom/licenses.py"]
    for path in files:
        if path.relative_to(SOURCES).as_posix() in _OF_THE_PARENT:
            continue
        for function in ast.walk(ast.parse(path.read_text())):
            if isinstance(function, ast.FunctionDef):
                for node in ast.walk(function):
                    if isinstance(node, ast.Import):
                        yield from ((alias.name, path.name) for alias in node.names)
                    elif isinstance(node, ast.ImportFrom) and node.module:
                        yield node.module, path.name


def test_a_child_has_loaded_all_that_it_may_need() -> None:
    """A child opens no file, so nothing may be left to import; a module that is missing here belongs into `child`."""
    text = "import sys, tidewaiter.inspection.child; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-I", "-c", text], capture_output=True, check=True, timeout=60)
    loaded = set(done.stdout.decode().split())
    assert [pair for pair in _late_imports() if pair[0] not in loaded] == []
