"""The rules about model servers and converters, said once for each kind of file that can start one."""

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, NamedTuple

from tidewaiter.lint.finding import Found, Severity
from tidewaiter.lint.rule import declare
from tidewaiter.lint.serving import About


class _Said(NamedTuple):
    name: str
    severity: Severity
    about: About
    text: str
    """Title and why."""


_SERVER = (
    _Said(
        "server-flag",
        "error",
        "flag",
        """tensorflow_model_server is given a flag that it does not read.

        The server prints `unknown argument` once and goes on: XLA stays off, batching keeps its defaults, nothing
        fails. `--use_xla` and `--batch_timeout_micros` never existed; of others it depends on the version. A flag and
        its value are one word, with `=` between.
        """,
    ),
    _Said(
        "server-batching",
        "warning",
        "batching",
        """A batching file is named and batching is off.

        `--batching_parameters_file` says how to batch, `--enable_batching` that it is done. Without it requests run one
        by one, and the GPU is idle most of the time.
        """,
    ),
    _Said(
        "server-model-path",
        "warning",
        "path",
        """The model's path leaves no room for versions.

        The server serves `MODEL_BASE_PATH/NUMBER/`: folders named by whole numbers. It does not see `v1`, and below a
        version it waits for further ones for ever.
        """,
    ),
    _Said(
        "server-metrics",
        "warning",
        "metrics",
        """Metrics are asked of a server that has none.

        TensorFlow Serving answers on its Prometheus path only when `--monitoring_config_file` names a file that enables
        it.
        """,
    ),
)
_CONVERTER = """tflite_convert is given a flag that it does not have.

    It drops what it does not know and says nothing. After `--quantize_to_int8` the model is a float model: four times
    the size, and slow on the device that it was made for.
    """


def declare_for(
    kind: str,
    servers: Callable[..., Iterable[Found]],
    converters: Callable[[Any], Iterable[Found]],
) -> None:
    """Declares these rules for files of that kind.

    Args:
        kind: of files.
        servers: finds, in a parsed file, what is wrong with model servers in the respect `about`.
        converters: finds what is wrong with calls of `tflite_convert`.
    """
    for said in _SERVER:
        declare(f"{kind}/{said.name}", said.severity, said.text, partial(servers, about=said.about))
    declare(f"{kind}/converter-flag", "error", _CONVERTER, converters)
