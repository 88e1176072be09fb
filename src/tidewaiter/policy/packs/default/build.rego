# Who built it.
package tidewaiter.build

import data.tidewaiter.lib

registered if {
	input.image.builder in input.settings.registered_builders

	# Nothing that a setting says makes a laptop a registered builder.
	input.image.builder != "local"
}

unregistered contains sprintf("the builder is %q", [input.image.builder]) if not registered

results contains lib.outcome(
	"build.builder-registered",
	unregistered,
	"Build it with `tidewaiter ci` on a runner whose builder the server has registered; a build of this machine stays out of production.",
)
