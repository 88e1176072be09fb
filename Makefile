.PHONY: demo demo-stop test fuzz lint docs clean

# Builds, inspects, checks, signs and runs the example image, then serves the catalog.
demo:
	@tools/setup demo
	@tools/demo

demo-stop:
	@tools/demo stop

# Static checks and the tests that need no foreign tool beyond Debian's packages; `.ci/run` runs all.
test:
	@tools/setup test
	@$(MAKE) --no-print-directory lint
	.venv/bin/pytest -q -n 2 --dist worksteal -m "not interop and not thorough"

# Looks for inputs that make a parser fail, SECONDS for each of some 70 targets.
SECONDS ?= 60
fuzz:
	@tools/setup test
	tools/fuzz --seconds $(SECONDS)

lint:
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	.venv/bin/lint-imports

clean:
	rm -rf .venv .demo .mypy_cache .ruff_cache .pytest_cache
