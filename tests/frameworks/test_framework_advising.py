"""Which image fits a task."""

import pytest

from tidewaiter.core.errors import InputError
from tidewaiter.frameworks import advising
from tidewaiter.frameworks.advising import Advice, Question

RECIPES = {"3.11": "debian12-python3.11", "3.13": "debian13-python3.13"}


def asked(text: str) -> Advice:
    return advising.advise(advising.read(text), RECIPES)


@pytest.mark.parametrize(
    ("text", "question"),
    [
        (
            "GPU training, TF 2.15, driver 525",
            Question(task="training", gpu=True, tensorflow="2.15", driver="525"),
        ),
        ("serve on CPUs with tensorflow==2.16.1", Question(task="serving", gpu=False, tensorflow="2.16.1")),
        (
            "train on a T4, python 3.11, cuda 12.2, driver 535.104.05",
            Question(task="training", gpu=True, model="T4", python="3.11", cuda="12.2", driver="535.104.05"),
        ),
        ("Jupyter on a GPU", Question(task="notebook", gpu=True)),
        ("2.15.0-gpu-jupyter", Question(task="notebook", gpu=True, tag="2.15.0-gpu-jupyter")),
        ("hello", Question()),
    ],
)
def test_words_are_read(text: str, question: Question) -> None:
    """A driver, a CUDA or a model of a GPU means that there is a GPU."""
    assert advising.read(text) == question


def test_gpu_training_with_an_old_but_sufficient_driver() -> None:
    """The image, why, and the lines for a Dockerfile, the requirements and the project file."""
    found = asked("GPU training, TF 2.15, driver 525")
    assert found.possible
    assert found.production
    assert found.image == "tensorflow/tensorflow:2.15.0-gpu"
    assert found.lines["Dockerfile"].startswith("FROM tensorflow/tensorflow:2.15.0-gpu\nUSER ")
    # 2.15.0 itself asks for parts of tensorrt that have no wheels.
    assert found.lines["requirements.in"] == "tensorflow[and-cuda]==2.15.1"
    assert 'use = "debian12-python3.11"' in found.lines["tidewaiter.toml"]
    assert any("525.60.13" in one for one in found.why)


@pytest.mark.parametrize(
    ("text", "reason", "nearest"),
    [
        ("GPU training, TF 2.15, driver 470", "525.60.13", "TensorFlow 2.14 "),
        ("GPU training, TF 2.15, python 3.12", "Python 3.12", "TensorFlow 2.16 "),
        ("GPU training, TF 2.15, cuda 11.8", "CUDA 12", "TensorFlow 2.14 "),
        ("training on a K80, TF 2.15", "compute capability 3.7", "TensorFlow 2.14 "),
        ("training on an H100, TF 2.15, driver 525", "535.54.03", "TensorFlow 2.16 "),
        ("GPU training, TF 2.12, python 3.11", "Python 3.8", "tensorflow/tensorflow:2.12.0-gpu, with Python 3.8"),
        ("GPU training, driver 390", "no tested configuration", "driver 525.60.13 or newer"),
        ("2.13.0-gpu-cuda11.8", "not published", "tensorflow/tensorflow:2.13.0-gpu"),
        ("2.18.0-gpu", "cuDNN 9", "2.17.0-gpu"),
    ],
)
def test_what_cannot_work_is_refused_with_the_nearest_that_can(text: str, reason: str, nearest: str) -> None:
    """The reason names the version that is missing; the nearest one has it."""
    found = asked(text)
    assert not found.possible
    assert not found.lines
    assert any(reason in one for one in found.why), found.why
    assert nearest in found.nearest


def test_gpu_images_that_train_on_the_cpu_are_not_recommended() -> None:
    """From 2.18 on wheels on a plain base are, since the images lack cuDNN 9."""
    found = asked("GPU training, TF 2.18")
    assert found.possible
    assert found.image == ""
    assert "Dockerfile" not in found.lines
    assert found.lines["requirements.in"] == "tensorflow[and-cuda]==2.18.1"


@pytest.mark.parametrize(
    ("text", "image", "production"),
    [
        ("notebook with GPU, TF 2.16", "tensorflow/tensorflow:2.16.2-gpu-jupyter", False),
        ("debugging on CPU, TF 2.15.1", "tensorflow/tensorflow:2.15.0", False),
        ("serving on CPU, TF 2.15", "tensorflow/serving:2.15.1", True),
        ("serving on GPU, TF 2.20", "tensorflow/serving:2.20.0-gpu", True),
        ("CPU training, TF 2.19", "tensorflow/tensorflow:2.19.0", True),
        ("2.15.0-gpu", "tensorflow/tensorflow:2.15.0-gpu", True),
        ("latest-jupyter", "tensorflow/tensorflow:latest-jupyter", False),
        ("nightly", "tensorflow/tensorflow:nightly", False),
        ("tensorflow/serving:2.15.1-devel", "tensorflow/serving:2.15.1-devel", False),
    ],
)
def test_which_image_and_whether_it_may_go_to_production(text: str, image: str, production: bool) -> None:
    """Notebooks, moving tags and images for building never do."""
    found = asked(text)
    assert (found.possible, found.image, found.production) == (True, image, production)


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("training", "too_little_said"),
        ("TF 2.15 on GPU", "too_little_said"),
        ("GPU training TF 2.99", "unknown_version"),
    ],
)
def test_too_little_is_bad_input(text: str, code: str) -> None:
    """What is missing is named; nothing is guessed."""
    with pytest.raises(InputError) as caught:
        asked(text)
    assert caught.value.code == code


@pytest.mark.parametrize(
    ("words", "task", "gpu", "version", "driver"),
    [
        ("训练 GPU TF 2.15 驱动 525", "training", True, "2.15", "525"),
        ("推理,CPU", "serving", False, "", ""),
        ("笔记本,无GPU", "notebook", False, "", ""),
        ("notebook for my students, no gpu", "notebook", False, "", ""),
        ("gpu traning TF2.15", "training", True, "2.15", ""),
        ("deploy without a GPU", "serving", False, "", ""),
    ],
)
def test_words_of_newcomers(words: str, task: str, gpu: bool, version: str, driver: str) -> None:
    """Chinese, typing mistakes and a no are understood."""
    found = advising.read(words)
    assert (found.task, found.gpu, found.tensorflow, found.driver) == (task, gpu, version, driver)


def test_serving_without_a_version_is_one_that_was_released() -> None:
    """The newest TensorFlow may have no server yet."""
    for words in ("serving on CPU", "GPU inference"):
        found = advising.advise(advising.read(words), {})
        assert found.possible
        assert found.image.startswith("tensorflow/serving:")


def test_another_framework_is_not_answered_with_tensorflow() -> None:
    """Nothing is known of it, and that is said."""
    with pytest.raises(InputError, match="nothing is known here of pytorch"):
        advising.read("pytorch training on gpu")
