"""The data files of this room as values. Each file names its sources; `tools/knowledge` compares them again."""

import functools
import importlib.resources
import tomllib
from typing import TypeVar

import msgspec


class _Row(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    pass


class Source(_Row, frozen=True):
    """Where a table comes from."""

    table: str
    url: str
    as_of: str
    """Day of the state that was read, or of the reading where the source does not say; `YYYY-MM-DD`."""
    terms: str
    """Licence and attribution, or why none is needed."""


class TestedBuild(_Row, frozen=True):
    """A tested build configuration of TensorFlow on Linux."""

    release: str
    python: tuple[str, ...]
    compiler: str
    bazel: str
    cuda: str = ""
    """Empty for a build without GPU."""
    cudnn: str = ""

    __test__ = False  # pytest: not a test, whatever its name begins with


class Wheel(_Row, frozen=True):
    """The wheels of one release of `tensorflow` on PyPI for x86-64 Linux, and the build information inside."""

    release: str
    python: tuple[str, ...]
    cuda: str
    cudnn: str
    capabilities: tuple[str, ...]
    """`sm_NN` is compiled code, `compute_NN` code that the driver compiles for newer GPUs."""
    and_cuda: dict[str, str] = {}
    """What the extra `and-cuda` asks for: package and version specifier; empty before the extra was there."""


class TensorFlowTables(_Row, frozen=True):
    """`tensorflow.toml`."""

    source: tuple[Source, ...]
    cpu: tuple[TestedBuild, ...]
    gpu: tuple[TestedBuild, ...]
    wheel: tuple[Wheel, ...]


class Family(_Row, frozen=True):
    """A major version of CUDA whose minor versions all run on one least driver."""

    major: int
    driver: str


class Toolkit(_Row, frozen=True):
    """A minor version of CUDA, and the Linux driver of its first release."""

    cuda: str
    driver: str


class CudnnSeries(_Row, frozen=True):
    """A minor version of cuDNN, and the major versions of CUDA that it was published for."""

    series: str
    cuda: tuple[int, ...]


class Gpu(_Row, frozen=True):
    """Models of data center GPUs with one compute capability."""

    capability: str
    models: tuple[str, ...]


class CudaTables(_Row, frozen=True):
    """`cuda.toml`."""

    source: tuple[Source, ...]
    family: tuple[Family, ...]
    toolkit: tuple[Toolkit, ...]
    cudnn: tuple[CudnnSeries, ...]
    gpu: tuple[Gpu, ...]


class ServerFlag(_Row, frozen=True):
    """A flag of `tensorflow_model_server`, by minor releases of TensorFlow Serving."""

    name: str
    type: str
    """`bool`, `string`, `int` or `float`."""
    since: str
    until: str = ""
    """The last minor release that has it; empty when the newest one does."""


class ConverterFlag(_Row, frozen=True):
    """A flag of `tflite_convert`, by minor releases of TensorFlow."""

    name: str
    converter: int
    """2, or 1 for the one that `--enable_v1_converter` asks for."""
    value: bool
    """Whether it takes a value."""
    since: str
    until: str = ""


class FlagTables(_Row, frozen=True):
    """`flags.toml`."""

    newest_server: str
    newest_converter: str
    source: tuple[Source, ...]
    server: tuple[ServerFlag, ...]
    converter: tuple[ConverterFlag, ...]


class ImageState(_Row, frozen=True):
    """What the Dockerfiles of tensorflow/tensorflow make from a day on."""

    day: str
    python: str
    cuda: str
    """With `-gpu`."""
    cudnn: str


class ImageOf(_Row, frozen=True):
    """The images of one minor release of TensorFlow: which state of the Dockerfiles they were made of."""

    series: str
    day: str
    """Of the state."""
    sure: bool = True
    """False when the images came within days of the change."""


class Unpublished(_Row, frozen=True):
    """A release of TensorFlow that has no image on Docker Hub."""

    release: str
    url: str
    sure: bool = True
    """False when nobody says so, and nobody uses one either."""


class ServingImage(_Row, frozen=True):
    """The GPU image of a minor release of TensorFlow Serving."""

    series: str
    cuda: str
    cudnn: str


class ImageTables(_Row, frozen=True):
    """`images.toml`."""

    source: tuple[Source, ...]
    never: tuple[str, ...]
    """Regular expressions for parts between dashes that no tag of a TensorFlow from 2.2 on has."""
    state: tuple[ImageState, ...]
    image: tuple[ImageOf, ...]
    unpublished: tuple[Unpublished, ...]
    serving: tuple[ServingImage, ...]
    serving_release: tuple[str, ...]
    """Tags of its repository, oldest first; without release candidates."""


_Tables = TypeVar("_Tables", TensorFlowTables, CudaTables, FlagTables, ImageTables)


def _load(name: str, kind: type[_Tables]) -> _Tables:
    text = (importlib.resources.files(__package__) / "data" / name).read_text(encoding="utf-8")
    return msgspec.convert(tomllib.loads(text), kind)


@functools.cache
def tensorflow() -> TensorFlowTables:
    """Builds and wheels of TensorFlow, newest first."""
    return _load("tensorflow.toml", TensorFlowTables)


@functools.cache
def cuda() -> CudaTables:
    """Drivers, toolkits, cuDNN and GPUs, newest first."""
    return _load("cuda.toml", CudaTables)


@functools.cache
def flags() -> FlagTables:
    """Flags of the model server and of the converter, by name."""
    return _load("flags.toml", FlagTables)


@functools.cache
def images() -> ImageTables:
    """Published images of TensorFlow and TensorFlow Serving."""
    return _load("images.toml", ImageTables)
