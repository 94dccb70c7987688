# `make check` is what CI runs.
.PHONY: check format grammar lint types contracts test

check: lint types contracts test

format:
	ruff format . && ruff check --fix .

grammar: # the tables of the parser, after a change of grammar/dlspec.lark
	python -m dlc.grammar.generate

lint:
	ruff format --check . && ruff check .

types:
	mypy

contracts:
	lint-imports

test:
	pytest
