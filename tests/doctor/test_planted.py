"""Planted failures get the right first verdict, and healthy runs are not disturbed."""

import pytest

from tests.doctor.planted import FAILURES, HEALTHY

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("name", FAILURES)
def test_a_planted_failure_is_named(name):
    rule, case = FAILURES[name]
    report = case()
    assert report.rule == rule, repr(report)
    assert not report.healthy


@pytest.mark.parametrize("name", HEALTHY)
def test_a_healthy_run_is_left_in_peace(name):
    report = HEALTHY[name]()
    assert report.healthy, repr(report)
