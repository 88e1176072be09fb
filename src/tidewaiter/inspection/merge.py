"""From the facts of layers to what a container of the image sees: components and programs."""

from collections.abc import Iterator, Sequence

from packageurl import PackageURL
from packaging.utils import canonicalize_name

from tidewaiter.core import limits
from tidewaiter.core.errors import LimitError
from tidewaiter.inspection.catalogers.debian import copyright as debian_copyright
from tidewaiter.inspection.catalogers.programs import JUPYTER_DISTRIBUTIONS
from tidewaiter.inspection.catalogers.python import requirements
from tidewaiter.inspection.catalogers.system import OS_RELEASES
from tidewaiter.inspection.facts import Program
from tidewaiter.inspection.layer_facts import SYMLINK, FoundPackage, LayerFacts, OsRelease, Unread
from tidewaiter.inspection.overlay import Overlay
from tidewaiter.sbom.component import Component, component_key

# Names of distributions as OSV writes them.
_ECOSYSTEMS = {"debian": "Debian", "ubuntu": "Ubuntu"}


class Merged:
    """The stacked view of `layers` (base first) with what catalogers found in them."""

    def __init__(self, layers: Sequence[LayerFacts], architecture: str) -> None:
        self._layers = layers
        self._architecture = architecture
        self._overlay = Overlay(layers)
        self.os_release = self._os_release()

    def _os_release(self) -> OsRelease | None:
        for name in OS_RELEASES:
            path = self._overlay.resolve(name)
            found = None if path is None else self._overlay.top(path)
            if path is not None and found is not None:
                release = self._layers[found[0]].os_releases.get(path)
                if release is not None:
                    return release
        return None

    def uid(self, name: str) -> int | None:
        """The number of a user name in the image's own `/etc/passwd`; None when it has none."""
        path = self._overlay.resolve("etc/passwd")
        found = None if path is None else self._overlay.top(path)
        if path is None or found is None:
            return None
        return self._layers[found[0]].users.get(path, {}).get(name)

    def _packages(self) -> Iterator[tuple[FoundPackage, str]]:
        """Packages whose metadata is visible, with the diff ID of the layer that brought them."""
        tables: list[dict[str, list[FoundPackage]]] = []
        for layer in self._layers:
            table: dict[str, list[FoundPackage]] = {}
            for package in layer.packages:
                table.setdefault(package.location, []).append(package)
            tables.append(table)
        for location in sorted({location for table in tables for location in table}):
            history = list(self._overlay.history(location))
            if not history or history[0][1] != "file":
                continue
            for package in tables[history[0][0]].get(location, []):
                origin = history[0][0]
                for index, _ in history[1:]:
                    # A later layer writes dpkg's whole status again: the package came with the first that names it.
                    if not any(_same(package, other) for other in tables[index].get(location, [])):
                        break
                    origin = index
                yield package, self._layers[origin].diff_id

    def _licenses(self, package: FoundPackage) -> tuple[str, ...]:
        if package.kind != "deb":
            return package.licenses
        path = self._overlay.resolve(debian_copyright.path_of(package.name))
        found = None if path is None else self._overlay.top(path)
        if path is None or found is None:
            return ()
        return self._layers[found[0]].copyrights.get(path, ())

    def _named(self, package: FoundPackage) -> tuple[str, str]:
        """Package URL and ecosystem of a package in this image."""
        if package.kind == "python":
            name = canonicalize_name(package.name)
            return PackageURL("pypi", None, name, package.version).to_string(), "PyPI"
        release = self.os_release or OsRelease()
        qualifiers = {}
        if package.architecture:
            qualifiers["arch"] = package.architecture
        if release.id:
            qualifiers["distro"] = f"{release.id}-{release.version_id}" if release.version_id else release.id
        purl = PackageURL("deb", release.id or None, package.name, package.version, qualifiers)
        return purl.to_string(), _ecosystem(release)

    def components(self) -> tuple[Component, ...]:
        """Components of the image, sorted.

        Raises:
            LimitError: there are more than `limits.COMPONENTS`.
        """
        named = [(package, layer, *self._named(package)) for package, layer in self._packages()]
        if len(named) > limits.COMPONENTS:
            raise LimitError(
                f"the image has {len(named)} packages, over {limits.COMPONENTS}", next_step="Do not use this image."
            )
        relations = _Relations([(package, purl) for package, _, purl, _ in named], self._architecture)
        # A hostile status file may name a package twice; purl and location name a component once.
        components = {
            (purl, package.location): Component(
                kind=package.kind,
                name=package.name,
                version=package.version,
                purl=purl,
                ecosystem=ecosystem,
                source_name=package.source_name,
                source_version=package.source_version,
                licenses=self._licenses(package),
                supplier=package.supplier,
                description=package.description,
                location=package.location,
                layer=layer,
                requires=relations.of(package, purl),
            )
            for package, layer, purl, ecosystem in named
        }
        return tuple(sorted(components.values(), key=component_key))

    def programs(self, components: Sequence[Component]) -> tuple[Program, ...]:
        """Visible programs sorted by path; a symlink only when it leads to a file."""
        found: dict[str, Program] = {}
        for index, layer in enumerate(self._layers):
            for program in layer.programs:
                top = self._overlay.top(program.path)
                if top is None or top[0] != index:
                    continue
                if program.link and self._overlay.resolve(program.path) is None:
                    continue
                found[program.path] = Program(program.path, program.kind, layer.diff_id)
        for component in components:
            if component.kind == "python" and canonicalize_name(component.name) in JUPYTER_DISTRIBUTIONS:
                found[component.location] = Program(component.location, "jupyter", component.layer)
        return tuple(program for _, program in sorted(found.items()))

    def unread(self) -> tuple[Unread, ...]:
        """Visible metadata that could not be read whole."""
        notes: set[Unread] = set()
        locations = {package.location for layer in self._layers for package in layer.packages}
        for index, layer in enumerate(self._layers):
            for note in layer.unread:
                top = self._overlay.top(note.path)
                if top is None or top[0] != index:
                    continue
                if note.reason != SYMLINK or self._overlay.resolve(note.path) not in locations:
                    notes.add(note)
        return tuple(sorted(notes))


def _same(one: FoundPackage, other: FoundPackage) -> bool:
    return (one.name, one.version, one.architecture) == (other.name, other.version, other.architecture)


def _ecosystem(release: OsRelease) -> str:
    """OSV's name of the distribution and its release, for example `Debian:12` or `Ubuntu:22.04:LTS`."""
    if not release.id:
        return "unknown"
    name = _ECOSYSTEMS.get(release.id, release.id)
    if release.version_id:
        name += f":{release.version_id}"
    return name + ":LTS" if release.id == "ubuntu" and "LTS" in release.version.split() else name


class _Relations:
    """Who is needed by whom, by the names that packages ask for."""

    def __init__(self, named: list[tuple[FoundPackage, str]], architecture: str) -> None:
        self._architecture = architecture
        self._debian: dict[str, set[str]] = {}
        self._python: dict[str, set[str]] = {}
        for package, purl in named:
            if package.kind == "python":
                self._python.setdefault(canonicalize_name(package.name), set()).add(purl)
            else:
                for name in (package.name, *package.provides):
                    self._debian.setdefault(name, set()).add(purl)

    def of(self, package: FoundPackage, purl: str) -> tuple[str, ...]:
        """Package URLs in this image that `package` needs, sorted; what is absent is left out."""
        if package.kind == "python":
            names, table = requirements.needed(package, self._architecture), self._python
        else:
            names, table = iter(package.depends), self._debian
        return tuple(sorted({found for name in names for found in table.get(name, ())} - {purl}))
