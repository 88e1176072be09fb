# What the image stands on.
package tidewaiter.base

import data.tidewaiter.lib

shown := sprintf("%s@%s", [input.base.name, input.base.digest])

unapproved contains "its first layers are those of no known base" if input.base.name == ""

unapproved contains sprintf("the approval of %s ended %s", [shown, input.base.expires_at]) if input.base.expired

# That it is retired is another rule's answer.
unapproved contains sprintf("nobody approved %s", [shown]) if {
	input.base.name != ""
	not input.base.approved
	not input.base.expired
	not input.base.retired
}

results contains lib.outcome(
	"base.approved",
	unapproved,
	"Build on an approved base (`tidewaiter base list`), or let who answers for it run `tidewaiter base approve NAME DIGEST --owner WHO`.",
)

retired contains sprintf("%s was retired", [shown]) if {
	input.base.retired
	input.base.reason == ""
}

retired contains sprintf("%s was retired: %s", [shown, input.base.reason]) if {
	input.base.retired
	input.base.reason != ""
}

results contains lib.outcome(
	"base.not-retired",
	retired,
	"Run `tidewaiter base update PROJECT` and build again, or move the image by `tidewaiter base rebase IMAGE BASE`.",
)

outdated contains sprintf("a newer base than %s was approved", [shown]) if input.base.outdated

results contains lib.outcome(
	"base.not-outdated",
	outdated,
	"Run `tidewaiter base update PROJECT` and build again, or move the image by `tidewaiter base rebase IMAGE BASE`.",
)

claimed := object.get(input.image.annotations, "org.opencontainers.image.base.digest", "")

unpinned contains "neither its first layers nor `org.opencontainers.image.base.digest` tell which base it was built on" if {
	input.base.digest == ""
	not regex.match(`^sha(256:[0-9a-f]{64}|512:[0-9a-f]{128})$`, claimed)
}

results contains lib.outcome(
	"base.pinned",
	unpinned,
	"Name the base by digest: `[base]` in tidewaiter.toml locks it, in a Dockerfile write `FROM NAME@sha256:...`; then build with `tidewaiter build`.",
)
