"""Which image fits a task: what was asked for in a few words, and the answer with reasons and lines to write."""

import re
from collections.abc import Mapping
from typing import Literal

import msgspec

from tidewaiter.core.errors import InputError
from tidewaiter.frameworks import cuda as cudas
from tidewaiter.frameworks import images, tables, tensorflow
from tidewaiter.frameworks.tables import TestedBuild, Wheel
from tidewaiter.frameworks.versions import major, numbers, ranged, series

Task = Literal["training", "debugging", "notebook", "serving"]

_TASKS: tuple[tuple[Task, str], ...] = (
    ("serving", r"\b(?:serv(?:e|es|ing|er)|inference|predict(?:ion)?s?|deploy\w*|model.server)\b|推理|服务|部署|预测"),
    ("notebook", r"\b(?:notebooks?|jupyter(?:lab)?|explor\w+)\b|笔记本|教学"),
    ("debugging", r"\bdebug\w*\b|调试"),
    ("training", r"\b(?:trai?n(?:s|ing)?|fine.?tun\w+)\b|训练|微调"),
)
_TAG = re.compile(
    r"(?:(?P<repository>(?:[\w.:-]+/)*tensorflow/(?:tensorflow|serving)):)?"
    r"(?P<tag>(?:latest|nightly|devel|\d+\.\d+\.\d+(?:\.post\d+)?)(?:-[a-z][\w.]*)*)",
    re.ASCII,
)
_VALUE = {
    name: re.compile(pattern, re.IGNORECASE | re.ASCII)
    for name, pattern in (
        ("tensorflow", r"\b(?:tf|tensorflow)[\s=:v]*(\d+\.\d+(?:\.\d+(?:\.post\d+)?)?)"),
        ("driver", r"(?:\bdriver|驱动)(?:版本)?[\s=:v]*(\d{3}(?:\.\d+){0,2})\b"),
        ("python", r"\bpy(?:thon)?[\s=:v]*(3\.\d+)"),
        ("cuda", r"\bcuda[\s=:v]*(\d+(?:\.\d+)?)"),
    )
}
"""ASCII: a Chinese character beside a word ends it."""
_WITHOUT_GPU = re.compile(
    r"\b(?:no|without(?: an?)?|not? use|ohne)\s+gpus?\b|(?:无|不用|没有)\s*(?:gpu|显卡)", re.ASCII
)
_OTHERS = re.compile(
    r"\b(?:py)?torch\b|\b(?:jax|flax|mxnet|paddle(?:paddle)?|vllm|onnx(?:runtime)?|sklearn|xgboost)\b", re.ASCII
)


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """What somebody wants; empty where nothing was said."""

    task: Task | None = None
    gpu: bool | None = None
    model: str = ""
    """Of the GPU, as it was written."""
    tensorflow: str = ""
    driver: str = ""
    python: str = ""
    cuda: str = ""
    tag: str = ""
    """A tag that is asked about."""
    repository: str = ""


class Advice(msgspec.Struct, frozen=True, kw_only=True):
    """The answer."""

    possible: bool
    image: str = ""
    """The image to stand on; empty when wheels on a plain base are better, or nothing fits."""
    production: bool = False
    """Whether it may go there, once it is named by digest and runs as somebody else than root."""
    why: tuple[str, ...]
    lines: dict[str, str] = {}
    """What to write, by file."""
    nearest: str = ""
    """When it is not possible: what is nearest to it and works."""


def read(text: str) -> Question:
    """What a few words ask for: `GPU training, TF 2.15, driver 525`, or an image's tag.

    Raises:
        InputError: it asks about another framework.
    """
    low = text.lower()
    if (other := _OTHERS.search(low)) and not re.search(r"\b(?:tf|tensorflow)\b", low, re.ASCII):
        raise InputError(
            f"nothing is known here of {other[0]}",
            next_step="Ask about TensorFlow: its images, versions and drivers are what this answers from.",
            code="too_little_said",
        )
    found = {name: match[1] for name, pattern in _VALUE.items() if (match := pattern.search(low))}
    model = next((word for word in re.split(r"[\s,;]+", text) if cudas.capability_of(word)), "")
    gpu: bool | None = None
    if _WITHOUT_GPU.search(low):
        gpu = False
    elif re.search(r"\bgpus?\b|-gpu\b|显卡", low, re.ASCII) or model or {"driver", "cuda"} & set(found):
        gpu = True
    elif re.search(r"\bcpus?\b", low, re.ASCII):
        gpu = False
    tag = next((one for one in _TAG.finditer(low) if one["repository"] or _is_tag(one["tag"], low)), None)
    return Question(
        task=next((task for task, pattern in _TASKS if re.search(pattern, low, re.ASCII)), None),
        gpu=gpu,
        model=model,
        tag=tag["tag"] if tag else "",
        repository=(tag["repository"] or "") if tag else "",
        **found,
    )


