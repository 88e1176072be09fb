"""Where things lie in the home."""

from pathlib import Path

import msgspec


class Home(msgspec.Struct, frozen=True):
    """Where things lie in `TIDEWAITER_HOME`."""

    path: Path

    @property
    def settings_file(self) -> Path:
        return self.path / "settings.toml"

    @property
    def catalog(self) -> Path:
        return self.path / "catalog.db"

    @property
    def advisories(self) -> Path:
        return self.path / "advisories.db"

    @property
    def store(self) -> Path:
        return self.path / "store"

    @property
    def cache(self) -> Path:
        return self.path / "cache"

    @property
    def keys(self) -> Path:
        return self.path / "keys"

    @property
    def certificates(self) -> Path:
        """Certificates by registry host, as in Docker's `certs.d`."""
        return self.path / "certs.d"

    @property
    def recipes(self) -> Path:
        """The company's own base recipes; they come before those that ship."""
        return self.path / "recipes"


def default_home() -> Path:
    """The platform's folder for data of this program."""
    import platformdirs

    return Path(platformdirs.user_data_dir("tidewaiter", appauthor=False))
