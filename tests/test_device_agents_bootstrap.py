"""Making a device ready, against a real SSH server in this process; stand-ins for the runtime's packages come from a folder, not a network."""

from __future__ import annotations

import base64
import hashlib
import io
import os
import sys
import zipfile
from pathlib import Path

import pytest

pytest.importorskip("asyncssh")
from ssh_server import ssh_server

from device_agents.base import DeviceError
from device_agents.bootstrap import PACKAGES, bootstrap
from device_agents.on_device.runtimes import RUNTIMES
from device_agents.ssh import SshAgent


def wheel(folder: Path, name: str, module: str) -> None:
    """Write a package of one empty module, standing in for the real one of that name."""
    info = f"{name.replace('-', '_')}-1.0.dist-info"
    files = {
        f"{module}.py": "__version__ = '1.0'\n",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    digests = {path: base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode() for path, text in files.items()}
    files[f"{info}/RECORD"] = "".join(f"{path},sha256={digests[path]},\n" for path in digests) + f"{info}/RECORD,,\n"
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for path, text in files.items():
            archive.writestr(path, text)
    (folder / f"{name.replace('-', '_')}-1.0-py3-none-any.whl").write_bytes(packed.getvalue())


@pytest.fixture
def index(tmp_path):
    folder = tmp_path / "index"
    folder.mkdir()
    return folder


@pytest.fixture
def server(tmp_path, index):
    """A server whose pip knows the folder `index` and nothing else."""
    environment = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(index), "PIP_CONFIG_FILE": os.devnull}
    with ssh_server(tmp_path, environment) as running:
        yield running


def agent_of(server, **settings) -> SshAgent:
    return SshAgent("pi", **server.settings(**{"python": sys.executable, **settings}))


def test_every_runtime_of_processors_can_be_installed():
    assert set(PACKAGES) == {name for name in RUNTIMES if not name.endswith(("-cuda", "-tensorrt"))}


def test_a_runtime_that_nobody_knows_how_to_install_is_refused(server):
    with agent_of(server, runtime="echo") as agent, pytest.raises(ValueError, match="how runtime 'echo' is installed is not known here"):
        list(bootstrap(agent))


def test_an_environment_is_made_once_and_used_from_then_on(server, index, tmp_path):
    wheel(index, "numpy", "numpy")
    wheel(index, "onnxruntime", "onnxruntime")
    python = f"{server.home.resolve()}/.elastic-latency/venv/bin/python"
    with SshAgent("pi", **server.settings()) as agent:
        first, again = list(bootstrap(agent)), list(bootstrap(agent))
        assert agent.python_there() == python
    assert [line for line in first if "making" in line or "installing" in line] != []
    assert first[-1] == f"{Path(python).parents[1]} has numpy 1.0 onnxruntime 1.0"
    assert not [line for line in again if "making" in line or "installing" in line]
    assert again[-1] == first[-1]
    with agent_of(server) as agent:
        assert "the device's setting python is" in list(bootstrap(agent))[-1]


def test_what_pip_cannot_find_for_this_processor_is_named(server, index):
    wheel(index, "numpy", "numpy")
    with agent_of(server, runtime="litert") as agent, pytest.raises(DeviceError) as caught:
        list(bootstrap(agent))
    text = str(caught.value)
    assert f"there is no package 'ai-edge-litert' for the {os.uname().machine} processor" in text and len(text.splitlines()) == 1


@pytest.mark.parametrize(
    ("said", "message"),
    [
        (
            "WARNING: Retrying ... Temporary failure in name resolution\\nERROR: No matching distribution found for numpy",
            "cannot reach a package index",
        ),
        ("OSError: [Errno 28] No space left on device", "the disk of device 'pi' .* is full"),
        ("ERROR: something else", "pip cannot install numpy and onnxruntime .*something else"),
    ],
)
def test_what_pip_says_becomes_one_sentence(server, said, message):
    """Stands in for the device's Python by a script: pip fails as it says."""
    programs = server.home / ".elastic-latency/venv/bin"
    programs.mkdir(parents=True)
    script = programs / "python"
    script.write_text(
        f'#!/bin/sh\ncase "$*" in *"import sys, pip"*) echo 3.11.2;; *"pip install"*) printf "{said}\\n" >&2; exit 1;; *) exit 1;; esac\n'
    )
    script.chmod(0o755)
    with SshAgent("pi", **server.settings()) as agent, pytest.raises(DeviceError, match=message) as caught:
        list(bootstrap(agent))
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ('case "$*" in *venv*) echo "The virtual environment was not created because ensurepip is not available." ; exit 1;; *) echo 3.11;; esac',
         "without the module venv; install it there: sudo apt install python3-venv"),
        ('echo 3.7', "of Python 3.7; expected 3.9 or later"),
        ("exit 1", "that runs .*install Python 3.9 or later"),
    ],
)  # fmt: skip
def test_a_python_that_makes_no_environment_is_one_clear_line(server, tmp_path, script, message):
    """Stands in for the device's Python by a script."""
    python = tmp_path / "its-python"
    python.write_text(f"#!/bin/sh\n{script}\n")
    python.chmod(0o755)
    with agent_of(server, python=str(python)) as agent, pytest.raises(DeviceError, match=message) as caught:
        list(bootstrap(agent))
    assert len(str(caught.value).splitlines()) == 1
