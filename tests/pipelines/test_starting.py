"""`init`: what is seen in a folder, what is made of it, and that nothing of it is ever overwritten or left half."""

import json
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from tidewaiter.core import limits
from tidewaiter.core import project as projects
from tidewaiter.core.errors import InputError, LimitError, StorageError
from tidewaiter.core.project import Project
from tidewaiter.pipelines.starting import ci_files, modules, planning, repository, writing
from tidewaiter.pipelines.starting.looking_around import imported, look
from tidewaiter.pipelines.starting.planning import File, Plan
from workplace import ROOT, git, run

MODEL = ROOT / "examples" / "serving" / "model"


def first(_question: str, answers: Sequence[str]) -> str:
    """What is likely."""
    return answers[0]


def files(folder: Path, **contents: str) -> Path:
    """A folder with files; `__` in a name is a dot."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in contents.items():
        (folder / name.replace("__", ".")).write_text(content)
    return folder


def notebook(path: Path, *code: str, python: str = "3.11.4") -> None:
    cells = [{"cell_type": "code", "source": [f"{line}\n" for line in one.splitlines()]} for one in code]
    path.write_text(json.dumps({"cells": cells, "metadata": {"language_info": {"name": "python", "version": python}}}))


def planned(folder: Path, name: str = "team/app") -> tuple[Plan, Project]:
    """The plan of a folder, and its project file as `build` reads it."""
    made = planning.plan(look(folder), name, first)
    (content,) = (one.content for one in made.files if one.path == "tidewaiter.toml")
    copy = folder.parent / "read"
    copy.mkdir(exist_ok=True)
    (copy / "tidewaiter.toml").write_bytes(content)
    return made, projects.load(copy)


def test_a_program_with_requirements(tmp_path: Path) -> None:
    """app.py and requirements.txt are enough; what is no part of the program stays out."""
    folder = files(tmp_path / "p", app__py="import flask", requirements__txt="flask\n", README__md="x", LICENSE="x")
    (folder / "data").mkdir()
    made, project = planned(folder)
    assert project.file.app.include == ("app.py",)
    assert project.file.app.entrypoint == ("python", "/app/app.py")
    assert project.python.requirements == "requirements.txt"
    assert (project.file.image.purpose, project.file.image.environment) == ("serving", "research")
    assert [one.path for one in made.files] == ["tidewaiter.toml"]
    assert any("data/ stays out" in note for note in made.notes)


def test_a_program_without_requirements(tmp_path: Path) -> None:
    """Imports become requirements where the package is known for sure; others are left to a person."""
    folder = files(tmp_path / "p", train__py="import os, numpy, sklearn.svm, mine, helper", helper__py="")
    made, _ = planned(folder)
    (listed,) = (one.content.decode() for one in made.files if one.path == "requirements.in")
    assert listed.splitlines()[1:] == ["numpy", "scikit-learn"]
    assert [note for note in made.notes if "import mine" in note]
    assert "helper" not in str(made.notes)


def test_nothing_is_proposed_by_the_name_of_a_module() -> None:
    """A module that nobody here knows may be anybody's package; it is named, not installed."""
    assert modules.packages({"reqeusts", "internal_tools", "cv2", "json"}, ()) == (
        ("opencv-python-headless",),
        ("internal_tools", "reqeusts"),
    )


def test_a_project_with_a_command(tmp_path: Path) -> None:
    """A `pyproject.toml` with scripts gives its own wheel, its dependencies and its Python."""
    text = (
        '[project]\nname = "x"\nrequires-python = ">=3.12"\ndependencies = ["six>=1.16"]\n'
        '[project.scripts]\nrun-it = "x:main"\n[build-system]\nrequires = ["hatchling"]\n'
    )
    made, project = planned(files(tmp_path / "p", pyproject__toml=text, x__py="def main(): pass"))
    assert project.file.app.entrypoint == ("run-it",)
    assert project.file.app.package
    assert project.python.version == "3.13"
    assert b"six>=1.16\n" in next(one.content for one in made.files if one.path == "requirements.in")


def test_a_python_that_no_base_has(tmp_path: Path) -> None:
    """A project that asks for another Python is told which there are."""
    folder = files(tmp_path / "p", main__py="", pyproject__toml='[project]\nname = "x"\nrequires-python = "<3.9"\n')
    with pytest.raises(InputError, match=r"3\.11, 3\.13"):
        planned(folder)


