"""Versions that stand inside programs and libraries: TensorFlow's model server, the CUDA runtime, cuDNN.

- The model server holds its version as text with the commit it was built from (`version.h` of tensorflow/serving), for
  example `2.15.1+dev.sha.c0ffee12`; `-rc0` and the like stand before the plus.
- cuDNN holds a symbol of every library that must fit the others, for example `cudnn_version_9_3_0_75_c34639703_e0`.
- The CUDA runtime for x86-64 returns its version as a constant: `movl $12050, (%rdi)`, 1000 times the major version and
  10 times the minor one. It counts when all such constants of the library agree.
"""

import re
import struct
from typing import IO

from tidewaiter.core import limits
from tidewaiter.inspection.catalogers.frameworks import SERVING
from tidewaiter.inspection.layer_facts import Collector, FoundBuild

_MAGIC = b"\x7fELF"
BEGINNINGS = (SERVING, "libcud")
"""Of the names of files about which `wants` is asked."""
_WINDOW = 1 << 18
_LONGEST = 256
_SERVER_VERSION = re.compile(
    rb"(?<![\w.])(\d{1,4}\.\d{1,4}\.\d{1,4}(?:-(?:alpha|beta|rc)\.?\d{0,3})?)\+\w{1,40}\.sha\.[\w-]{1,80}"
)
_CUDNN_VERSION = re.compile(rb"(?<!\w)cudnn_version_(\d{1,3})_(\d{1,3})_(\d{1,3})_\w{1,80}")
# Of the libraries that cuDNN consists of, the one whose mark comes early; the others are large.
_CUDNN = re.compile(r"libcudnn_(?:graph|ops_infer)\.so\.\d+(?:\.\d+){0,3}")
_CUDART = re.compile(r"libcudart\.so\.(\d{1,3})(?:\.\d+){0,3}")
_STORED = re.compile(rb"\xc7\x07(..\x00\x00)", re.DOTALL)
_X86_64 = 62
_RUNTIME_BYTES = 8 * limits.MIB


def wants(path: str) -> bool:
    """Whether the name is one of the few that are read."""
    name = path.rpartition("/")[2]
    return name == SERVING or (
        name.startswith("libcud") and (_CUDNN.fullmatch(name) or _CUDART.fullmatch(name)) is not None
    )


def _first(pattern: re.Pattern[bytes], file: IO[bytes], head: bytes, limit: int) -> re.Match[bytes] | None:
    """The first match in the first `limit` bytes, in windows that overlap."""
    kept, left = head, limit - len(head)
    while True:
        data = file.read(min(_WINDOW, left))
        window = kept + data
        match = pattern.search(window)
        # What touches the end of the window may go on in the next.
        if match and (match.end() < len(window) or not data):
            return match
        if not data:
            return None
        kept, left = window[-_LONGEST:], left - len(data)


def runtime_version(data: bytes, major: int) -> str:
    """Version of a CUDA runtime library of this major version, for example `12.5`; empty when it does not say."""
    if len(data) < 20 or data[4:6] != b"\x02\x01" or struct.unpack_from("<H", data, 18)[0] != _X86_64:
        return ""
    found = {struct.unpack("<I", match[1])[0] for match in _STORED.finditer(data)}
    versions = {number for number in found if number // 1000 == major and number % 10 == 0}
    if len(versions) != 1:
        return ""
    return f"{major}.{versions.pop() % 1000 // 10}"


def read(path: str, file: IO[bytes], collector: Collector) -> None:
    """Record the version, where the file says it; what is known by its name alone is recorded elsewhere."""
    head = file.read(len(_MAGIC))
    if head != _MAGIC:
        return
    name = path.rpartition("/")[2]
    runtime = _CUDART.fullmatch(name)
    if name == SERVING:
        found = _first(_SERVER_VERSION, file, head, limits.FRAMEWORK_SCAN_BYTES)
        if found:
            collector.add_build(FoundBuild(path, "tensorflow-serving", found[1].decode()))
    elif runtime:
        version = runtime_version(head + file.read(_RUNTIME_BYTES), int(runtime[1]))
        # A name such as libcudart.so.12.5.82 says more.
        if version and name.count(".") < 4:
            collector.add_build(FoundBuild(path, "cuda", version))
    else:
        found = _first(_CUDNN_VERSION, file, head, limits.LIBRARY_SCAN_BYTES)
        if found:
            collector.add_build(FoundBuild(path, "cudnn", b".".join(found.groups()).decode()))
