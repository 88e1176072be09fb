"""The framework record, put together from packages and files."""

from tidewaiter.inspection import framework_record
from tidewaiter.inspection.facts import Framework, FrameworkRecord
from tidewaiter.sbom.component import Component, Kind


def package(name: str, version: str, kind: Kind = "python") -> Component:
    return Component(kind=kind, name=name, version=version, purl=f"pkg:{kind}/{name}@{version}", ecosystem="")


def build_info(**details: str) -> Framework:
    return Framework("tensorflow", "s/build_info.py", "", "", details)


GPU_BUILD = build_info(cuda_version="12.5.1", cudnn_version="9", is_cuda_build="true")
PYTHON = {"PYTHON_VERSION": "3.11.9"}


def record(*components: Component, frameworks: tuple[Framework, ...] = ()) -> FrameworkRecord:
    found = framework_record.of(components, frameworks, PYTHON)
    assert found is not None
    return found


def test_wheels_of_nvidia_make_a_tested_combination() -> None:
    """What the extra `and-cuda` installs is tested, and needs a driver of CUDA 12."""
    found = record(
        package("tensorflow", "2.18.0"),
        package("nvidia_cuda_runtime_cu12", "12.5.82"),
        package("nvidia-cudnn-cu12", "9.3.0.75"),
        frameworks=(GPU_BUILD,),
    )
    assert (found.tested, found.conflicts) == ("yes", ())
    assert (found.least_driver, found.toolkit_driver) == ("525.60.13", "555.42.02")


def test_the_cuda_that_tensorflow_loads_counts() -> None:
    """With CUDA 11 in the base and CUDA 12 in wheels, the latter is meant; alone, the former is a conflict."""
    base = package("cuda-cudart-11-8", "11.8.89-1", "deb")
    wheel = package("nvidia-cuda-runtime-cu12", "12.5.82")
    both = record(package("tensorflow", "2.18.0"), base, wheel, frameworks=(GPU_BUILD,))
    assert (both.cuda, both.conflicts) == ("12.5.82", ())
    alone = record(package("tensorflow", "2.18.0"), base, frameworks=(GPU_BUILD,))
    assert (alone.cuda, alone.least_driver) == ("11.8.89", "450.80.02")
    assert alone.conflicts == ("TensorFlow loads CUDA 12, the image has CUDA 11.8.89",)


def test_newer_is_newer_by_number() -> None:
    """12.10 is after 12.9."""
    found = record(package("nvidia-cuda-runtime-cu12", "12.9.79"), package("cuda-cudart-12-10", "12.10.3-1", "deb"))
    assert found.cuda == "12.10.3"


def test_a_wheel_with_cuda_code_runs_without_cuda() -> None:
    """No CUDA in the image: no driver is needed, and the configurations without GPU count."""
    found = record(package("tensorflow", "2.18.0"), frameworks=(GPU_BUILD,))
    assert (found.cuda, found.least_driver, found.toolkit_driver) == ("", "", "")
    assert (found.tested, found.nearest_tested) == ("yes", "TensorFlow 2.18 with Python 3.9-3.12")


def test_a_build_without_cuda_has_no_conflict() -> None:
    """Build information says that CUDA is not used, whatever lies beside it."""
    found = record(
        package("tensorflow-cpu", "2.18.0"),
        package("cuda-cudart-11-8", "11.8.89-1", "deb"),
        frameworks=(build_info(is_cuda_build="false"),),
    )
    assert (found.tested, found.conflicts, found.least_driver) == ("yes", (), "450.80.02")


def test_packages_of_other_kinds_bring_cuda() -> None:
    """conda's and Red Hat's packages are CUDA and cuDNN too."""
    conda = record(package("cudatoolkit", "11.8.0", "conda"), package("cudnn", "8.9.2.26", "conda"))
    assert (conda.cuda, conda.cudnn) == ("11.8.0", "8.9.2.26")
    rpm = record(package("cuda-cudart-12-5", "12.5.82-1", "rpm"), package("libcudnn9-cuda-12", "9.3.0.75-1", "rpm"))
    assert (rpm.cuda, rpm.cudnn) == ("12.5.82", "9.3.0.75")


def test_all_names_of_tensorflow_are_known() -> None:
    """Builds of others are TensorFlow, and not known to be tested."""
    found = record(package("intel_tensorflow", "2.13.0"))
    assert (found.tensorflow, found.tested) == ("2.13.0", "unknown")
    assert record(package("tf_nightly", "2.23.0.dev20261026")).tested == "unknown"


def test_an_image_without_any_of_it_has_no_record() -> None:
    """A model server without a version is a record still; nothing at all is none."""
    server = Framework("tensorflow-serving", "usr/bin/tensorflow_model_server", "")
    found = framework_record.of((), (server,), {})
    assert found is not None
    assert (found.serving, found.tested) == ("", "unknown")
    assert framework_record.of((package("numpy", "2.0"),), (), {}) is None