def test_saved_models_alone(tmp_path: Path) -> None:
    """A SavedModel gets a program that serves it, with a TensorFlow that reads it."""
    shutil.copytree(MODEL, tmp_path / "digits" / "1")
    made, project = planned(tmp_path / "digits")
    (model,) = project.file.models
    assert (model.name, model.path) == ("digits", "1")
    contents = {one.path: one.content.decode() for one in made.files}
    assert contents["serve.py"] == (ROOT / "examples/serving/serve.py").read_text()
    assert contents["requirements.in"].splitlines()[1] == "tensorflow-cpu>=2.21"
    assert project.file.image.purpose == "serving"


def test_a_program_with_a_model_beside_it(tmp_path: Path) -> None:
    """The model is a layer of its own, and not once more in the app."""
    folder = files(tmp_path / "p", serve__py="", requirements__txt="")
    shutil.copytree(MODEL, folder / "digits")
    _, project = planned(folder)
    assert (project.file.app.include, project.file.models[0].path) == (("serve.py",), "digits")


def test_a_damaged_model_is_said(tmp_path: Path) -> None:
    """A file that only has the name of a model is no surprise later."""
    folder = files(tmp_path / "p", main__py="", saved_model__pb="no model")
    assert any("no SavedModel that can be read" in note for note in planned(folder)[0].notes)


def test_notebooks(tmp_path: Path) -> None:
    """A notebook is run by nbclient, with what its code imports and the Python that ran it last."""
    folder = files(tmp_path / "p")
    notebook(folder / "b.ipynb", "%matplotlib inline\nimport pandas as pd\n!pip install evil", python="3.13.1")
    notebook(folder / "a.ipynb", "from PIL import Image\nimport b4\n", "this is no python(", python="3.13.0")
    made, project = planned(folder)
    assert project.file.app.entrypoint[:3] == ("jupyter", "execute", "/app/a.ipynb")
    assert project.python.version == "3.13"
    (listed,) = (one.content.decode() for one in made.files if one.path == "requirements.in")
    assert listed.splitlines()[1:] == ["ipykernel", "matplotlib", "nbclient", "pandas", "pillow"]
    assert "evil" not in listed
    assert any("import b4" in note for note in made.notes)


@pytest.mark.parametrize("content", ["", "[]", "{", '{"cells": 3}', '{"cells": [{"cell_type": "code"}]}', "[" * 5000])
def test_a_damaged_notebook_is_said(tmp_path: Path, content: str) -> None:
    """A notebook that cannot be read keeps nobody from starting."""
    made, _ = planned(files(tmp_path / "p", x__ipynb=content))
    assert any("x.ipynb could not be read" in note for note in made.notes)


@pytest.mark.parametrize("code", ["import " + "a." * 3000 + "b", "(" * 500, "\0", "def", "x = '" + "\\" * 99])
def test_hostile_code_is_only_read(code: str) -> None:
    """Code that no parser takes has no imports that are known."""
    assert imported(code) <= {"a"}


def test_a_simple_dockerfile_is_assembled(tmp_path: Path) -> None:
    """A Dockerfile that only copies and installs becomes an assembled image, with a `.dockerignore`."""
    text = (
        "FROM python:3.11-slim\nCOPY requirements.txt .\nRUN pip install -r requirements.txt\n"
        'COPY main.py .\nCMD ["python", "main.py"]\n'
    )
    made, project = planned(files(tmp_path / "p", Dockerfile=text, main__py="", requirements__txt="six\n"))
    assert (project.file.build, project.file.app.entrypoint) == (None, ("python", "/app/main.py"))
    assert ".dockerignore" in [one.path for one in made.files]
    assert made.locked


def test_another_dockerfile_is_built_as_it_is(tmp_path: Path) -> None:
    """What runs programs of its own is left to a builder, and it is said why."""
    text = "FROM alpine:3.20\nRUN apk add curl\nCMD curl example.org\n"
    made, project = planned(files(tmp_path / "p", Dockerfile=text, __dockerignore="x\n"))
    assert project.file.build is not None
    assert project.file.build.dockerfile == "Dockerfile"
    assert not made.locked
    assert any("no recipe takes the place of alpine" in note for note in made.notes)
    assert ".dockerignore" not in [one.path for one in made.files]


