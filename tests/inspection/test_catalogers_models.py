import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidewaiter.inspection.catalogers import frameworks, models
from tidewaiter.inspection.layer_facts import Collector, FoundBuild, FoundModel
from tidewaiter.oci.layer import Entry


def varint(number: int) -> bytes:
    out = b""
    while number > 0x7F:
        out += bytes([number & 0x7F | 0x80])
        number >>= 7
    return out + bytes([number])


def field(number: int, content: bytes | str) -> bytes:
    data = content.encode() if isinstance(content, str) else content
    return varint(number << 3 | 2) + varint(len(data)) + data


def saved_model(*signatures: str, graph: bytes = b"") -> bytes:
    """A SavedModel as TensorFlow writes it: schema version, then one meta graph."""
    info = field(2, b"ops" * 1000) + field(4, "serve") + field(4, "gpu") + field(5, "2.18.0") + field(6, "v2.18")
    entries = b"".join(
        field(5, field(1, name) + field(2, field(3, "tensorflow/serving/predict"))) for name in signatures
    )
    return b"\x08\x01" + field(2, field(1, info) + field(2, graph) + entries)


def read(path: str, data: bytes) -> FoundModel | None:
    collector = Collector()
    models.read(path, Entry(path=path, kind="file", size=len(data)), io.BytesIO(data), collector)
    assert not collector.unread
    return collector.models.get(path)


def test_a_saved_model_is_read_past_its_graph() -> None:
    """Name and version from the folders, tags, signatures and TensorFlow's version from the file, whatever its size."""
    found = read("models/mnist/3/saved_model.pb", saved_model("serving_default", "train", graph=bytes(3 << 20)))
    assert found == FoundModel(
        path="models/mnist/3/saved_model.pb", format="saved_model", name="mnist", version="3",
        tags=("gpu", "serve"), signatures=("serving_default", "train"), tensorflow="2.18.0",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("path", "named"),
    [
        ("models/mnist/1/saved_model.pb", ("mnist", "1")),
        ("srv/mnist/saved_model.pb", ("mnist", "")),
        ("models/mnist/model/2/saved_model.pb", ("mnist", "2")),
        ("models/1/saved_model.pb", ("models", "1")),
        ("7/saved_model.pb", ("model", "7")),
    ],
)
def test_a_model_is_named_by_its_folders(path: str, named: tuple[str, str]) -> None:
    """TensorFlow Serving's layout gives name and version; folders that say nothing are passed over."""
    assert models.name_of(path) == named


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"text",
        b"\xff" * 20,
        saved_model("a")[:-3],
        field(2, varint(1 << 40)),
        b"\x12\xff\xff\xff\xff\x0f",
        b"\x0b",
    ],
    ids=range(7),
)
def test_a_file_that_is_no_saved_model_says_so(data: bytes) -> None:
    """Damaged and foreign files are recorded with the problem, without tags and signatures."""
    found = read("m/1/saved_model.pb", data)
    assert found is not None
    assert found.problem
    assert (found.tags, found.signatures) == ((), ())


@given(st.binary(max_size=300))
def test_no_bytes_make_the_walk_fail(data: bytes) -> None:
    """Whatever the bytes, the file is a model or has a problem."""
    assert read("m/1/saved_model.pb", data) is not None


def test_names_of_signatures_are_bounded_and_clean() -> None:
    """Ten thousand signatures, or one with control characters, stay within bounds."""
    many = read("m/1/saved_model.pb", saved_model(*(f"s{number}" for number in range(10_000))))
    odd = read("m/1/saved_model.pb", saved_model("a\x1b[31m" + "x" * 5000))
    assert many is not None
    assert odd is not None
    assert len(many.signatures) == 200
    assert len(odd.signatures[0]) == 100
    assert odd.signatures[0].isprintable()


def test_a_lite_model_is_known_by_its_identifier() -> None:
    """`TFL3` behind the root offset makes a TFLite file; the name alone does not."""
    found = read("opt/digits.tflite", b"\x1c\0\0\0TFL3" + bytes(40))
    assert found == FoundModel(path="opt/digits.tflite", format="tflite", name="digits")
    assert read("opt/digits.tflite", b"\x1c\0\0\0TFL2") is None


