from tidewaiter.advisories.names import identities, normalise


def test_names_of_python_packages_compare_by_pep_503() -> None:
    """Case and runs of separators do not count for PyPI, and do elsewhere."""
    assert normalise("PyPI", "Foo._-Bar") == "foo-bar"
    assert normalise("Debian:12", "Foo_Bar") == "Foo_Bar"


def test_tensorflow_is_one_identity_under_all_its_names() -> None:
    """Each name of TensorFlow leads to all of the others, its own first; other packages stand alone."""
    names = identities("PyPI", "TensorFlow_CPU")
    assert names[0] == "tensorflow-cpu"
    assert set(names) == {
        "tensorflow",
        "tensorflow-cpu",
        "tensorflow-gpu",
        "tensorflow-intel",
        "tensorflow-cpu-aws",
        "intel-tensorflow",
        "tf-nightly",
    }
    assert identities("PyPI", "tensorflow-serving-api") == ("tensorflow-serving-api",)
    assert identities("Debian:12", "tensorflow") == ("tensorflow",)


def test_nvidia_libraries_are_one_identity_for_every_cuda() -> None:
    """The wheels of one library for CUDA 11, 12 and later, and its unsuffixed one, lead to each other."""
    names = {"nvidia-cublas", "nvidia-cublas-cu11", "nvidia-cublas-cu12", "nvidia-cublas-cu13"}
    for name in names:
        assert names <= set(identities("PyPI", name))
        assert identities("PyPI", name)[0] == name
    assert "nvidia-dali-cuda120" in identities("PyPI", "nvidia_dali_cuda110")
    assert identities("PyPI", "cupy-cuda12x") == ("cupy-cuda12x",)
    assert identities("Debian:12", "nvidia-cublas-cu12") == ("nvidia-cublas-cu12",)