def test_nothing_to_start_with(tmp_path: Path) -> None:
    """An empty folder, a file and a folder that is not there are errors that say what is missing."""
    with pytest.raises(InputError, match="looks like a program"):
        planned(files(tmp_path / "p", notes__md=""))
    for wrong in (tmp_path / "p" / "notes.md", tmp_path / "nowhere"):
        with pytest.raises(InputError, match="is not a folder"):
            look(wrong)


def test_links_and_hidden_folders_are_not_looked_into(tmp_path: Path) -> None:
    """Neither a link out of the folder nor what lies in `.venv` becomes a part of the image."""
    outside = files(tmp_path / "outside", secret__py="")
    folder = files(tmp_path / "p", main__py="")
    (folder / "link.py").symlink_to(outside / "secret.py")
    (folder / "linked").symlink_to(outside)
    shutil.copytree(MODEL, folder / ".venv" / "model")
    found = look(folder)
    assert (found.programs, found.models) == (("main.py",), ())


def test_too_many_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As many files as the limit says are looked at, one more is an error."""
    folder = files(tmp_path / "p", main__py="", other__py="")
    monkeypatch.setattr(limits, "STARTING_FILES", 2)
    assert look(folder).programs
    (folder / "third").touch()
    with pytest.raises(LimitError, match="over 2 files"):
        look(folder)


@pytest.mark.parametrize(
    ("remote", "name", "ci"),
    [
        ("git@gitlab.example.org:group/Sub Team/My_App.git", "sub-team/my-app", "gitlab"),
        ("https://user:secret@github.com/team/app.git", "team/app", "github"),
        ("ssh://git@git.example.org:22/app", "team/p", None),
        ("", "team/p", None),
    ],
)
def test_name_and_ci_by_the_remote(tmp_path: Path, remote: str, name: str, ci: str | None) -> None:
    """The image is called as its repository, and the CI is that of the repository's host."""
    folder = files(tmp_path / "p")
    git(folder, "init", "-q")
    if remote:
        git(folder, "remote", "add", "origin", remote)
    assert repository.image_name(folder) == name
    assert "secret" not in repository.remote(folder)
    assert ci_files.fitting(repository.remote(folder), folder) == ci


def test_a_file_that_is_there_is_kept(tmp_path: Path) -> None:
    """What lies there, even a link that leads nowhere, is not written; how it differs is told."""
    folder = files(tmp_path / "p", a="old\n")
    (folder / "b").symlink_to("nowhere")
    (folder / "same").write_text("x\n")
    (folder / "b").unlink()
    new, kept = writing.compare(folder, [File("a", b"new\n"), File("c/d", b"x"), File("same", b"x\n")])
    assert [one.path for one in new] == ["c/d"]
    assert [(one.path, one.difference[-2:]) for one in kept] == [("a", ("-old", "+new")), ("same", ())]


def test_all_files_or_none(tmp_path: Path) -> None:
    """When one file cannot be written, none is there, nor a folder, nor anything half."""
    folder = files(tmp_path / "p", blocked="a file")
    with pytest.raises(StorageError):
        writing.write(folder, [File("one", b"1"), File("new/two", b"2"), File("blocked/three", b"3")])
    assert [one.name for one in folder.iterdir()] == ["blocked"]


def test_a_file_of_somebody_else_wins(tmp_path: Path) -> None:
    """A file that appears while others are written is not overwritten, and the others are taken back."""
    folder = files(tmp_path / "p", two="mine")
    with pytest.raises(InputError, match="meanwhile"):
        writing.write(folder, [File("one", b"1"), File("two", b"2")])
    assert {one.name: one.read_text() for one in folder.iterdir()} == {"two": "mine"}


# The command


def started(folder: Path, home: Path, *more: str) -> str:
    """`init` without a network; what it says."""
    done = run(home, "init", folder, "--yes", "--no-lock", *more)
    assert done.code == 0, done.err
    return done.out


def test_init_twice_changes_nothing(tmp_path: Path) -> None:
    """The second run keeps all files as they are, and makes no second commit."""
    folder = files(tmp_path / "p", app__py="", requirements__txt="six\n")
    home = tmp_path / "home"
    assert "committed as the first commit" in started(folder, home, "--ci", "github")
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and ".git/" not in str(path)}
    head = subprocess.check_output(["git", "-C", folder, "rev-parse", "HEAD"])
    again = started(folder, home, "--ci", "github")
    assert "wrote" not in again
    assert {path: path.read_bytes() for path in before} == before
    assert subprocess.check_output(["git", "-C", folder, "rev-parse", "HEAD"]) == head
    assert subprocess.check_output(["git", "-C", folder, "status", "--porcelain"]) == b""


