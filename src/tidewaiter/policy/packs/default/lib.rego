# How rules answer. A rule gives exactly one result; the engine compares the results with pack.toml, and a rule
# that is missing, doubled or undefined counts as failed.
package tidewaiter.lib

# Passes when the set of evidence against the image is empty.
outcome(id, evidence, remedy) := {"id": id, "status": "pass", "evidence": [], "remedy": ""} if {
	count(evidence) == 0
} else := {"id": id, "status": "fail", "evidence": sort(evidence), "remedy": remedy}

not_applicable(id, why) := {"id": id, "status": "not_applicable", "evidence": [why], "remedy": ""}

listed(things) := concat(", ", sort(things))
