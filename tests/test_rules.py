"""The rules of the runtime each have a test."""

from __future__ import annotations

import pytest

from tests.rules import RULES, TABLE, named_in_tests, table


@pytest.mark.parametrize("rule", RULES)
def test_rule_has_a_test(rule: str) -> None:
    """Every rule is named in the docstring of a test."""
    assert named_in_tests().get(rule)


def test_no_unknown_rule() -> None:
    """A docstring names no rule that is not in the table."""
    known = {*RULES, "S1", "S2", "S3", "S4"}
    assert not {rule: tests for rule, tests in named_in_tests().items() if rule not in known}


def test_table_is_current() -> None:
    """The table of rules and tests is as the docstrings say; `python -m tests.rules` writes it."""
    assert TABLE.read_text() == table()