def test_init_shows_what_it_would_have_changed(tmp_path: Path) -> None:
    """A `.gitignore` of one's own stays, and the line that it lacks is shown."""
    folder = files(tmp_path / "p", app__py="", __gitignore="*.log", Jenkinsfile="mine\n")
    said = started(folder, tmp_path / "home", "--ci", "jenkins")
    assert "+.tidewaiter/" in said
    assert "-mine" in said
    assert (folder / ".gitignore").read_text() == "*.log"
    assert (folder / "Jenkinsfile").read_text() == "mine\n"


def test_init_in_a_folder_of_a_repository(tmp_path: Path) -> None:
    """The file of the CI names the folder, and a person is told where the CI looks for it."""
    root = files(tmp_path / "p", README__md="")
    git(root, "init", "-q")
    said = started(files(root / "sub" / "app", main__py=""), tmp_path / "home", "--ci", "gitlab")
    assert "move it there" in said
    assert "tidewaiter ci sub/app " in (root / "sub/app/.gitlab-ci.yml").read_text()


def test_init_commits_only_what_the_image_takes(tmp_path: Path) -> None:
    """Data and passwords that lie about are not committed for anybody."""
    folder = files(tmp_path / "p", app__py="", __env="PASSWORD=x", secret__pem="x")
    (folder / "data").mkdir()
    (folder / "data" / "big.bin").touch()
    started(folder, tmp_path / "home")
    held = subprocess.check_output(["git", "-C", folder, "ls-files"], text=True).split()
    assert held == [".gitignore", "app.py", "requirements.in", "tidewaiter.toml"]


def test_init_leaves_a_repository_with_commits_alone(tmp_path: Path) -> None:
    """Where there is a commit, the next one is its owner's."""
    folder = files(tmp_path / "p", app__py="")
    git(folder, "init", "-q")
    git(folder, "add", "app.py")
    git(folder, "commit", "-q", "-m", "mine")
    assert "committed" not in started(folder, tmp_path / "home")
    assert subprocess.check_output(["git", "-C", folder, "rev-list", "--count", "HEAD"]).strip() == b"1"


def test_a_conflict_leaves_nothing_behind(tmp_path: Path, home: Path) -> None:
    """Requirements that cannot be met are told, and the folder is as it was."""
    folder = files(tmp_path / "p", app__py="", requirements__txt="six==0.0.1\n")
    shutil.copy(ROOT / "examples/mnist/base.lock", folder)
    done = run(home, "init", folder, "--yes")
    assert done.code != 0
    assert sorted(one.name for one in folder.iterdir()) == ["app.py", "base.lock", "requirements.txt"]


def test_the_first_day(tmp_path: Path, home: Path) -> None:
    """`init` and `ci` take a folder with a program and its requirements to a cleared image that runs."""
    folder = files(
        tmp_path / "p", app__py="import six\nprint('six', six.__version__)\n", requirements__txt="six==1.17.0\n"
    )
    shutil.copy(ROOT / "examples/mnist/base.lock", folder)  # the base that the home has
    done = run(home, "init", folder, "--yes", "--name", "team/first")
    assert done.code == 0, done.err
    assert "next: tidewaiter ci" in done.err
    cleared = run(home, "ci", folder)
    assert cleared.code == 0, cleared.err
    assert "cleared for research: team/first:" in cleared.out
    assert "-dirty" not in cleared.out
    reference = cleared.out.splitlines()[0]
    assert run(home, "exec", reference).out == "six 1.17.0\n"


@pytest.mark.slow
@pytest.mark.interop
def test_the_first_day_of_a_notebook(tmp_path: Path, home: Path) -> None:
    """`init` and `ci` take a folder with a notebook to an image that runs it from top to bottom."""
    folder = files(tmp_path / "p")
    notebook(folder / "sum.ipynb", "import json\nprint(sum(range(5)))")
    shutil.copy(ROOT / "examples/mnist/base.lock", folder)
    assert run(home, "init", folder, "--yes", "--name", "team/sum").code == 0
    cleared = run(home, "ci", folder)
    assert cleared.code == 0, cleared.err
    done = run(home, "exec", cleared.out.splitlines()[0])
    assert done.code == 0, done.err
