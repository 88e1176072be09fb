"""Models: TensorFlow SavedModels and TFLite files.

A SavedModel is a protocol buffer (`saved_model.proto`, `meta_graph.proto`). Only tags, names of signatures and the
version of TensorFlow are read; the graph is skipped, so it may have any size.
"""

import re
from collections.abc import Iterator
from typing import IO

import msgspec

from tidewaiter.inspection.catalogers.stream import Forward
from tidewaiter.inspection.catalogers.text import clean
from tidewaiter.inspection.layer_facts import Collector, FoundModel
from tidewaiter.oci.layer import Entry

_SAVED_MODEL = "/saved_model.pb"
_LITE = ".tflite"
AMONG = (_SAVED_MODEL[1:], _LITE)
"""Names and endings of files about which `wants` is asked."""
_ITEMS = 200
_TEXT = 1000
_VERSION = re.compile(r"[0-9]{1,20}")
_GENERIC = frozenset({"models", "model", "saved_model", "savedmodel", "export", ""})


class Malformed(Exception):  # noqa: N818  a signal to `read`, which records it
    """The file is no SavedModel."""


def wants(path: str) -> bool:
    """A model by its name."""
    return path.endswith((_SAVED_MODEL, _LITE))


def _varint(file: Forward) -> int:
    value = 0
    for shift in range(0, 70, 7):
        byte = file.read(1)
        if not byte:
            raise Malformed("it ends inside a number")
        value |= (byte[0] & 0x7F) << shift
        if byte[0] < 0x80:
            return value
    raise Malformed("a number has too many bytes")


def _fields(file: Forward, end: int) -> Iterator[tuple[int, int]]:
    """Number and end of each length-delimited field before `end`; others are passed over.

    The file stands at the field's first byte and may be read up to its end; the rest is skipped.
    """
    while file.position < end:
        key = _varint(file)
        kind = key & 7
        if kind == 0:
            _varint(file)
            continue
        if kind not in {1, 2, 5}:
            raise Malformed("it holds a field of a kind that is not known")
        stop = file.position + {1: 8, 5: 4}.get(kind, 0)
        if kind == 2:  # length-delimited
            length = _varint(file)
            stop = file.position + length
        if stop > end:
            raise Malformed("a field reaches past its message")
        if kind == 2:
            yield key >> 3, stop
        if not file.skip_to(stop):
            raise Malformed("it ends inside a field")


def _text(file: Forward, end: int) -> str:
    return clean(file.read(min(_TEXT, end - file.position)).decode("utf-8", "replace"), 100)


class _Found:
    """What the meta graphs of one SavedModel say together."""

    def __init__(self) -> None:
        self.tags: set[str] = set()
        self.signatures: set[str] = set()
        self.version = ""

    def meta_info(self, file: Forward, end: int) -> None:
        """`MetaGraphDef.MetaInfoDef`."""
        for field, stop in _fields(file, end):
            if field == 4 and len(self.tags) < _ITEMS:  # tags
                self.tags.add(_text(file, stop))
            elif field == 5:  # tensorflow_version
                self.version = _text(file, stop)

    def signature(self, file: Forward, end: int) -> None:
        """One entry of the map `MetaGraphDef.signature_def`."""
        for field, stop in _fields(file, end):
            if field == 1 and len(self.signatures) < _ITEMS:  # the key
                self.signatures.add(_text(file, stop))


def saved_model(file: Forward) -> tuple[tuple[str, ...], tuple[str, ...], str]:
    """Tags, names of signatures and TensorFlow's version.

    Raises:
        Malformed: it is no SavedModel.
    """
    found = _Found()
    graphs = 0
    for number, graph_end in _fields(file, file.size):
        if number != 2:  # SavedModel.meta_graphs
            continue
        graphs += 1
        for part, end in _fields(file, graph_end):
            if part == 1:  # MetaGraphDef.meta_info_def
                found.meta_info(file, end)
            elif part == 5:  # MetaGraphDef.signature_def
                found.signature(file, end)
    if not graphs:
        raise Malformed("it holds no graph")
    return tuple(sorted(found.tags)), tuple(sorted(found.signatures)), found.version


def name_of(path: str) -> tuple[str, str]:
    """Name and version of the model whose folder holds the file `path`: `models/mnist/3/saved_model.pb`."""
    parts = path.split("/")[:-1]
    version = parts.pop() if parts and _VERSION.fullmatch(parts[-1]) else ""
    while len(parts) > 1 and parts[-1] in _GENERIC:
        parts.pop()
    return (clean(parts[-1], 100) if parts else "model"), version


def named(model: FoundModel, path: str) -> FoundModel:
    """The model as the one that lies at `path`."""
    if model.format == "tflite":
        name, version = clean(path.rpartition("/")[2].removesuffix(_LITE), 100), ""
    else:
        name, version = name_of(path)
    return msgspec.structs.replace(model, path=path, name=name, version=version)


def read(path: str, entry: Entry, file: IO[bytes], collector: Collector) -> None:
    """Record the model; a file of that name that is none is recorded with the problem."""
    forward = Forward(file, entry.size)
    if path.endswith(_LITE):
        if forward.read(8)[4:] == b"TFL3":
            collector.add_model(named(FoundModel(path=path, format="tflite", name=""), path))
        return
    model = named(FoundModel(path=path, format="saved_model", name=""), path)
    try:
        tags, signatures, tensorflow = saved_model(forward)
    except Malformed as error:
        collector.add_model(msgspec.structs.replace(model, problem=str(error)))
        return
    collector.add_model(msgspec.structs.replace(model, tags=tags, signatures=signatures, tensorflow=tensorflow))
