# Under which licences packages may be used.
package tidewaiter.licenses

import data.tidewaiter.lib
import data.tidewaiter.parameters

names_denied(expression) if {
	words := regex.split(`[\s()/,]+`, lower(expression))
	some name in parameters.denied_licenses
	lower_in(name, words)
}

lower_in(name, words) if {
	some word in words
	word == lower(name)
}

# Only a plain choice (`A OR B`) lets one go by the other licence; what combines is read as asking for all.
choice(expression) if {
	contains(lower(expression), " or ")
	not contains(lower(expression), " and ")
}

free_choice(expression) if {
	choice(expression)
	some alternative in regex.split(`\s+or\s+`, lower(expression))
	not names_denied(alternative)
}

# An engine is sent only the expressions that this way of writing the first three lines lets through.
denied contains sprintf("%s: %s", [expression, lib.listed(packages)]) if {
	some expression, packages in input.packages.licenses
	some name in parameters.denied_licenses
	contains(lower(expression), lower(name))
	names_denied(expression)
	not free_choice(expression)
}

results contains lib.outcome(
	"licenses.denied",
	denied,
	"Take another package, or another version of it, in requirements.in or in the base's recipe, then lock and build again.",
)
