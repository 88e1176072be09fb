# How images are named.
package tidewaiter.name

import data.tidewaiter.lib
import data.tidewaiter.parameters

moving contains sprintf("tag %q moves", [input.image.tag]) if {
	regex.match(`(^|[-_.])(latest|nightly)([-_.]|$)`, input.image.tag)
}

moving contains sprintf("%q has no tag, which means latest", [input.image.reference]) if {
	input.image.tag == ""
	not input.image.pinned
}

results contains lib.outcome(
	"name.no-latest",
	moving,
	"Name the image by its commit, as `tidewaiter build` does (NAME:COMMIT), or by digest (NAME@sha256:...).",
)

unconventional contains "the image was named by a file, not by repository and tag" if input.image.name == ""

unconventional contains sprintf("repository %q is not TEAM/NAME in lower case", [input.image.name]) if {
	input.image.name != ""
	some pattern in parameters.name_patterns
	not regex.match(pattern, input.image.name)
}

unconventional contains sprintf("tag %q is neither a commit nor a version", [input.image.tag]) if {
	input.image.tag != ""
	not conventional_tag
}

unconventional contains "there is no tag" if {
	input.image.tag == ""
	not input.image.pinned
}

conventional_tag if {
	some pattern in parameters.tag_patterns
	regex.match(pattern, input.image.tag)
}

results contains lib.outcome(
	"name.convention",
	unconventional,
	"In tidewaiter.toml set `[image] name` to TEAM/NAME, commit, and build again: the tag becomes the commit.",
)

dirty contains sprintf("%q was built from a tree that differs from its commit", [input.image.reference]) if {
	input.image.dirty
}

results contains lib.outcome(
	"name.not-dirty",
	dirty,
	"Commit the changes (`git commit -a`) and build again, so that the tag names exactly what is in the image.",
)
