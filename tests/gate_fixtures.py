"""Gates that tests ask."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from gate_place import Place


@pytest.fixture(scope="session")
def blank_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with an empty catalog: making one takes longer than most tests here."""
    folder = tmp_path_factory.mktemp("blank")
    Place(folder).close()
    return folder


@pytest.fixture
def make_place(tmp_path: Path, blank_home: Path) -> Iterator[Callable[..., Place]]:
    """Makes gates, whose settings may be `written`; each is closed after the test."""
    made: list[Place] = []

    def make(*, written: str = "", **options: Any) -> Place:
        folder = tmp_path / f"home{len(made)}"
        shutil.copytree(blank_home, folder)
        (folder / "settings.toml").write_text(written)
        made.append(Place(folder, **options))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture
def place(make_place: Callable[..., Place]) -> Place:
    """A gate all of whose repositories are open."""
    return make_place()
