"""From what lies in a folder to the files that make an image of it: the project file, requirements, what is ignored.

Kinds, the first that fits: a Dockerfile; a program (with models beside it, if any); SavedModels alone, which get a
program that serves them; notebooks, of which one is run.
"""

import json
import re
from collections.abc import Callable, Iterator, Sequence
from importlib import resources

import msgspec
from packaging.specifiers import InvalidSpecifier, SpecifierSet

from tidewaiter.assembly import recipe
from tidewaiter.core.errors import InputError, RefusedError
from tidewaiter.lint.dockerfile.parse import parse
from tidewaiter.lint.rewrite import dockerignore, project
from tidewaiter.lint.text import Text
from tidewaiter.pipelines.starting import modules
from tidewaiter.pipelines.starting.looking_around import Found, imported, text

PROJECT = "tidewaiter.toml"
HOME = ".tidewaiter/"
"""Where CI jobs keep the home and the virtual environment, in the checkout."""
_SERVERS = re.compile(
    r"^\s*(?:fastapi|flask|uvicorn|gunicorn|streamlit|gradio|dash|aiohttp|starlette|tornado)\b", re.MULTILINE
)
_NOT_APP = re.compile(
    r"(?:readme|license|licence|changelog|contributing|authors|makefile|jenkinsfile|tox\.ini|setup\.(?:py|cfg)|"
    r"pyproject\.toml|.*\.(?:md|rst|lock|ipynb|log))(?:\..*)?",
    re.IGNORECASE,
)
_SECRET = re.compile(
    r"\..*|.*\.(?:pem|key|p12|pfx|jks|kdbx|keytab)|id_(?:rsa|dsa|ecdsa|ed25519).*|.*credentials?(?:\..*)?|secrets?(?:\..*)?",
    re.IGNORECASE,
)
"""Names of what nobody wants in an image by accident."""
_IGNORED = (
    *(HOME, "__pycache__/", "*.pyc", ".venv/", "venv/", ".ipynb_checkpoints/"),
    *(".pytest_cache/", ".mypy_cache/", ".ruff_cache/", ".env", ".netrc", ".pypirc"),
)

Ask = Callable[[str, Sequence[str]], str]
"""A question and the possible answers, the one that is taken when nobody answers first; the answer."""


class File(msgspec.Struct, frozen=True):
    """A file that is to be there: its path from the folder, and its content."""

    path: str
    content: bytes


class Plan(msgspec.Struct, frozen=True):
    """What is to be written, and what a person should know."""

    about: str
    """What the image will be, one line."""
    files: tuple[File, ...]
    locked: bool
    """Whether requirements and base are locked for it."""
    notes: tuple[str, ...]


def plan(found: Found, name: str, ask: Ask) -> Plan:
    """How an image called `name` is made of the folder.

    Raises:
        InputError: nothing in it could become an image.
    """
    if found.dockerfiles:
        return _from_dockerfile(found, name, ask)
    if found.programs or found.package is not None:
        return _from_program(found, name, ask)
    if found.models:
        return _from_models(found, name)
    if found.notebooks:
        return _from_notebooks(found, name, ask)
    raise InputError(
        f"nothing in {found.folder} looks like a program, a notebook, a SavedModel or a Dockerfile",
        next_step="Put it there, or copy tidewaiter.toml of an example: docs/guide/first-image.md.",
    )


def ignored(found: Found) -> File | None:
    """`.gitignore`, where there is none, or its own lines and those that are missing."""
    old = text(found.folder / ".gitignore") if ".gitignore" in found.names else ""
    there = {line.strip().strip("/") for line in old.splitlines()}
    new = [line for line in (_IGNORED if not old else (HOME,)) if line.strip("/") not in there]
    if not new:
        return None
    return File(".gitignore", (old + ("\n" if old and not old.endswith("\n") else "") + "\n".join(new) + "\n").encode())


# From a Dockerfile


def _from_dockerfile(found: Found, name: str, ask: Ask) -> Plan:
    path = (
        ask("Which Dockerfile makes the image?", found.dockerfiles) if found.dockerfiles[1:] else found.dockerfiles[0]
    )
    file = parse(Text(path, text(found.folder / path)))
    files: list[File] = []
    notes: list[str] = []
    if dockerignore.NAME not in found.names:
        ignoring = dockerignore.propose(found.folder, file)
        files.append(File(dockerignore.NAME, ignoring.content.encode()))
        notes += ignoring.left
    try:
        proposal = project.propose(file, name, dockerignore.entries(found.folder))
        left = proposal.left or (() if "\nentrypoint" in proposal.content else ("it says not what is started",))
    except RefusedError as error:
        proposal, left = None, (error.message,)
    if proposal is not None and not left:
        return Plan(
            f"what {path} makes, assembled without running it",
            (File(PROJECT, proposal.content.encode()), *files),
            True,
            tuple(notes),
        )
    lines = [
        *_image(name, "serving" if file.last.inherited("EXPOSE") else "training"),
        "",
        "[build]",
        f"dockerfile = {json.dumps(path)}",
    ]
    notes.append(f"{path} is built as it is, by BuildKit or buildah. It is not assembled: {'; '.join(left)}")
    return Plan(f"what {path} makes", (_project(lines), *files), False, tuple(notes))


