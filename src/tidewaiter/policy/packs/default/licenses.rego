# Under which licences packages may be used.
package tidewaiter.licenses

import data.tidewaiter.lib
import data.tidewaiter.parameters

denied_words := {lower(name) | some name in parameters.denied_licenses}

# Taking every expression apart takes long, and no expression holds a word that all of them together do not hold.
suspicious if {
	together := lower(concat(" ", [expression | some expression, _ in input.packages.licenses]))
	some word in denied_words
	contains(together, word)
}

names_denied(expression) if {
	some word in regex.split(`[\s()/,]+`, lower(expression))
	word in denied_words
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

denied contains sprintf("%s: %s", [expression, lib.listed(packages)]) if {
	suspicious
	some expression, packages in input.packages.licenses
	names_denied(expression)
	not free_choice(expression)
}

results contains lib.outcome(
	"licenses.denied",
	denied,
	"Take another package, or another version of it, in requirements.in or in the base's recipe, then lock and build again.",
)