def _is_tag(tag: str, text: str) -> bool:
    """Whether a word without repository is meant as a tag: it says more than a version, or is all that there is."""
    return "-" in tag or tag in {"latest", "nightly"} or tag == text.strip()


def advise(it: Question, recipes: Mapping[str, str]) -> Advice:
    """What to stand on.

    Args:
        it: the question.
        recipes: names of bases by the minor version of their Python.

    Raises:
        InputError: it says too little, or names a version that the tables do not have.
    """
    if it.tag:
        return _about_tag(it)
    missing = [name for name, said in (("the task", it.task), ("GPU or CPU", it.gpu is not None)) if not said]
    if missing:
        raise InputError(
            f"it is not said: {' and '.join(missing)}",
            next_step='Say it: `tidewaiter advise "GPU training, TF 2.15, driver 525"`; tasks are training, debugging, '
            "notebook and serving.",
            code="too_little_said",
        )
    gpu = bool(it.gpu)
    build = tensorflow.build_of(it.tensorflow, gpu=gpu) if it.tensorflow else _newest(it)
    if build is None:
        if not it.tensorflow:
            return _refused(it, ["no tested configuration of TensorFlow has all of that"])
        raise InputError(
            f"no tested configuration of TensorFlow {it.tensorflow} is known",
            next_step=f"Name one from {series(tensorflow.builds(gpu=gpu)[-1].release)} to "
            f"{series(tensorflow.builds(gpu=gpu)[0].release)}.",
            code="unknown_version",
        )
    against = _against(it, build)
    if against:
        return _refused(it, against)
    why = [f"{tensorflow.described(build)} is a tested configuration", *_notes(it, build)]
    return _serving(it, build, why) if it.task == "serving" else _framework(it, build, why, recipes)


def _newest(it: Question) -> TestedBuild | None:
    """The newest configuration that nothing speaks against, and for serving one whose server was released."""
    served = {series(one) for one in tables.images().serving_release}
    return next(
        (
            one
            for one in tensorflow.builds(gpu=bool(it.gpu))
            if not _against(it, one) and (it.task != "serving" or series(one.release) in served)
        ),
        None,
    )


def _closest(it: Question, version: str) -> TestedBuild | None:
    """The configuration that nothing speaks against and whose minor release is closest to a version."""
    if not version:
        return _newest(it)
    wanted = numbers(series(version))[1:]
    fitting = [one for one in tensorflow.builds(gpu=bool(it.gpu)) if not _against(it, one)]
    return min(fitting, key=lambda one: abs(numbers(one.release)[1] - (wanted or (0,))[0]), default=None)


def _against(it: Question, build: TestedBuild) -> list[str]:
    """Why a configuration cannot do what is asked for."""
    found = []
    name = f"TensorFlow {series(build.release)}"
    if it.python and it.task != "serving" and series(it.python) not in build.python:
        found.append(f"{name} has no wheels for Python {series(it.python)}, only for {ranged(build.python)}")
    if not it.gpu:
        return found
    if it.driver and cudas.runs(build.cuda, it.driver) == "no":
        least = cudas.least_driver(build.cuda)
        found.append(f"{name} uses CUDA {build.cuda}, which needs driver {least} or newer; {it.driver} is older")
    if it.cuda and major(it.cuda) != major(build.cuda):
        found.append(
            f"{name} loads the libraries of CUDA {major(build.cuda)} and does not find those of CUDA {it.cuda}"
        )
    capability = cudas.capability_of(it.model) if it.model else ""
    wheel = _wheel(build)
    code = cudas.code_for(wheel.capabilities, capability) if capability and wheel else "unknown"
    if code == "none":
        found.append(f"{name} has no code for {it.model} (compute capability {capability})")
    if code == "ptx" and it.driver and cudas.runs(build.cuda, it.driver) == "limited":
        full = cudas.toolkit_driver(build.cuda)
        found.append(f"{name} has no compiled code for {it.model}; the driver compiles it (PTX) from {full} on")
    return found