# From a program


def _from_program(found: Found, name: str, ask: Ask) -> Plan:
    notes = list(found.notes)
    version = _python(found, notes)
    words = _started(found, ask)
    requirements, more = _requirements(found, notes)
    models = {model.path.split("/")[0] for model in found.models}
    included = [one for one in _app(found, notes) if one not in models]
    if words[0] != "python":
        included = []  # all that runs comes with the project's own wheel
    left = sorted(
        {one for one in found.names if (found.folder / one).is_dir()}
        & {"data", "datasets", "models", "artifacts"} - models
    )
    notes += [f"{one}/ stays out of the image; add it to [app] include if the program reads it" for one in left]
    lines = [*_image(name, _purpose(found, words)), *_base(version, requirements), "", "[app]"]
    if included:
        lines.append(f"include = {json.dumps(included, ensure_ascii=False)}")
    lines.append(f"entrypoint = {json.dumps(words, ensure_ascii=False)}")
    if words[0] != "python":
        lines.append("package = true")
    lines += _models(found)
    return Plan(f"{' '.join(words)} on Python {version}", (_project(lines), *more), True, tuple(notes))


def _started(found: Found, ask: Ask) -> list[str]:
    """What the image runs: a script of the project's own wheel, else a program in `/app`."""
    scripts = found.package.get("scripts") if found.package else None
    if found.buildable and isinstance(scripts, dict) and scripts:
        names = sorted(str(one) for one in scripts)
        return [ask("Which command does the image run?", names) if names[1:] else names[0]]
    if not found.programs:
        raise InputError(
            "pyproject.toml names no command ([project] scripts), and there is no program beside it",
            next_step="Add `[project.scripts]` and `[build-system]`, or a program such as main.py.",
        )
    chosen = ask("Which program does the image run?", found.programs) if found.programs[1:] else found.programs[0]
    return ["python", f"/app/{chosen}"]


def _purpose(found: Found, words: Sequence[str]) -> str:
    known = text(found.folder / found.requirements) if found.requirements else ""
    serves = re.search(r"serv|app\b|api", words[-1]) or found.models
    return "serving" if _SERVERS.search(known) or serves else "training"


def _requirements(found: Found, notes: list[str]) -> tuple[str, tuple[File, ...]]:
    """The requirements file, and the file that is written where there is none."""
    if found.requirements:
        return found.requirements, ()
    wanted = found.package.get("dependencies") if found.package else None
    if isinstance(wanted, list):
        stated = [str(one) for one in wanted if "\n" not in str(one)]
        return "requirements.in", (
            _list(stated, "What [project] dependencies of pyproject.toml says; keep both alike."),
        )
    own = {re.sub(r"\.py$", "", one) for one in found.names}
    known, unknown = modules.packages(
        {one for path in found.programs for one in imported(text(found.folder / path))}, own
    )
    notes += _unknown(unknown)
    return "requirements.in", (_list(known, "What the programs import."),)


def _unknown(names: Sequence[str]) -> Iterator[str]:
    for one in names:
        yield f"`import {one}`: name the package that brings it in requirements.in, then run `tidewaiter lock`"


def _python(found: Found, notes: list[str]) -> str:
    """Minor version: the one that the project asks for, else the first of the recipes."""
    known = list(_recipes())
    asked = found.package.get("requires-python") if found.package else None
    if isinstance(asked, str):
        try:
            fits = SpecifierSet(asked)
        except InvalidSpecifier:
            notes.append(f"requires-python = {asked[:50]!r} is not understood")
        else:
            fitting = [one for one in known if fits.contains(f"{one}.99")]
            if not fitting:
                raise InputError(
                    f"the project asks for Python {asked[:50]}, and bases have {', '.join(known)}",
                    next_step="Widen requires-python, or build with a Dockerfile.",
                )
            return fitting[0]
    ran = {one.python.rpartition(".")[0] for one in found.notebooks}
    return next((one for one in known if one in ran), known[0])


