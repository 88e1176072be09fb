"""What is wrong with the arguments of `tensorflow_model_server` and `tflite_convert`, wherever they stand.

Both go on when they are given a flag that they do not have: the server prints `unknown argument` once among its log,
the converter says nothing at all.
"""

import re
from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from typing import Literal, NamedTuple

from tidewaiter.frameworks import flags, images, tables
from tidewaiter.frameworks.versions import numbers

SERVER = "tensorflow_model_server"
CONVERTER = "tflite_convert"
EVERYWHERE = "0.0.0.0"  # noqa: S104  looked for, not listened on
About = Literal["flag", "batching", "path", "metrics"]

_FLAG = re.compile(r"--?(?P<name>[A-Za-z][A-Za-z0-9_-]*)(?P<value>=.*)?", re.DOTALL)
_SECOND = (2,)
"""The converter of older versions is the first, without being asked for."""
_HELP = frozenset({"help"})
_INSTEAD = {
    "use_xla": "--xla_cpu_compilation_enabled, or --xla_gpu_compilation_enabled from 2.18 on",
    "enable_xla": "--xla_cpu_compilation_enabled, or --xla_gpu_compilation_enabled from 2.18 on",
    "xla": "--xla_cpu_compilation_enabled, or --xla_gpu_compilation_enabled from 2.18 on",
    **{
        name: f"--enable_batching, and `{name} {{ value: … }}` in the file of --batching_parameters_file"
        for name in (
            *("batch_timeout_micros", "max_batch_size", "max_enqueued_batches", "num_batch_threads"),
            *("pad_variable_length_inputs", "allowed_batch_sizes"),
        )
    },
    "grpc_port": "--port",
    "http_port": "--rest_api_port",
    "rest_port": "--rest_api_port",
    "model_path": "--model_base_path",
    "enable_metrics": "--monitoring_config_file",
    "prometheus": "--monitoring_config_file",
}
"""What people write, by what there is in its place; none of these was ever a flag of the server."""
_QUANTIZED = (
    "in Python: `tf.lite.TFLiteConverter` with `Optimize.DEFAULT`, a representative_dataset and TFLITE_BUILTINS_INT8"
)


class Problem(NamedTuple):
    """One thing that is wrong."""

    about: About
    word: int
    """Which word it is about."""
    message: str
    remedy: str


def server_version(image: str) -> str:
    """The version of the server in an image of tensorflow/serving; empty for another image, or when it does not say."""
    name, _, tag = image.partition("@")[0].rpartition(":")
    return images.version_of(tag) if images.repository_of(name) == images.SERVING else ""


def is_server(image: str) -> bool:
    """Whether arguments of that image's containers are arguments of the server: it is tensorflow/serving."""
    plain = image.partition("@")[0]
    name = plain.rpartition(":")[0] if ":" in plain.rpartition("/")[2] else plain
    return images.repository_of(name) == images.SERVING


def check_arguments(words: Sequence[str], version: str | None = None, *, metrics: bool = False) -> Iterator[Problem]:
    """What is wrong with the arguments of a model server.

    Args:
        words: what stands behind the program; variables of a shell may stand in them as they were written.
        version: of the server, when it is known.
        metrics: whether somebody reads its metrics.
    """
    given = {found["name"]: index for index, word in enumerate(words) if (found := _FLAG.fullmatch(word))}
    for index, word in enumerate(words):
        if word == "--":
            break
        found = _FLAG.fullmatch(word)
        if found is not None:
            yield from _flag(words, index, found["name"], found["value"], version or "")
    if "batching_parameters_file" in given and not {"enable_batching", "platform_config_file"} & set(given):
        yield Problem(
            "batching",
            given["batching_parameters_file"],
            "Batching stays off: the file is read only with --enable_batching.",
            "Add `--enable_batching`.",
        )
    yield from _path(words)
    if (
        metrics
        and "monitoring_config_file" not in given
        and flags.server_knows("monitoring_config_file", version or "") == "yes"
    ):
        yield Problem(
            "metrics",
            0,
            "The server has no metrics: /monitoring/prometheus/metrics answers 404.",
            "Add `--monitoring_config_file=FILE` with `prometheus_config { enable: true }` in it.",
        )


