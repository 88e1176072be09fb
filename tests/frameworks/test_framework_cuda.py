import pytest

from tidewaiter.frameworks import cuda


@pytest.mark.parametrize(
    ("version", "least", "toolkit"),
    [
        ("11.8.89", "450.80.02", "520.61.05"),
        ("12.2.140", "525.60.13", "535.54.03"),
        ("12.5", "525.60.13", "555.42.02"),
        ("12", "525.60.13", ""),
        ("13.0.96", "580", "580.65.06"),
        ("10.2", "440.33", "440.33"),
        ("10", "", ""),
        ("99.1", "", ""),
        ("", "", ""),
    ],
)
def test_drivers_of_a_cuda(version: str, least: str, toolkit: str) -> None:
    """From CUDA 11 on the major version tells the least driver; what is not in the tables is not guessed."""
    assert cuda.least_driver(version) == least
    assert cuda.toolkit_driver(version) == toolkit


@pytest.mark.parametrize(
    ("version", "driver", "answer"),
    [
        ("12.2", "525.60.12", "no"),
        ("12.2", "525.60.13", "limited"),
        ("12.2", "525", "limited"),
        ("12.2", "535.54.03", "yes"),
        ("12.2", "580.65.06", "yes"),
        ("11.8", "450.80.02", "limited"),
        ("11.8", "418.39", "no"),
        ("13.0", "575.57.08", "no"),
        ("12", "525.60.13", "unknown"),
        ("99.0", "600", "unknown"),
        ("12.2", "", "unknown"),
        ("12.2", "new", "unknown"),
    ],
)
def test_what_runs_on_a_driver(version: str, driver: str, answer: str) -> None:
    """Minor version compatibility is `limited`: what the driver has to compile needs the toolkit's own driver."""
    assert cuda.runs(version, driver) == answer


@pytest.mark.parametrize(
    ("cudnn", "version", "fits"),
    [
        ("9.3.0.75", "12.5", True),
        ("9.3.0", "13.0", False),
        ("8.7.0.84", "12.2", False),
        ("8.9.4.25", "12", True),
        ("9.12.0", "11.8", False),
        ("9", "12", None),
        ("77.1", "12", None),
        ("9.3", "", None),
    ],
)
def test_cudnn_is_published_for_major_versions_of_cuda(cudnn: str, version: str, fits: bool | None) -> None:
    """A known pair fits or does not; an unknown one is neither."""
    assert cuda.cudnn_fits(cudnn, version) is fits


@pytest.mark.parametrize(
    ("name", "capability"),
    [
        ("Tesla T4", "7.5"),
        ("NVIDIA A100-SXM4-80GB", "8.0"),
        ("Tesla-V100-SXM2-16GB", "7.0"),
        ("NVIDIA-L4", "8.9"),
        ("NVIDIA L40S", "8.9"),
        ("NVIDIA H100 80GB HBM3", "9.0"),
        ("t4", "7.5"),
        ("NVIDIA T400", ""),
        ("", ""),
    ],
)
def test_capability_of_a_gpu(name: str, capability: str) -> None:
    """Names as the driver and the device plugin report them; a model is a whole word."""
    assert cuda.capability_of(name) == capability


@pytest.mark.parametrize(
    ("targets", "capability", "code"),
    [
        (("sm_60", "sm_70", "sm_80", "sm_89", "compute_90"), "7.5", "compiled"),
        (("sm_60", "sm_70", "sm_80", "sm_89", "compute_90"), "9.0", "compiled"),
        (("sm_60", "sm_70", "sm_80", "sm_89", "compute_90"), "10.0", "ptx"),
        (("sm_60", "compute_90"), "3.7", "none"),
        (("sm_86",), "8.0", "none"),
        (("sm_80",), "9.0", "none"),
        ((), "8.0", "unknown"),
        (("sm_80",), "", "unknown"),
        (("gfx90a",), "8.0", "unknown"),
    ],
)
def test_code_for_a_gpu(targets: tuple[str, ...], capability: str, code: str) -> None:
    """Compiled code stays within a major version and goes up in minor ones; PTX goes up in all."""
    assert cuda.code_for(targets, capability) == code
