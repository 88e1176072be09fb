# What goes with the image: its bill of materials, how it was built, who signed it.
package tidewaiter.attached

import data.tidewaiter.lib
import data.tidewaiter.parameters

# What nobody looked for is not there.
missing(name, document) := {sprintf("there is no %s", [name])} if document.state == "absent"

missing(name, document) := {sprintf("it is not known whether there is a %s", [name])} if document.state == "unknown"

missing(_, document) := set() if document.state == "follows"

missing(name, document) := old(name, document) if document.state == "present"

old(name, document) := set() if {
	document.age_days <= parameters.attached_age_days
} else := {sprintf("the %s of %s is over %d days old", [name, document.created, parameters.attached_age_days])}

results contains lib.outcome(
	"attached.sbom",
	missing("bill of materials", input.attached.sbom),
	"Run `tidewaiter check IMAGE` on the home that holds the image, or build it with `tidewaiter ci`: both attach one.",
)

results contains lib.outcome(
	"attached.provenance",
	missing("provenance", input.attached.provenance),
	"Build it with `tidewaiter ci` on a runner whose builder the server has registered: the builder signs how it was built.",
)

results contains lib.outcome(
	"attached.signature",
	missing("signature", input.attached.signature),
	"Clear it with `tidewaiter ci` or `tidewaiter check IMAGE --environment ENVIRONMENT --clear`: both sign.",
)
