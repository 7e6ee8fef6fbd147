"""What holds for every test: one thread a library, reproducible property tests, and which markers this machine can serve."""

from __future__ import annotations

import importlib.util
import os
import signal

import pytest
from hypothesis import settings

# Two workers of pytest share a small machine; libraries that start a pool of their own would only get in each other's way.
for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(variable, "1")

# A shell's background jobs ignore Ctrl-C, and so would all that tests interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

pytest.register_assert_rewrite("contracts")
settings.register_profile("reproducible", derandomize=True, deadline=None, database=None, max_examples=50)
settings.load_profile("reproducible")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--device-name", help="run the tests marked `device` on this device of devices.toml")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    missing = {}
    if config.getoption("--device-name") is None:
        missing["device"] = "needs a real device: name one with --device-name"
    if importlib.util.find_spec("torch") is None:
        missing["torch"] = "needs PyTorch: pip install 'elastic-latency[train]'"
    for item in items:
        for marker, reason in missing.items():
            if item.get_closest_marker(marker):
                item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture
def device_name(request: pytest.FixtureRequest) -> str:
    """The real device that tests marked `device` shall use."""
    return str(request.config.getoption("--device-name"))
