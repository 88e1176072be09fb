"""Shell scripts and their rules."""

import pytest

from tidewaiter.core.project import LintSection
from tidewaiter.lint.check import check
from tidewaiter.lint.files import Source
from tidewaiter.lint.finding import Span


def findings(text: str) -> list[tuple[str, int, int]]:
    return [(one.rule, one.span.line, one.span.column) for one in check(Source("run.sh", "shell", text), LintSection())]


def test_the_place_is_the_flag() -> None:
    """Also behind continued lines and wrappers."""
    text = "#!/bin/sh\nexec sudo tensorflow_model_server \\\n  --port=8500 \\\n  --use_xla\n"
    (one,) = check(Source("run.sh", "shell", text), LintSection())
    assert one.rule == "shell/server-flag"
    assert one.span == Span(4, 3, 4, 12)


def test_arguments_of_a_container_are_the_servers() -> None:
    """The image's tag says the version; another entry point means other arguments."""
    run = "docker run --rm -p 8501:8501 {} tensorflow/serving:2.13.0 --enable_grpc_healthcheck_service\n"
    assert findings(run.format("-e MODEL_NAME=x")) == [("shell/server-flag", 1, 72)]
    assert findings(run.format("--entrypoint /bin/sh")) == []
    assert findings(run.format("").replace("2.13.0", "2.15.1")) == []


def test_here_documents_are_no_commands() -> None:
    """What a script writes somewhere is not what it runs; behind it the script goes on."""
    text = "cat > help.txt <<'EOF'\ntensorflow_model_server --use_xla\nEOF\ntflite_convert --quantize_to_int8\n"
    assert findings(text) == [("shell/converter-flag", 4, 16)]


def test_the_rest_of_the_arguments_may_stand_elsewhere() -> None:
    """An entry point that adds to `$@` is not told what may stand in it."""
    assert findings('tensorflow_model_server --batching_parameters_file=/b "$@"\n') == []
    assert findings('tensorflow_model_server --use_xla "$@"\n') == [("shell/server-flag", 1, 25)]


def test_the_version_of_the_converter_is_what_the_script_installs() -> None:
    """Two versions say nothing."""
    text = "pip install tensorflow=={}\ntflite_convert --saved_model_dir=m --output_file=o --post_training_quantize\n"
    assert findings(text.format("2.15.1")) == [("shell/converter-flag", 2, 52)]
    assert findings(text.format("1.15.5")) == []
    assert findings("pip install tensorflow==1.15.5\n" + text.format("2.15.1")) == []


@pytest.mark.parametrize(
    "text", ["", "#!/bin/sh\n", "tensorflow_model_server", "docker run", "'", "$(", "cat <<A <<B\nA\n"]
)
def test_odd_scripts_are_read(text: str) -> None:
    """Nothing is found in them, and nothing fails."""
    assert findings(text) == []
