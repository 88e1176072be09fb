"""Arguments of the model server and of the converter."""

import pytest

from tidewaiter.lint import serving


def found(words: str, version: str | None = None, *, metrics: bool = False) -> list[tuple[str, str]]:
    """What each problem is about, and the word that it names."""
    said = words.split()
    return [(one.about, said[one.word]) for one in serving.check_arguments(said, version, metrics=metrics)]


@pytest.mark.parametrize(
    ("words", "version", "wrong"),
    [
        ("--use_xla --port=8500", None, ["--use_xla"]),
        ("--batch_timeout_micros=1000", "2.16.1", ["--batch_timeout_micros=1000"]),
        ("--xla_gpu_compilation_enabled", "2.17.0", ["--xla_gpu_compilation_enabled"]),
        ("--xla_gpu_compilation_enabled", "2.18.0", []),
        ("--xla_gpu_compilation_enabled", None, []),
        ("--enable_grpc_healthcheck_service=true", "2.14.0", ["--enable_grpc_healthcheck_service=true"]),
        ("--rest_api_port 8501", None, ["--rest_api_port"]),
        ("-port=8500", None, ["-port=8500"]),
        ("--enable_batching=1", None, ["--enable_batching=1"]),
        ("--enable_batching=${BATCH} --model_name=$NAME ${MORE} $@", None, []),
        ("--some_new_flag", "2.99.0", []),
        ("--use_xla", "2.99.0", ["--use_xla"]),
        ("-- --use_xla", None, []),
        ("--help", None, []),
    ],
)
def test_flags_that_the_server_does_not_read(words: str, version: str | None, wrong: list[str]) -> None:
    """By version when it is known; a value stands behind `=`; what newer servers may have is left alone."""
    assert [word for about, word in found(words, version) if about == "flag"] == wrong


def test_what_to_write_instead_is_named() -> None:
    """The flag that there is, or the nearest one; and since when a version has it."""
    said = {
        words: next(iter(serving.check_arguments(words.split(), "2.14.0")))
        for words in (
            "--use_xla",
            "--batch_timeout_micros=5",
            "--rest_api_prot=8501",
            "--enable_grpc_healthcheck_service",
        )
    }
    assert "--xla_cpu_compilation_enabled" in said["--use_xla"].remedy
    assert "--batching_parameters_file" in said["--batch_timeout_micros=5"].remedy
    assert said["--rest_api_prot=8501"].remedy == "Use --rest_api_port."
    assert "since 2.15" in said["--enable_grpc_healthcheck_service"].message


def test_batching_needs_its_switch() -> None:
    """A file without the switch; with it, or with a platform's own configuration, all is well."""
    assert found("--batching_parameters_file=/b") == [("batching", "--batching_parameters_file=/b")]
    assert found("--batching_parameters_file=/b --enable_batching") == []
    assert found("--batching_parameters_file=/b --platform_config_file=/p") == []


@pytest.mark.parametrize(
    ("path", "wrong"),
    [
        ("/exports/models/v1", True),
        ("/models/digits/3/", True),
        ("/models/digits", False),
        ("${BASE}/$NAME", False),
        ("gs://bucket/digits", False),
        ("/models/v1_digits", False),
    ],
)
def test_paths_without_room_for_versions(path: str, wrong: bool) -> None:
    """`v1` is no number, and a number is a version already."""
    assert bool(found(f"--model_base_path={path}")) == wrong


def test_metrics_need_a_file() -> None:
    """Only asked when somebody reads them."""
    assert found("--port=1", metrics=True) == [("metrics", "--port=1")]
    assert found("--monitoring_config_file=/m", metrics=True) == []
    assert found("--port=1") == []


def test_images_of_the_server() -> None:
    """Version and name from a reference; mirrors are not the official one."""
    assert serving.server_version("docker.io/tensorflow/serving:2.13.0-gpu@sha256:00") == "2.13.0"
    assert serving.server_version("tensorflow/serving:latest") == ""
    assert serving.server_version("tensorflow/serving") == ""
    assert serving.is_server("tensorflow/serving")
    assert not serving.is_server("localhost:5000/tensorflow/serving")


@pytest.mark.parametrize(
    ("words", "version", "wrong"),
    [
        ("--saved_model_dir=m --quantize_to_int8 --output_file=o", None, ["--quantize_to_int8"]),
        ("--saved_model_dir=m --output_file=o --post_training_quantize", "2.15.0", ["--post_training_quantize"]),
        ("--enable_v1_converter --output_file=o --post_training_quantize", "2.15.0", []),
        ("--graph_def_file=g --output_file=o --post_training_quantize", None, []),
        ("--keras_model m --output f", "2.15.0", []),
        ("--help", "2.15.0", []),
    ],
)
def test_flags_that_the_converter_drops(words: str, version: str | None, wrong: list[str]) -> None:
    """Abbreviations count as argparse reads them; without a version the script may be for TensorFlow 1."""
    said = words.split()
    assert [said[one.word] for one in serving.check_converter(said, version)] == wrong
