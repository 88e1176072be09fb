"""From the facts of layers to what a container of the image sees: components and programs."""

from collections.abc import Iterator, Sequence
from typing import Literal

from packageurl import PackageURL

from tidewaiter.core import limits
from tidewaiter.core.errors import LimitError
from tidewaiter.inspection.catalogers.debian import copyright as debian_copyright
from tidewaiter.inspection.catalogers.programs import JUPYTER_DISTRIBUTIONS
from tidewaiter.inspection.catalogers.python import develop, installs, requirements
from tidewaiter.inspection.catalogers.python.requirements import normalised
from tidewaiter.inspection.catalogers.system import OS_RELEASES
from tidewaiter.inspection.facts import Exposed, Framework, Model, Program
from tidewaiter.inspection.layer_facts import SYMLINK, FoundPackage, LayerFacts, OsRelease, Unread
from tidewaiter.inspection.naming import ecosystem, purl
from tidewaiter.inspection.overlay import Overlay
from tidewaiter.sbom.component import Component, component_key


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
            named = [{_same(other) for other in tables[index].get(location, [])} for index, _ in history[1:]]
            for package in tables[history[0][0]].get(location, []):
                origin = history[0][0]
                for (index, _), others in zip(history[1:], named, strict=True):
                    # A later layer writes dpkg's whole status again: the package came with the first that names it.
                    if _same(package) not in others:
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

    def _hashes(self, package: FoundPackage) -> tuple[str, ...]:
        if package.kind != "python":
            return package.hashes
        path = f"{package.location.rpartition('/')[0]}/{installs.DIRECT_URL}"
        found = self._overlay.top(path)
        return () if found is None else self._layers[found[0]].archives.get(path, ())

    def _develop(self) -> frozenset[str]:
        """Folders whose distributions are editable, by develop installs."""
        return frozenset(
            folder
            for index, layer in enumerate(self._layers)
            for path, named in layer.develop.items()
            if self._visible(path, index)
            for folder in named
        )

    def _editable(self) -> frozenset[str]:
        """Metadata folders of Python distributions whose code lies elsewhere."""
        return frozenset(
            installs.folder_of(path)
            for index, layer in enumerate(self._layers)
            for path in layer.editable
            if self._visible(path, index)
        )

    def _visible(self, path: str, index: int) -> bool:
        """Whether a container sees at `path` what layer `index` put there."""
        top = self._overlay.top(path)
        return top is not None and top[0] == index

    def components(self) -> tuple[Component, ...]:
        """Components of the image, sorted.

        Raises:
            LimitError: there are more than `limits.COMPONENTS`.
        """
        release = self.os_release or OsRelease()
        named = [
            (package, layer, purl(package, release), ecosystem(package, release)) for package, layer in self._packages()
        ]
        if len(named) > limits.COMPONENTS:
            raise LimitError(
                f"the image has {len(named)} packages, over {limits.COMPONENTS}", next_step="Do not use this image."
            )
        relations = _Relations([(package, name) for package, _, name, _ in named], self._architecture)
        # A hostile status file may name a package twice; purl and location name a component once.
        editable, named_folders = self._editable(), self._develop()
        components = {
            (name, package.location): Component(
                kind=package.kind,
                name=package.name,
                version=package.version,
                purl=name,
                ecosystem=where,
                source_name=package.source_name,
                source_version=package.source_version,
                licenses=self._licenses(package),
                supplier=package.supplier,
                description=package.description,
                location=package.location,
                layer=layer,
                install=_install(package, editable, named_folders),
                requires=relations.of(package, name),
                hashes=self._hashes(package),
            )
            for package, layer, name, where in named
        }
        found = (*components.values(), *map(_model_component, self.models()))
        return tuple(sorted(found, key=component_key))

    def models(self) -> tuple[Model, ...]:
        """Visible models, sorted by path."""
        return tuple(
            sorted(
                (
                    Model(
                        format=model.format,
                        name=model.name,
                        path=model.path,
                        layer=layer.diff_id,
                        version=model.version,
                        tags=model.tags,
                        signatures=model.signatures,
                        tensorflow=model.tensorflow,
                        problem=model.problem,
                    )
                    for index, layer in enumerate(self._layers)
                    for model in layer.models
                    if self._visible(model.path, index)
                ),
                key=lambda model: model.path,
            )
        )

    def exposed(self) -> tuple[Exposed, ...]:
        """Visible exposures, and secrets of every layer: who has the image has what a later layer deleted, too."""
        return tuple(
            Exposed(one.path, one.kind, layer.diff_id, one.rule, one.line)
            for one, layer in sorted(
                (
                    (one, layer)
                    for index, layer in enumerate(self._layers)
                    for one in layer.exposures
                    if one.kind == "secret" or self._visible(one.path, index)
                ),
                key=lambda pair: (pair[0], pair[1].diff_id),
            )
        )

    def frameworks(self) -> tuple[Framework, ...]:
        """Frameworks and their libraries as visible files show them, sorted."""
        found = [
            Framework(build.name, build.path, layer.diff_id, build.version, build.details)
            for index, layer in enumerate(self._layers)
            for build in layer.builds
            if self._visible(build.path, index) and self._overlay.resolve(build.path) is not None
        ]
        return tuple(sorted(found, key=lambda one: (one.name, one.path)))

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
            if component.kind == "python" and normalised(component.name) in JUPYTER_DISTRIBUTIONS:
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


def _same(package: FoundPackage) -> tuple[str, str, str]:
    """What two layers say alike when they name one package."""
    return package.name, package.version, package.architecture


def _install(
    package: FoundPackage, editable: frozenset[str], named: frozenset[str]
) -> Literal["", "editable", "vendored"]:
    if package.kind != "python":
        return ""
    if package.location.rpartition("/")[0] in editable or develop.is_develop(package.location, named):
        return "editable"
    return "vendored" if installs.is_vendored(package.location) else ""


def _model_component(model: Model) -> Component:
    return Component(
        kind="model",
        name=model.name,
        version=model.version,
        purl=PackageURL("generic", None, model.name, model.version or None).to_string(),
        ecosystem="",
        location=model.path,
        layer=model.layer,
    )


class _Relations:
    """Who is needed by whom, by the names that packages ask for."""

    def __init__(self, named: list[tuple[FoundPackage, str]], architecture: str) -> None:
        self._architecture = architecture
        self._names: dict[tuple[str, str], set[str]] = {}
        for package, identity in named:
            for name in {_asked(package.kind, package.name), *package.provides}:
                self._names.setdefault((package.kind, name), set()).add(identity)

    def of(self, package: FoundPackage, own: str) -> tuple[str, ...]:
        """Package URLs in this image that `package` needs, sorted; what is absent is left out."""
        names = requirements.needed(package, self._architecture) if package.kind == "python" else package.depends
        return tuple(sorted({found for name in names for found in self._names.get((package.kind, name), ())} - {own}))


def _asked(kind: str, name: str) -> str:
    return normalised(name) if kind == "python" else name
