"""Many images in one transaction are recorded as each alone would be."""

from pathlib import Path

from catalog_sample import component, digest, facts, home

from tidewaiter.catalog.catalog import Catalog

SHARED = (component("numpy"), component("six", layer="app"))
IMAGES = [
    (facts("one", *SHARED), "team/one"),
    (facts("two", *SHARED), "team/two"),
    (facts("two", *SHARED), "team/one"),
    (facts("three", component("numpy", "2.0"), layers=("base", "other")), "team/one"),
    (facts("four"), None),
]


def test_many_are_recorded_as_one_by_one(tmp_path: Path) -> None:
    """Layers, packages, their places, configuration and repositories are the same; twice changes nothing."""
    with Catalog.open(home(tmp_path / "single")) as single, Catalog.open(home(tmp_path / "many")) as many:
        for found, repository in IMAGES:
            single.record_facts(found, repository=repository)
        assert many.record_many(IMAGES) == len(IMAGES)
        for name in ("team/one", "team/two"):
            for image in ("one", "two", "three"):
                if (image, name) in {("one", "team/two"), ("three", "team/two")}:
                    continue
                assert many.image(f"{name}@{digest(image)}") == single.image(f"{name}@{digest(image)}")
        assert many.list_images().total == single.list_images().total == 4
        before = many.image(f"team/one@{digest('two')}")
        assert len(before.components) == 2
        assert many.record_many(iter(IMAGES)) == len(IMAGES)
        assert many.image(f"team/one@{digest('two')}") == before


def test_nothing_is_recorded_of_nothing(tmp_path: Path) -> None:
    """No image, no transaction."""
    with Catalog.open(home(tmp_path)) as catalog:
        assert catalog.record_many([]) == 0
        assert catalog.list_images().total == 0
