"""The data that crosses the border of device_agents, and its errors."""

from __future__ import annotations

import numpy as np
import pytest

from device_agents import base
from device_agents.base import DeviceError, DeviceInfo, DeviceState, Visit, VisitPlan

STATE = DeviceState(7, load_1m=0.5)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"id": ""}, "expected an id and at least one model"),
        ({"models": ()}, "expected an id and at least one model"),
        ({"cycles": 0}, "'v' has cycles 0"),
        ({"warmup_cycles": -1}, "warmup_cycles -1"),
    ],
)
def test_a_plan_that_measures_nothing_is_refused(values, message):
    with pytest.raises(ValueError, match=message):
        VisitPlan(**{"id": "v", "models": ("m",), "cycles": 1, "warmup_cycles": 0, **values})


@pytest.mark.parametrize(
    "samples", [np.array([[1.0]]), np.array([1, 2]), np.array([[0, 1]]), np.array([[-1]]), np.empty((1, 0), np.int64), np.array([[1]], np.int32)]
)
def test_a_visit_takes_only_positive_whole_nanoseconds(samples):
    with pytest.raises(ValueError, match="samples of visit 'v' are"):
        Visit("v", samples, STATE, STATE, "w")


def test_a_state_that_knows_nothing_says_none_and_not_zero():
    assert set(DeviceState(7).to_dict().values()) == {7, None}


def test_unknown_fields_are_refused_by_name():
    with pytest.raises(ValueError, match="a device state has no field humidity; known fields: unix_time_ns"):
        DeviceState.from_dict({"unix_time_ns": 7, "humidity": 1})
    with pytest.raises(ValueError, match="a device info has no field colour"):
        DeviceInfo.from_dict({"device": "d", "colour": "red"})


@pytest.mark.parametrize(
    ("name", "built_in"),
    [("DeviceUnreachable", ConnectionError), ("RuntimeMissing", ImportError), ("WorkerFailed", RuntimeError), ("UnknownDevice", LookupError)],
)
def test_errors_are_device_errors_and_keep_their_text(name, built_in):
    error = getattr(base, name)("phone 'p' did not answer")
    assert isinstance(error, DeviceError)
    assert isinstance(error, built_in)
    assert str(error) == "phone 'p' did not answer"
