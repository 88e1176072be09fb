"""What tests of the API share."""

import pytest

import api_sample


@pytest.fixture(scope="session")
def sample(tmp_path_factory: pytest.TempPathFactory) -> api_sample.Sample:
    """A home with something of everything; tests do not change it."""
    return api_sample.fill(tmp_path_factory.mktemp("sample"))
