"""Making a device that SSH reaches ready: a virtual environment there, with numpy and the inference runtime."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePosixPath

from device_agents.base import DeviceError
from device_agents.ssh import DEFAULT_PYTHON, SshAgent
from device_agents.ssh_connection import Finished, SshConnection

# runtime → what pip calls its package; the module that proves it is there. tflite_runtime was built against numpy 1.
PACKAGES: Mapping[str, tuple[tuple[str, ...], str]] = {
    "onnxruntime": (("numpy", "onnxruntime"), "onnxruntime"),
    "litert": (("numpy", "ai-edge-litert"), "ai_edge_litert.interpreter"),
    "tflite-runtime": (("numpy<2", "tflite-runtime"), "tflite_runtime.interpreter"),
    "openvino": (("numpy", "openvino"), "openvino"),
    "torch": (("numpy", "torch"), "torch"),
}
VENV_TIMEOUT_S = 600.0  # a board with a slow card takes minutes
INSTALL_TIMEOUT_S = 3600.0
PROBE_TIMEOUT_S = 300.0
OLDEST_PYTHON = (3, 9)
# what pip says where it cannot fetch anything; it goes on to say that there is no such package, so these come first
NO_NETWORK = re.compile(r"Temporary failure in name resolution|Name or service not known|Network is unreachable|Failed to establish a new connection"
                        r"|Connection refused|ConnectTimeoutError|ReadTimeoutError|No route to host|ProxyError|SSLError", re.IGNORECASE)  # fmt: skip
NO_WHEEL = re.compile(r"No matching distribution found for (\S+)|Failed building wheel for (\S+)|Could not build wheels for (\S+)")
NO_SPACE = re.compile(r"No space left on device", re.IGNORECASE)
NO_VENV = re.compile(r"ensurepip is not\s+available|No module named '?(?:venv|ensurepip)", re.IGNORECASE)


def bootstrap(agent: SshAgent) -> Iterator[str]:
    """Install what measuring on the agent's device needs, yielding a text for each step done; what is there already stays.

    The agent uses the environment from then on, unless its settings name another `python`.

    Raises:
        DeviceError: a step failed; DeviceUnreachable where it is the connection.
        ValueError: nothing is known of how the agent's runtime is installed.
    """
    if agent.runtime not in PACKAGES:
        raise ValueError(f"how runtime {agent.runtime!r} is installed is not known here; known runtimes: {', '.join(sorted(PACKAGES))}")
    packages, module = PACKAGES[agent.runtime]
    connection = agent.connection()
    venv = agent.path_there(agent.venv)
    python = f"{venv}/bin/python"
    yield f"{connection.who} is reached, as {connection.user}"
    if _version(connection, python) is None:
        yield f"making the virtual environment {venv}"
        _make_venv(connection, _base_python(agent, python), venv)
    yield f"{python} is Python {_version(connection, python)}"
    if not _has(connection, python, ("numpy", module)):
        yield f"installing {' and '.join(packages)} (this may take minutes)"
        _install(connection, python, packages)
        if not _has(connection, python, ("numpy", module)):
            done = connection.command([python, "-I", "-c", f"import numpy, {module}"], PROBE_TIMEOUT_S)
            raise DeviceError(f"{connection.who} has {' and '.join(packages)} in {venv} and cannot import them: {done.last_words}")
    found = connection.command([python, "-I", "-c", f"from importlib.metadata import version; print({_versions(packages)})"], PROBE_TIMEOUT_S)
    yield f"{venv} has {found.stdout.strip() or ' and '.join(packages)}"
    if agent.python is not None and agent.path_there(agent.python) != python:
        yield f"the device's setting python is {agent.python!r}: take it away, or set it to {agent.venv}/bin/python, for this environment to be used"


def _versions(packages: Sequence[str]) -> str:
    names = [re.split(r"[<>=]", package)[0] for package in packages]
    return ", ".join(f'"{name}", version("{name}")' for name in names)


def _version(connection: SshConnection, python: str) -> str | None:
    """Return the version of a Python that has pip; None where it does not run."""
    done = connection.command([python, "-I", "-c", "import sys, pip; print('%d.%d.%d' % sys.version_info[:3])"], PROBE_TIMEOUT_S)
    return done.stdout.strip() if done.exit_code == 0 else None


def _base_python(agent: SshAgent, in_venv: str) -> str:
    """Return the Python that the environment is made with."""
    connection = agent.connection()
    given = None if agent.python is None else agent.path_there(agent.python)
    python = DEFAULT_PYTHON if given is None or given == in_venv else given
    done = connection.command([python, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"], PROBE_TIMEOUT_S)
    version = re.fullmatch(r"(\d+)\.(\d+)", done.stdout.strip())
    if done.exit_code != 0 or version is None:
        raise DeviceError(f"{connection.who} has no {python!r} that runs ({done.last_words}); install Python 3.9 or later there, or set `python`")
    if (int(version[1]), int(version[2])) < OLDEST_PYTHON:
        raise DeviceError(f"{connection.who} has {python!r} of Python {version[0]}; expected 3.9 or later: set `python` of the device")
    return python


def _make_venv(connection: SshConnection, python: str, venv: str) -> None:
    parent = str(PurePosixPath(venv).parent)
    for command in (["mkdir", "-p", "--", parent], [python, "-m", "venv", "--clear", venv]):
        done = connection.command(command, VENV_TIMEOUT_S)
        if done.exit_code != 0:
            connection.command(["rm", "-rf", "--", venv])  # half an environment would be taken for one
            raise DeviceError(_why_no_venv(connection, python, venv, done))


def _why_no_venv(connection: SshConnection, python: str, venv: str, done: Finished) -> str:
    said = f"{done.stdout}\n{done.stderr}"
    if NO_VENV.search(said):
        return f"{connection.who} has {python!r} without the module venv; install it there: sudo apt install python3-venv"
    if NO_SPACE.search(said):
        return f"the disk of {connection.who} is full: no space for {venv}; free some, or set `venv` of the device to another place"
    return f"{connection.who} cannot make the virtual environment {venv}: {done.last_words}; set `venv` of the device to a place it can write"


def _has(connection: SshConnection, python: str, modules: Sequence[str]) -> bool:
    return connection.command([python, "-I", "-c", f"import {', '.join(modules)}"], PROBE_TIMEOUT_S).exit_code == 0


def _install(connection: SshConnection, python: str, packages: Sequence[str]) -> None:
    command = [python, "-m", "pip", "install", "--disable-pip-version-check", "--no-input", "--progress-bar", "off", "--prefer-binary", *packages]
    done = connection.command(command, INSTALL_TIMEOUT_S)
    if done.exit_code == 0:
        return
    said = f"{done.stdout}\n{done.stderr}"
    what = " and ".join(packages)
    if NO_SPACE.search(said):
        raise DeviceError(f"the disk of {connection.who} is full: no space for {what}; free some, or set `venv` of the device to another place")
    if NO_NETWORK.search(said):
        raise DeviceError(f"{connection.who} cannot reach a package index to install {what}; connect it to a network, or set up pip's index there")
    missing = NO_WHEEL.search(said)
    if missing:
        machine = connection.command(["uname", "-m"]).stdout.strip()
        name = next(group for group in missing.groups() if group)
        raise DeviceError(
            f"there is no package {name!r} for the {machine} processor and the Python of {connection.who}; "
            "install a 64-bit system or another Python there, or choose another runtime"
        )
    raise DeviceError(f"pip cannot install {what} on {connection.who}: {done.last_words}")
