# `make check` is what CI runs.
.PHONY: check format lint types contracts test

check: lint types contracts test

format:
	ruff format . && ruff check --fix .

lint:
	ruff format --check . && ruff check .

types:
	mypy

contracts:
	lint-imports

test:
	pytest
