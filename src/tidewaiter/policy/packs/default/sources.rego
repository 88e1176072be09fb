# What the analysis of the sources found before the image was built. Only who built the image knows it.
package tidewaiter.sources

import data.tidewaiter.lib

serious contains sprintf("%s: %d %s", [found.kind, found.count, found.severity]) if {
	some found in input.analysis.findings
	found.kind in {"secrets", "confusion"}
	found.severity in {"critical", "high"}
}

results contains lib.outcome(
	"sources.no-serious-findings",
	serious,
	"Run `tidewaiter analyse PROJECT`, do what it says, commit, and build again; a secret is to be revoked as well.",
) if {
	input.analysis.ran
}

results contains lib.not_applicable("sources.no-serious-findings", "nobody here knows what is in its sources") if {
	not input.analysis.ran
}

unknown contains "nobody here analysed its sources" if not input.analysis.ran

unknown contains missing if {
	some missing in input.analysis.not_checked
}

results contains lib.outcome(
	"sources.analysed",
	unknown,
	"Build the image with `tidewaiter ci` or a pipeline of this server, where ruff and bandit are installed and the indexes answer.",
)