def _flag(words: Sequence[str], index: int, name: str, value: str | None, version: str) -> Iterator[Problem]:
    """What is wrong with one flag."""
    if name in _HELP:
        return
    known = flags.server_knows(name, version)
    flag = flags.server_flag(name)
    if name in _INSTEAD or known == "no":
        of = f"{SERVER} {version}" if version else SERVER
        when = f" It is there {flags.server_versions(name)}." if flag else ""
        close = get_close_matches(name.replace("-", "_"), [one.name for one in tables.flags().server], 1, 0.8)
        instead = _INSTEAD.get(name) or (f"--{close[0]}" if close and close[0] != name else "")
        yield Problem(
            "flag",
            index,
            f"{of} has no flag --{name}: it prints `unknown argument` and goes on without it.{when}",
            f"Use {instead}."
            if instead
            else "Leave it out, or take a version that has it."
            if flag
            else "Leave it out.",
        )
        return
    if flag is None or known != "yes":
        return
    if not words[index].startswith("--"):
        yield Problem("flag", index, f"-{name} is not read: flags begin with two dashes.", f"Write `-{words[index]}`.")
    elif flag.type == "bool":
        if value is not None and value not in {"=true", "=false"} and "$" not in value:
            yield Problem(
                "flag", index, f"--{name}{value} is not understood, and the server ends.", f"Write `--{name}=true`."
            )
    elif value is None:
        following = words[index + 1] if index + 1 < len(words) and not words[index + 1].startswith("-") else "VALUE"
        yield Problem(
            "flag",
            index,
            f"--{name} without `=` is not read: the server takes neither it nor the word behind it.",
            f"Write `--{name}={following}`.",
        )


def _path(words: Sequence[str]) -> Iterator[Problem]:
    """Whether the model's path can have versions below it."""
    for index, word in enumerate(words):
        found = _FLAG.fullmatch(word)
        if found is None or found["name"] != "model_base_path" or not found["value"]:
            continue
        path = found["value"][1:].strip("\"'").rstrip("/")
        last = path.rpartition("/")[2]
        if re.fullmatch(r"v\d+(?:\.\d+)*", last, re.IGNORECASE):
            yield Problem(
                "path",
                index,
                f"{last} is no version to the server: it looks below {path} for folders whose names are numbers.",
                f"Put the model into {path.rpartition('/')[0]}/{re.sub(r'[^0-9].*', '', last[1:])}, "
                f"and name {path.rpartition('/')[0]} here.",
            )
        elif re.fullmatch(r"\d+", last) and "/" in path:
            yield Problem(
                "path",
                index,
                f"{path} is one version; the server looks below it for folders whose names are numbers.",
                f"Name the folder above: `--model_base_path={path.rpartition('/')[0]}`.",
            )


def check_converter(words: Sequence[str], version: str | None = None) -> Iterator[Problem]:
    """What is wrong with the arguments of `tflite_convert`.

    Args:
        words: what stands behind the program.
        version: of TensorFlow, when it is known. Without one nothing is said of flags that only the converter of
            TensorFlow 1 has: the script may be for that.
    """
    if version and numbers(version) < _SECOND:
        version = None
    first = any(word.startswith("--enable_v1") for word in words)
    known = flags.converter_flags(version or "", converter=2 if version and not first else None)
    for index, word in enumerate(words):
        found = _FLAG.fullmatch(word)
        if found is None or not word.startswith("--") or "$" in found["name"] or found["name"] in _HELP:
            continue
        name = found["name"]
        if any(one.startswith(name) for one in known):  # argparse takes what a flag begins with for the flag
            continue
        old = name in flags.converter_flags(version or "", converter=1)
        quantizes = re.search(r"quant|int8", name)
        yield Problem(
            "flag",
            index,
            f"{CONVERTER} has no flag --{name}: it drops it in silence"
            + (", and the model stays float." if quantizes else "."),
            "Add `--enable_v1_converter`, or convert in Python."
            if old
            else f"Convert {_QUANTIZED}."
            if quantizes
            else "Leave it out, or convert in Python with `tf.lite.TFLiteConverter`.",
        )
