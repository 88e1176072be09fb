"""The steps of `clear`: one commit, from its repository to a cleared image, by the same functions as `ci`.

Each step answers with what names its result, digests above all. What a later step needs and this process does not have
(it is another one: the last died) is made again: everything that was finished lies in store, cache and catalog, so it
is the same, and costs moments.
"""

import itertools
from functools import cached_property
from pathlib import Path
from typing import Any

import msgspec

from tidewaiter.assembly import locking, options, standing
from tidewaiter.assembly.build import Build
from tidewaiter.catalog.runs.records import Asked
from tidewaiter.core import project as projects
from tidewaiter.core.errors import InputError
from tidewaiter.core.progress import Progress
from tidewaiter.core.project import Project
from tidewaiter.core.settings import Settings
from tidewaiter.pipelines import analysed, bounding, building, clear, shipping, static, trusting
from tidewaiter.pipelines.clear import Decided, Inspected, Matched
from tidewaiter.pipelines.copying import Places
from tidewaiter.pipelines.durable import workplaces
from tidewaiter.pipelines.durable.frames import Request
from tidewaiter.pipelines.durable.opened_run import OpenedRun
from tidewaiter.pipelines.sources import checking_out
from tidewaiter.pipelines.static import documents
from tidewaiter.pipelines.trusting import Signers
from tidewaiter.pipelines.workshop import Workshop
from tidewaiter.policy.input import AnalysisInput

_LINES = 200
"""Of the findings of the analysis, in the log."""


class ClearRun(OpenedRun):
    """A run of `clear` in this process. `asked`: what to build, and where to push it."""

    def __init__(self, settings: Settings, request: Request, asked: Asked, progress: Progress) -> None:
        self._run = request.run
        self._asked = asked
        # What the worker's own CI says, if it runs in one, is not about this.
        address = workplaces.address(settings, request.run)
        settings = msgspec.structs.replace(settings, pipeline_run=address, ci_variables={})
        steps = {
            "fetch": self._fetch,
            "analyse": self._analyse,
            "resolve": self._resolve,
            "build": self._build,
            "inspect": self._inspect,
            "match": self._match,
            "decide": self._decide,
            "sign": self._sign,
            "push": self._push,
            "record": self._record,
        }
        super().__init__(settings, request, progress, steps)

    def close(self) -> None:
        """Let go home, catalog and connections; keep the caches within their bounds."""
        made = self.__dict__.get("_made")
        super().close()
        if made is not None:
            bounding.keep(self._settings, made, self._progress)

    # What steps have in common

    @cached_property
    def _places(self) -> Places:
        places = self._stack.enter_context(Places(self._settings, self._progress))
        self._fenced(places.workshop)
        return places

    @property
    def _workshop(self) -> Workshop:
        return self._places.workshop

    @cached_property
    def _folder(self) -> Path:
        """The sources, at the commit."""
        source = self._asked.source
        if source is None:
            folder = Path(self._asked.path)
            if not folder.is_dir():
                raise InputError(
                    f"{folder} is no folder of this worker's machine",
                    next_step="Ask for a run of a repository and a commit: those are fetched by any worker.",
                )
            return folder
        folder = workplaces.folder(self._settings, self._run)
        folder.parent.mkdir(parents=True, exist_ok=True)
        checking_out.checkout(self._settings, source, folder, self._progress.note)
        return folder

    @cached_property
    def _project(self) -> Project:
        inside = self._asked.source.folder if self._asked.source is not None else "."
        folder = self._folder / inside
        if not folder.resolve().is_relative_to(self._folder.resolve()):
            raise InputError(f"{inside[:80]!a} leads out of the repository", next_step="Name a folder in it.")
        return projects.load(folder)

    @cached_property
    def _signers(self) -> Signers:
        return trusting.signers_of_home(self._workshop, self._settings.pipelines.key)

    @cached_property
    def _made(self) -> Build:
        clear.require(self._workshop, self._project, self._signers)
        builder = self._signers.builder.trusted.builder
        made = building.build(self._workshop, self._project, options.DEFAULT, builder=builder)
        known = self._answers.get("build", {}).get("digest")
        if known not in {None, made.image.digest}:
            self._progress.note(f"built anew: {made.image.digest}, and not {known} as before: the locks moved")
        return made

    @cached_property
    def _seen(self) -> Inspected:
        return clear.inspected(self._workshop, self._made)

    @cached_property
    def _matched(self) -> Matched:
        return clear.matched(self._workshop, self._made, self._seen)

    @cached_property
    def _decided(self) -> Decided:
        analysis = self._answers.get("analyse", {}).get("analysis")
        said = None if analysis is None else msgspec.convert(analysis, AnalysisInput)
        return clear.decided(self._workshop, self._made, self._seen, self._matched, said)

    # The steps

    def _fetch(self) -> dict[str, Any]:
        source = self._asked.source
        section = self._project.file.image
        commit = source.commit if source is not None else ""
        return {"commit": commit, "name": section.name, "environment": section.environment}

    def _analyse(self) -> dict[str, Any]:
        report = static.analyse(self._settings, self._folder, self._project, note=self._progress.note)
        for line in itertools.islice(documents.lines(report), _LINES):
            self._progress.note(line)
        static.require(report)
        return {
            "files": report.files,
            "findings": len(report.findings),
            "not_checked": len(report.not_checked),
            "analysis": msgspec.to_builtins(analysed.told(report)),
        }

    def _resolve(self) -> dict[str, Any]:
        clear.require(self._workshop, self._project, self._signers)
        bench = building.bench_of(self._workshop)
        native = standing.native(bench, self._project, options.DEFAULT)
        locks = locking.locks_of(bench, self._project, native)
        return {"base_lock": locks.digest if locks.base is not None else None, "python_lock": locks.python_digest}

    def _build(self) -> dict[str, Any]:
        made = self._made
        return {
            "reference": made.reference,
            "digest": made.image.digest,
            "commit": made.source.commit,
            "layers": len(made.parts),
            "reused": sum(part.reused for part in made.parts),
        }

    def _inspect(self) -> dict[str, Any]:
        facts = self._seen.facts
        return {"component_set": facts.component_set, "components": len(facts.components)}

    def _match(self) -> dict[str, Any]:
        scan = self._matched.scan
        return {
            "findings": len(scan.findings),
            "not_checked": len(scan.not_checked),
            "advisories": scan.revision,
            "documents": len(self._matched.documents),
        }

    def _decide(self) -> dict[str, Any]:
        verdict = self._decided.decision.verdict
        clear.require_allowed(self._workshop, self._made, self._decided.decision, self._signers)
        return {
            "verdict": verdict.verdict,
            "environment": verdict.environment,
            "policy": verdict.policy_revision,
            "warnings": len(verdict.warnings),
        }

    def _sign(self) -> dict[str, Any]:
        decision = self._decided.decision
        clear.require_allowed(self._workshop, self._made, decision, self._signers)
        vouched = clear.signed(self._workshop, self._made, self._matched, decision, self._signers)
        return {"signature": trusting.signature_of(vouched.attached), "attested": list(vouched.attested)}

    def _push(self) -> dict[str, Any]:
        if not self._asked.push:
            return {}
        shipped = shipping.ship(self._places, self._made.reference, self._asked.push)
        return {"pushed": shipped.reference, "digest": shipped.digest}

    def _record(self) -> dict[str, Any]:
        """Say that the tag means this very image, and is cleared: nobody took it back meanwhile."""
        made = self._made
        self._workshop.catalog.require_cleared(made.name, made.image.digest, made.tag)
        self._workshop.settle()
        return {"reference": made.reference, "digest": made.image.digest}
