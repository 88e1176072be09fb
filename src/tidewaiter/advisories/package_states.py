"""What the advisory data says of a package, as one short text: equal texts give equal findings for its versions."""

import hashlib

import tidewaiter
from tidewaiter.advisories import names
from tidewaiter.advisories.advisory import family
from tidewaiter.advisories.database import Database


class PackageStates:
    """The states of packages at one moment of `database`, read at once.

    What the matcher finds for a version depends on the entries under all names of its package, on whether its
    ecosystem has data, and on the program; a state names all three.

    Raises:
        StorageError: the advisory database cannot be read.
    """

    def __init__(self, database: Database) -> None:
        with database.reading():
            self._entries = database.packages()
            self._covered = frozenset(database.coverage())

    def state(self, ecosystem: str, name: str) -> str:
        """The state of the package that advisories of `ecosystem` call `name`."""
        places = (ecosystem,) if family(ecosystem) == ecosystem else (ecosystem, family(ecosystem))
        known = [
            (place, identity, found)
            for identity in names.identities(ecosystem, name)
            for place in places
            if (found := self._entries.get((place, identity))) is not None
        ]
        covered = "covered" if ecosystem in self._covered else "not covered"
        if not known:
            return f"{tidewaiter.__version__} {covered}"
        content = hashlib.sha256()
        for place, identity, found in known:
            content.update(f"{place}\0{identity}\0{found.hex()}\n".encode("utf-8", "surrogatepass"))
        return f"{tidewaiter.__version__} {covered} {content.hexdigest()}"
