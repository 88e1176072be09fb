"""The tables of docs/reference/framework-tables.md, from the data files."""

from collections.abc import Iterable

from tidewaiter.frameworks import tables
from tidewaiter.frameworks.tables import Wheel
from tidewaiter.frameworks.versions import ranged

FIRST_TABLE = "Tested build configurations"


def rows(heading: str, text: str, head: tuple[str, ...], body: Iterable[Iterable[object]]) -> str:
    """A section with one Markdown table."""
    lines = ["| " + " | ".join(map(str, row)) + " |" for row in (head, *body)]
    return "\n".join([f"## {heading}", "", text, "", lines[0], "|" + "---|" * len(head), *lines[1:], ""])


def flag_tables() -> tuple[str, ...]:
    """Sections about flags."""
    flags = tables.flags()
    return (
        rows(
            "Flags of tensorflow_model_server",
            f"By minor release, from 1.13 to {flags.newest_server}; what is there since 1.13 may be older.",
            ("flag", "type", "since", "last"),
            ((f"`--{one.name}`", one.type, one.since, one.until) for one in flags.server),
        ),
        rows(
            "Flags of tflite_convert",
            f"By minor release of TensorFlow, from 2.1 to {flags.newest_converter}. Those of converter 1\n"
            "hold with `--enable_v1_converter` only.",
            ("flag", "converter", "value", "since", "last"),
            (
                (f"`--{one.name}`", one.converter, "yes" if one.value else "no", one.since, one.until)
                for one in flags.converter
            ),
        ),
    )


def image_tables() -> tuple[str, ...]:
    """Sections about published images."""
    images = tables.images()
    return (
        rows(
            "Images of tensorflow/tensorflow",
            "What the project's Dockerfiles make, from the day of a change on. All run as root.",
            ("from", "Python", "CUDA with -gpu", "cuDNN with -gpu"),
            ((one.day, one.python, one.cuda, one.cudnn) for one in images.state),
        ),
        rows(
            "Releases without an image",
            "Of tensorflow/tensorflow on Docker Hub, with who says so.",
            ("release", "source", "sure"),
            ((one.release, f"<{one.url}>", "yes" if one.sure else "no") for one in images.unpublished),
        ),
        rows(
            "GPU images of tensorflow/serving",
            "What the Dockerfile of each minor release installs. All run as root.",
            ("release", "CUDA", "cuDNN"),
            ((one.series, one.cuda, one.cudnn) for one in images.serving),
        ),
    )


def page_tables() -> str:
    """The tables of the documentation page, from the data files."""
    here, cuda = tables.tensorflow(), tables.cuda()

    def asked(wheel: Wheel, package: str) -> str:
        return next((text for name, text in wheel.and_cuda.items() if name.startswith(package)), "")

    sections = (
        rows(
            FIRST_TABLE,
            "Linux, from TensorFlow's own page. Builds without GPU have the same versions of Python.",
            ("TensorFlow", "Python", "CUDA", "cuDNN", "compiler", "Bazel"),
            ((one.release, ranged(one.python), one.cuda, one.cudnn, one.compiler, one.bazel) for one in here.gpu),
        ),
        rows(
            "Wheels",
            "Of `tensorflow` on PyPI for x86-64 Linux: what their build information says, and the CUDA runtime and\n"
            "cuDNN that the extra `and-cuda` asks for. `sm_NN` is compiled code, `compute_NN` code for newer GPUs too.",
            ("release", "Python", "CUDA", "cuDNN", "code", "`nvidia-cuda-runtime`", "`nvidia-cudnn`"),
            (
                (
                    one.release,
                    ranged(one.python),
                    one.cuda,
                    one.cudnn,
                    ", ".join(one.capabilities),
                    asked(one, "nvidia-cuda-runtime"),
                    asked(one, "nvidia-cudnn"),
                )
                for one in here.wheel
            ),
        ),
        rows(
            "Least drivers",
            "For Linux, by major version of CUDA.",
            ("CUDA", "driver"),
            ((f"{one.major}.x", one.driver) for one in cuda.family),
        ),
        rows(
            "Drivers of the toolkits",
            "For Linux, of the first release of each minor version.",
            ("CUDA", "driver"),
            ((one.cuda, one.driver) for one in cuda.toolkit),
        ),
        rows(
            "cuDNN",
            "The major versions of CUDA that a minor version of cuDNN was published for.",
            ("cuDNN", "CUDA"),
            ((one.series, ", ".join(map(str, one.cuda))) for one in cuda.cudnn),
        ),
        rows(
            "GPUs",
            "Data center GPUs by compute capability. Mixed precision (float16) gains nothing below 7.0.",
            ("capability", "models"),
            ((one.capability, ", ".join(one.models)) for one in cuda.gpu),
        ),
        *flag_tables(),
        *image_tables(),
        rows(
            "Sources",
            "Facts, no text. A state without a date of its own has the day on which it was read.",
            ("table", "source", "as of", "terms"),
            (
                (one.table, f"<{one.url}>", one.as_of, one.terms)
                for one in (*here.source, *cuda.source, *tables.flags().source, *tables.images().source)
            ),
        ),
    )
    return "\n".join(sections)