def _wheel(build: TestedBuild) -> Wheel | None:
    """The newest wheel of the minor release."""
    return next((one for one in tables.tensorflow().wheel if series(one.release) == series(build.release)), None)


def _notes(it: Question, build: TestedBuild) -> list[str]:
    """What holds, and what to know besides."""
    found: list[str] = []
    if not it.gpu:
        return found
    least = cudas.least_driver(build.cuda)
    if not it.driver:
        found.append(f"CUDA {build.cuda} needs the Linux driver {least} or newer" if least else "")
    elif (runs := cudas.runs(build.cuda, it.driver)) == "unknown":
        found.append(f"whether driver {it.driver} runs CUDA {build.cuda} is not known")
    else:
        found.append(f"driver {it.driver} runs CUDA {build.cuda}: it needs {least} or newer")
        if runs == "limited":
            full = cudas.toolkit_driver(build.cuda)
            found.append(f"what the driver has to compile (PTX, for newer GPUs) needs {full}; the rest works")
    if it.cuda and series(it.cuda) and series(it.cuda) != build.cuda:
        found.append(f"it was tested with CUDA {build.cuda}; {it.cuda} is of the same major version and untested")
    capability = cudas.capability_of(it.model) if it.model else ""
    if capability and numbers(capability) < (7, 0):
        found.append(f"mixed precision gains nothing on {it.model} (compute capability {capability}, below 7.0)")
    return [one for one in found if one]


def _release(it: Question, build: TestedBuild) -> str:
    """The release with an image: the one that is asked for, else the newest of the minor release; empty without one."""
    known = images.published(series(build.release))
    return it.tensorflow if it.tensorflow in known else known[-1] if known else ""


def _framework(it: Question, build: TestedBuild, why: list[str], recipes: Mapping[str, str]) -> Advice:
    """An image of tensorflow/tensorflow, or wheels on a plain base."""
    release = _release(it, build)
    kinds = ["gpu"] if it.gpu else []
    kinds += ["jupyter"] if it.task == "notebook" else []
    tag = "-".join([release, *kinds])
    contents = images.contents(images.TENSORFLOW, tag) if release else None
    lines = _wheels(it, build, recipes)
    image = f"{images.TENSORFLOW}:{tag}"
    if not release:
        image = ""
        why.append(f"no image of TensorFlow {series(build.release)} is known")
    elif it.tensorflow.count(".") > 1 and release != it.tensorflow:
        why.append(f"TensorFlow {it.tensorflow} has wheels and no image; {release} is the nearest that has one")
    if image and (lacking := images.lacks_cudnn(tag)):
        why.append(f"{image} trains on the CPU: {lacking}")
        image = ""
    if image and contents and it.python and contents.python != series(it.python):
        why.append(f"{image} has Python {contents.python}, not {series(it.python)}")
        image = ""
    if not image and not lines:
        why.append("and its wheels bring no CUDA: it takes an image with CUDA and cuDNN of your own")
        inside = f"{images.TENSORFLOW}:{tag}, with Python {contents.python}" if contents is not None else ""
        return Advice(possible=False, why=tuple(why), nearest=inside)
    if image:
        why.append(f"{image} runs as root until a USER says otherwise")
        lines = {"Dockerfile": f"FROM {image}\nUSER 65532:65532", **lines}
    else:
        why.append("so take wheels on a plain base")
    if it.task == "notebook":
        why.append("images with Jupyter run whatever code they are sent: never in production")
    return Advice(possible=True, image=image, production=it.task == "training", why=tuple(why), lines=lines)


def _wheels(it: Question, build: TestedBuild, recipes: Mapping[str, str]) -> dict[str, str]:
    """What to write for wheels: the requirement, and the project file where there is a base with that Python."""
    every = [one for one in tables.tensorflow().wheel if series(one.release) == series(build.release)]
    # A wheel that asks for tensorrt needs a build from source; a later one of the release may not.
    usable = [one for one in every if not it.gpu or (one.and_cuda and "tensorrt" not in one.and_cuda)]
    chosen = next((one for one in usable if one.release == it.tensorflow), usable[0] if usable else None)
    if chosen is None:
        return {}
    name = "tensorflow[and-cuda]" if it.gpu else "tensorflow-cpu"
    found = {"requirements.in": f"{name}=={chosen.release}"}
    pythons = [series(it.python)] if it.python else [one for one in reversed(build.python) if one in recipes]
    if pythons and pythons[0] in recipes and pythons[0] in chosen.python:
        found["tidewaiter.toml"] = (
            f'[base]\nuse = "{recipes[pythons[0]]}"\n\n'
            f'[python]\nversion = "{pythons[0]}"\nrequirements = "requirements.in"'
        )
    return found


