"""CUDA, cuDNN and TensorFlow as files show them: names of shared libraries, constants in headers, build information."""

import re

import msgspec

from tidewaiter.inspection.catalogers import Cataloger
from tidewaiter.inspection.catalogers.text import clean
from tidewaiter.inspection.layer_facts import Collector, FoundBuild

_LIBRARY = re.compile(r"lib(cudart|cudnn|nvinfer|nccl|tensorflow_cc|tensorflow)\.so\.(\d+(?:\.\d+){0,3})")
_LIBRARIES = {
    "cudart": "cuda",
    "cudnn": "cudnn",
    "nvinfer": "tensorrt",
    "nccl": "nccl",
    "tensorflow_cc": "tensorflow",
    "tensorflow": "tensorflow",
}
_HEADERS = ("/cuda.h", "/cudnn_version.h", "/cudnn_version_v8.h", "/cudnn_version_v9.h")
SERVING = "tensorflow_model_server"
"""Name of TensorFlow Serving's program."""
_BUILD_INFO = "/tensorflow/python/platform/build_info.py"
_ITEM = re.compile(r"""['"](\w{1,60})['"]\s*[,:]\s*(?:['"]([^'"\n]{0,200})['"]|(True|False)|\[([^\]\n]{0,2000})\])""")
_WORD = re.compile(r"""['"]([^'"]{1,60})['"]""")
_DEFINE = re.compile(
    rb"^\s*#\s*define\s+(CUDA_VERSION|CUDNN_MAJOR|CUDNN_MINOR|CUDNN_PATCHLEVEL)\s+(\d{1,9})\b", re.MULTILINE
)
_PY_VERSION = re.compile(rb'^#define PY_VERSION\s+"(3\.\d{1,3}\.\d{1,3}[a-z0-9+]{0,10})"', re.MULTILINE)
_NUMBERS = re.compile(r"\d{1,4}(?:\.\d{1,6}){1,3}")
_ITEMS = 60


BEGINNINGS = (SERVING, "lib")
"""Of the names of files about which `of_name` is asked."""


def of_name(path: str) -> FoundBuild | None:
    """What a library or program is by its name alone; the version is as long as the name has it."""
    name = path.rpartition("/")[2]
    if name == SERVING:
        return FoundBuild(path, "tensorflow-serving", "")
    if not name.startswith("lib"):
        return None
    match = _LIBRARY.fullmatch(name)
    return None if match is None else FoundBuild(path, _LIBRARIES[match[1]], match[2])


def build_info(data: bytes) -> dict[str, str]:
    """Fields of TensorFlow's `build_info.py`; a list with commas between its items."""
    found: dict[str, str] = {}
    for name, text, truth, items in _ITEM.findall(data.decode("utf-8", "replace"))[:_ITEMS]:
        found[name] = clean(text or truth.lower() or ",".join(_WORD.findall(items)), 500)
    return found


def _read_build_info(path: str, data: bytes, collector: Collector) -> None:
    _, _, body = data.partition(b"build_info =")
    collector.add_build(FoundBuild(path, "tensorflow", "", build_info(body)))


def _read_header(path: str, data: bytes, collector: Collector) -> None:
    constants = {name.decode(): int(value) for name, value in _DEFINE.findall(data)}
    if "CUDA_VERSION" in constants:  # 1000 times the major, 10 times the minor version
        number = constants["CUDA_VERSION"]
        collector.add_build(FoundBuild(path, "cuda", f"{number // 1000}.{number % 1000 // 10}"))
    elif {"CUDNN_MAJOR", "CUDNN_MINOR", "CUDNN_PATCHLEVEL"} <= constants.keys():
        parts = (constants[name] for name in ("CUDNN_MAJOR", "CUDNN_MINOR", "CUDNN_PATCHLEVEL"))
        collector.add_build(FoundBuild(path, "cudnn", ".".join(map(str, parts))))


def _read_toolkit(path: str, data: bytes, collector: Collector) -> None:
    """`version.json` of a CUDA toolkit."""
    try:
        document = msgspec.json.decode(data)
    except (ValueError, RecursionError):
        return
    version = document.get("cuda", {}) if isinstance(document, dict) else {}
    text = version.get("version") if isinstance(version, dict) else None
    if isinstance(text, str) and _NUMBERS.fullmatch(text):
        collector.add_build(FoundBuild(path, "cuda", text))


def _read_python(path: str, data: bytes, collector: Collector) -> None:
    """`patchlevel.h` beside the interpreter's other headers."""
    match = _PY_VERSION.search(data)
    if match:
        collector.add_build(FoundBuild(path, "python", match[1].decode()))


def _is_python(path: str) -> bool:
    # Packages carry the headers of the interpreter that they were built with.
    return path.endswith("/patchlevel.h") and "/include/python3" in path and "-packages/" not in path


def _is_header(path: str) -> bool:
    # TensorFlow carries headers of the CUDA that it was built with, which need not be there.
    return path.endswith(_HEADERS) and "/tensorflow/include/" not in path


def _is_toolkit(path: str) -> bool:
    return path.endswith("/version.json") and path.startswith("usr/local/cuda")


CATALOGERS = (
    Cataloger(
        "tensorflow-build", ("build_info.py",), lambda path: path.endswith(_BUILD_INFO), _read_build_info, 64 << 10
    ),
    Cataloger("cuda-headers", tuple(header[1:] for header in _HEADERS), _is_header, _read_header, 2 << 20),
    Cataloger("python-headers", ("patchlevel.h",), _is_python, _read_python, 64 << 10),
    Cataloger("cuda-toolkit", ("version.json",), _is_toolkit, _read_toolkit, 64 << 10),
)  # fmt: skip