def _recipes() -> dict[str, str]:
    """Shipped bases for production by the minor version of their Python, the oldest first."""
    found = (recipe.load(name) for name in recipe.names())
    return dict(sorted((one.python, one.name) for one in found if one.python and one.production))


# From models


def _from_models(found: Found, name: str) -> Plan:
    notes = list(found.notes)
    version = _python(found, notes)
    written = sorted({model.tensorflow for model in found.models if re.fullmatch(r"\d+\.\d+\.\d+", model.tensorflow)})
    # A newer TensorFlow reads what an older one wrote; one that is older may not.
    least = max((tuple(map(int, one.split(".")[:2])) for one in written), default=None)
    wanted = "tensorflow-cpu" + (f">={least[0]}.{least[1]}" if least else "")
    requirements, more = (
        (found.requirements, ())
        if found.requirements
        else ("requirements.in", (_list([wanted], "What serves the models."),))
    )
    server = resources.files(__package__).joinpath("templates/serve.py.txt").read_bytes()
    lines = [
        *_image(name, "serving"),
        *_base(version, requirements),
        "",
        "[app]",
        'include = ["serve.py"]',
        'entrypoint = ["python", "/app/serve.py"]',
    ]
    lines += _models(found)
    named = ", ".join(model.name for model in found.models)
    return Plan(
        f"serve.py with {named} on port 8501", (_project(lines), File("serve.py", server), *more), True, tuple(notes)
    )


def _models(found: Found) -> list[str]:
    lines: list[str] = []
    names: dict[str, int] = {}
    for model in found.models:
        names[model.name] = names.get(model.name, 0) + 1
        lines += [
            "",
            "[[models]]",
            f"name = {json.dumps(model.name)}",
            f"path = {json.dumps(model.path, ensure_ascii=False)}",
        ]
        lines.append(f"version = {names[model.name]}")
    return lines


# From notebooks


def _from_notebooks(found: Found, name: str, ask: Ask) -> Plan:
    notes = list(found.notes)
    version = _python(found, notes)
    paths = [one.path for one in found.notebooks]
    chosen = ask("Which notebook does the image run?", paths) if paths[1:] else paths[0]
    own = {re.sub(r"\.py$", "", one) for one in found.names}
    known, unknown = modules.packages({module for one in found.notebooks for module in one.imports}, own)
    notes += _unknown(unknown)
    needed = ("ipykernel", "nbclient")
    files: tuple[File, ...] = ()
    requirements = found.requirements
    if requirements:
        there = text(found.folder / requirements).lower()
        notes += [f"add {one} to {requirements}, which runs the notebook" for one in needed if one not in there]
    else:
        requirements = "requirements.in"
        files = (_list(sorted({*known, *needed}), "What the notebooks import, and what runs them."),)
    included = sorted({*(path.split("/")[0] for path in paths), *_app(found, notes)})
    result = f"/tmp/{chosen.rpartition('/')[2]}"  # noqa: S108 - in the container, whose root is read-only
    words = ["jupyter", "execute", f"/app/{chosen}", f"--output={result}"]
    lines = [*_image(name, "notebook"), *_base(version, requirements), "", "[app]"]
    lines += [
        f"include = {json.dumps(included, ensure_ascii=False)}",
        f"entrypoint = {json.dumps(words, ensure_ascii=False)}",
    ]
    notes.append(f"the image runs {chosen} from top to bottom; what comes out lies in {result} of the container")
    return Plan(f"{chosen} on Python {version}", (_project(lines), *files), True, tuple(notes))


# What all have


def _app(found: Found, notes: list[str]) -> list[str]:
    """What of the folder goes to `/app`; what looks like a secret stays out, and is said."""
    there = [one for one in dockerignore.entries(found.folder) if not _NOT_APP.fullmatch(one)]
    secrets = [one for one in there if _SECRET.fullmatch(one)]
    notes += [f"{one} looks like a secret and stays out of the image and of Git" for one in secrets]
    return [one for one in there if one not in secrets]


def _image(name: str, purpose: str) -> list[str]:
    return [
        "[image]",
        f"name = {json.dumps(name)}",
        f'purpose = "{purpose}"',
        'environment = "research"    # then staging, then production',
    ]


def _base(version: str, requirements: str) -> list[str]:
    lines = ["", "[base]", f'use = "{_recipes()[version]}"']
    return [*lines, "", "[python]", f'version = "{version}"', f"requirements = {json.dumps(requirements)}"]


def _project(lines: Sequence[str]) -> File:
    return File(PROJECT, ("\n".join(lines) + "\n").encode())


def _list(wanted: Sequence[str], why: str) -> File:
    return File("requirements.in", "\n".join((f"# {why}", *wanted, "")).encode())