@pytest.mark.parametrize(
    ("path", "build"),
    [
        ("usr/local/cuda-12.5/lib64/libcudart.so.12.5.82", ("cuda", "12.5.82")),
        ("s/nvidia/cuda_runtime/lib/libcudart.so.12", ("cuda", "12")),
        ("s/nvidia/cudnn/lib/libcudnn.so.9", ("cudnn", "9")),
        ("s/tensorflow/libtensorflow_cc.so.2", ("tensorflow", "2")),
        ("usr/lib/libnccl.so.2.21.5", ("nccl", "2.21.5")),
        ("usr/bin/tensorflow_model_server", ("tensorflow-serving", "")),
        ("usr/lib/libcudart.so", None),
        ("usr/lib/libcudnn_ops.so.9", None),
        ("usr/lib/libcudart.so.12x", None),
        ("usr/lib/xlibcudart.so.12", None),
    ],
)
def test_libraries_are_known_by_name(path: str, build: tuple[str, str] | None) -> None:
    """A library's name tells what it is and as much of the version as it holds."""
    assert frameworks.of_name(path) == (None if build is None else FoundBuild(path, *build))


def builds(path: str, data: bytes) -> dict[str, FoundBuild]:
    collector = Collector()
    readers = [one for one in frameworks.CATALOGERS if one.wants(path)]
    assert len(readers) == 1, path
    readers[0].read(path, data, collector)
    assert not collector.unread
    return collector.builds


BUILD_INFO = b'''"""Auto-generated module providing information about the build."""
import collections

build_info = collections.OrderedDict([('cpu_compiler', '/usr/lib/llvm-18/bin/clang'), ('cuda_compute_capabilities', \
['sm_60', 'sm_70', 'compute_90']), ('cuda_version', '12.5.1'), ('cudnn_version', '9'), ('is_cuda_build', True), \
('is_rocm_build', False), ('is_tensorrt_build', False)])
'''


def test_build_information_of_tensorflow() -> None:
    """Versions, capabilities and switches are read as data, without running the module."""
    path = "s/tensorflow/python/platform/build_info.py"
    assert builds(path, BUILD_INFO)[path].details == {
        "cpu_compiler": "/usr/lib/llvm-18/bin/clang",
        "cuda_compute_capabilities": "sm_60,sm_70,compute_90",
        "cuda_version": "12.5.1",
        "cudnn_version": "9",
        "is_cuda_build": "true",
        "is_rocm_build": "false",
        "is_tensorrt_build": "false",
    }
    assert builds(path, b"x" * 60_000)[path].details == {}
    assert len(builds(path, b"build_info = " + b"('a', '" * 9000)[path].details) <= 60


CUDNN = b"#define CUDNN_MAJOR 9\n#define CUDNN_MINOR 3\n #define CUDNN_PATCHLEVEL 0\n"
TOOLKIT = b'{"cuda": {"name": "CUDA SDK", "version": "12.5.1"}}'


@pytest.mark.parametrize(
    ("path", "data", "build"),
    [
        ("usr/local/cuda/include/cuda.h", b"#define CUDA_VERSION 12050\n", ("cuda", "12.5")),
        ("usr/include/cudnn_version.h", CUDNN, ("cudnn", "9.3.0")),
        ("usr/include/cudnn_version.h", b"#define CUDNN_MAJOR 9\n", None),
        ("usr/include/cuda.h", b"#define CUDA_VERSION CUDA_X\n", None),
        ("usr/local/cuda-12.5/version.json", TOOLKIT, ("cuda", "12.5.1")),
        ("usr/local/cuda/version.json", b'{"cuda": {"version": "12; x"}}', None),
        ("usr/local/cuda/version.json", b"[" * 60_000, None),
        ("usr/include/python3.11/patchlevel.h", b'#define PY_VERSION       "3.11.2"\n', ("python", "3.11.2")),
    ],
    ids=range(8),
)  # fmt: skip
def test_constants_tell_versions(path: str, data: bytes, build: tuple[str, str] | None) -> None:
    """Headers and the toolkit's list give the whole version; what they do not say is not made up."""
    assert builds(path, data) == ({} if build is None else {path: FoundBuild(path, *build)})


@pytest.mark.parametrize(
    "path",
    [
        "s/site-packages/tensorflow/include/external/python_3_11/include/python3.11/patchlevel.h",
        "s/dist-packages/tensorflow/include/third_party/gpus/cuda/include/cuda.h",
        "home/app/cuda/version.json",
        "usr/include/linux/patchlevel.h",
    ],
)
def test_headers_that_packages_carry_along_are_no_installation(path: str) -> None:
    """TensorFlow's wheel holds headers of the Python and the CUDA that built it; the image need not have them."""
    assert not any(one.wants(path) for one in frameworks.CATALOGERS)