def _serving(it: Question, build: TestedBuild, why: list[str]) -> Advice:
    """An image of tensorflow/serving."""
    known = [one for one in tables.images().serving_release if series(one) == series(build.release)]
    if not known:
        return _refused(it, [f"TensorFlow Serving {series(build.release)} was not released"])
    release = it.tensorflow if it.tensorflow in known else known[-1]
    tag = f"{release}-gpu" if it.gpu else release
    contents = images.contents(images.SERVING, tag)
    if it.gpu and contents is not None:
        why = [one for one in why if "tested configuration" not in one]
        why.append(f"the server's image has CUDA {contents.cuda} and cuDNN {contents.cudnn}")
    why.append("it runs as root until a USER says otherwise, and serves /models/NAME/NUMBER/")
    image = f"{images.SERVING}:{tag}"
    lines = {"Dockerfile": f"FROM {image}\nCOPY model /models/NAME/1\nENV MODEL_NAME=NAME\nUSER 65532:65532"}
    return Advice(possible=True, image=image, production=True, why=tuple(why), lines=lines)


def _refused(it: Question, why: list[str]) -> Advice:
    """The answer no, with the nearest that works: another release, else one with less asked for."""
    for less in (
        it,
        msgspec.structs.replace(it, cuda=""),
        msgspec.structs.replace(it, cuda="", python=""),
        msgspec.structs.replace(it, cuda="", python="", driver=""),
    ):
        near = _closest(less, it.tensorflow)
        if near is not None:
            words = tensorflow.described(near)
            if less.driver != it.driver:
                words += f" and driver {cudas.least_driver(near.cuda)} or newer"
            return Advice(possible=False, why=tuple(why), nearest=words)
    return Advice(possible=False, why=tuple(why))


def _about_tag(it: Question) -> Advice:
    """What a tag is for, and whether it may go to production."""
    repository = images.repository_of(it.repository) or images.TENSORFLOW
    image = f"{repository}:{it.tag}"
    if why := images.why_unpublished(repository, it.tag):
        near = images.nearest(repository, it.tag)
        return Advice(
            possible=False, why=(f"{image} was not published: {why}",), nearest=f"{repository}:{near}" if near else ""
        )
    parts = it.tag.split("-")
    moving = parts[0] in {"latest", "nightly", "devel"}
    gpu, notebook, building = ("gpu" in parts), ("jupyter" in parts), ("devel" in parts)
    task = "serving" if repository == images.SERVING else "notebooks" if notebook else "training and debugging"
    words = ["for building the framework itself" if building else f"for {task} on {'GPUs' if gpu else 'CPUs'}"]
    if moving:
        words.append(f"{parts[0]} is set to other images with time: never in production")
    if notebook:
        words.append("it runs a notebook server, which runs whatever code it is sent: never in production")
    if building:
        words.append("it brings compilers and sources: not in production")
    contents = images.contents(repository, it.tag)
    if contents is not None:
        inside = [
            f"{name} {value}"
            for name, value in (("Python", contents.python), ("CUDA", contents.cuda), ("cuDNN", contents.cudnn))
            if value
        ]
        words.append((f"with {', '.join(inside)}; " if inside else "") + "it runs as root until a USER says otherwise")
        if contents.cuda:
            words.append(f"CUDA {contents.cuda} needs the Linux driver {cudas.least_driver(contents.cuda)} or newer")
    fits = not (repository == images.TENSORFLOW and gpu and (lacking := images.lacks_cudnn(it.tag)))
    if not fits:
        return Advice(
            possible=False,
            why=(*words, f"it trains on the CPU: {lacking}"),
            nearest=f"{images.TENSORFLOW}:2.17.0-gpu, or wheels: tensorflow[and-cuda]=={images.version_of(it.tag)}",
        )
    return Advice(possible=True, image=image, production=not (moving or notebook or building), why=tuple(words))
