"""Working out many values while the collector of cycles rests."""

import gc
from collections.abc import Iterator

import pytest

from tidewaiter.pipelines import uncollected as module
from tidewaiter.pipelines.uncollected import uncollected


@pytest.fixture(autouse=True)
def _collector() -> Iterator[None]:
    before = gc.isenabled()
    gc.enable()
    yield
    (gc.enable if before else gc.disable)()


def test_the_collector_rests_until_the_last_block_ends() -> None:
    """Blocks inside of one another, and one that fails, leave it as it was."""
    with uncollected():
        assert not gc.isenabled()
        with pytest.raises(ValueError, match="odd"), uncollected():
            raise ValueError("odd")
        assert not gc.isenabled()
    assert gc.isenabled()


def test_who_let_it_rest_before_finds_it_resting() -> None:
    """A process that has no use for the collector does not get it back."""
    gc.disable()
    with uncollected():
        assert not gc.isenabled()
    assert not gc.isenabled()


def test_it_rests_for_some_seconds_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where block follows block without a break, of many threads, it works after a while, and rests after a break."""
    monkeypatch.setattr(module, "_LONGEST", 0.0)
    with uncollected():
        assert gc.isenabled()
        with uncollected():
            assert gc.isenabled()
    assert gc.isenabled()
    monkeypatch.undo()
    with uncollected():
        assert not gc.isenabled()
