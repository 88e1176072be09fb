"""Which flags the model server and the converter know, by version."""

import pytest

from tidewaiter.frameworks import flags, tables
from tidewaiter.frameworks.versions import numbers


@pytest.mark.parametrize(
    ("name", "version", "known"),
    [
        ("use_xla", "", "no"),
        ("batch_timeout_micros", "2.16.1", "no"),
        ("xla_cpu_compilation_enabled", "2.4.0", "no"),
        ("xla_cpu_compilation_enabled", "2.5.1", "yes"),
        ("xla_gpu_compilation_enabled", "2.17.0", "no"),
        ("xla_gpu_compilation_enabled", "2.18.0", "yes"),
        ("enable_grpc_healthcheck_service", "2.14.1", "no"),
        ("enable_grpc_healthcheck_service", "2.15.1", "yes"),
        ("enable_grpc_healthcheck_service", "", "yes"),
        ("use_tflite_model", "2.2.0", "yes"),
        ("use_tflite_model", "2.3.0", "no"),
        ("port", "2.99.0", "yes"),
        ("use_xla", "2.99.0", "unknown"),
        ("use_tflite_model", "2.99.0", "unknown"),
        ("port", "1.2.0", "unknown"),
    ],
)
def test_a_flag_of_the_server_is_known_by_version(name: str, version: str, known: str) -> None:
    """Without a version any counts; of versions beyond the table only what the newest has is said."""
    assert flags.server_knows(name, version) == known


def test_every_flag_of_the_server_has_a_type_and_a_span() -> None:
    """The checks of values depend on the type."""
    for one in tables.flags().server:
        assert one.type in {"bool", "string", "int", "float"}, one
        assert numbers(one.since) <= numbers(one.until or tables.flags().newest_server)
    assert len(tables.flags().server) > 40


def test_versions_of_a_flag_in_words() -> None:
    """A finding says since when a flag is there."""
    assert flags.server_versions("enable_grpc_healthcheck_service") == "since 2.15"
    assert flags.server_versions("use_tflite_model") == "from 1.15 to 2.2"
    assert flags.server_versions("use_xla") == ""


def test_the_converters_differ() -> None:
    """What only the converter of TensorFlow 1 has is dropped by the other."""
    second, first = flags.converter_flags("2.15.1", converter=2), flags.converter_flags("2.15.1", converter=1)
    assert "saved_model_dir" in second
    assert "post_training_quantize" not in second
    assert "post_training_quantize" in first
    assert "enable_v1_converter" not in first
    assert "saved_model_signature_key" not in flags.converter_flags("2.4.4", converter=2)
    assert flags.converter_flags("2.99", converter=2) == flags.converter_flags("2.21", converter=2)
    assert all("quantize_to_int8" not in found for found in (first, second, flags.converter_flags()))
