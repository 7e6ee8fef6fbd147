"""What is shipped: it stands alone, runs under every Python since 3.9, and speaks the pinned wire format."""

from __future__ import annotations

import ast
import io
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from device_agents import archive
from device_agents.on_device import wire
from device_agents.on_device.runtimes import RUNTIMES

OUTSIDE = {"numpy", "onnxruntime", "ai_edge_litert", "tflite_runtime", "torch", "openvino"}
INTERPRETERS = [f"python3.{minor}" for minor in range(9, 16)]


def talk(command: list[str], requests: list[dict]) -> list[dict]:
    """Return a worker's replies to these requests."""
    lines = b"".join(map(wire.encode, requests))
    done = subprocess.run(command, input=lines, capture_output=True, timeout=60, check=True)
    return [wire.decode(line) for line in done.stdout.splitlines()]


@pytest.fixture
def program(tmp_path) -> Path:
    file = tmp_path / "worker.pyz"
    file.write_bytes(archive.pack())
    return file


def usable(name: str) -> str:
    """Return the path of this interpreter, or skip."""
    path = shutil.which(name)
    if path is None:
        pytest.skip(f"{name} is not on PATH")
    try:
        answer = subprocess.run([path, "-c", "import sys; print(sys.version_info[:2])"], capture_output=True, timeout=60, text=True, check=False)
    except OSError as error:
        pytest.skip(f"{name} on PATH does not start: {error}")
    if answer.returncode:
        pytest.skip(f"{name} on PATH is a shim without an interpreter: {answer.stderr.splitlines()[:1]}")
    return path


@pytest.mark.parametrize("name", [*INTERPRETERS, pytest.param(sys.executable, id="this one")])
def test_worker_runs_without_site_packages_under_every_python_found(name, program, tmp_path):
    core = max(os.sched_getaffinity(0))
    model = tmp_path / "model"
    model.write_bytes(b"anything")
    requests = [
        {"request": "hello", "protocol": wire.PROTOCOL_VERSION, "runtime": "echo", "threads": 1, "cores": [core]},
        {"request": "load", "model": "m", "path": str(model)},
        {"request": "run", "id": "v", "models": ["m", "m"], "cycles": 3, "warmup_cycles": 1, "min_call_ns": 0},
        {"request": "quit"},
        {"request": "after the end"},
    ]
    hello, load, run, end = talk([usable(name), "-I", "-S", str(program)], requests)
    assert (hello["reply"], hello["protocol"], hello["runtime"], hello["cores"], hello["numpy_version"]) == ("hello", 2, "echo", [core], None)
    assert load == {"reply": "load", "model": "m", "input_shapes": [[1]], "input_dtypes": ["float32"], "delegate": "none"}
    assert (run["reply"], run["id"], run["repeats"]) == ("run", "v", 1)
    assert [len(row) for row in run["samples_ns"]] == [3, 3]
    assert all(type(sample) is int and sample > 0 for row in run["samples_ns"] for sample in row)
    assert set(run["state_before"]) == {"unix_time_ns", "load_1m", "frequency_khz", "temperature_c", "throttled", "memory_available_kb"}
    assert end == {"reply": "quit"}


def test_wire_format_is_pinned():
    # A change here is a new PROTOCOL_VERSION: hosts and devices may be of different ages.
    assert wire.PROTOCOL_VERSION == 2
    assert wire.encode({"request": "hello", "protocol": 2, "runtime": "echo", "threads": 1, "cores": [0, 3]}) == (
        b'{"request":"hello","protocol":2,"runtime":"echo","threads":1,"cores":[0,3]}\n'
    )
    assert (
        wire.encode({"reply": "run", "id": "\u00e9\n", "samples_ns": [[1, 2], [3, 4]]})
        == b'{"reply":"run","id":"\\u00e9\\n","samples_ns":[[1,2],[3,4]]}\n'
    )
    assert wire.decode(b'{"reply":"error","kind":"refused","message":"no"}\n') == {"reply": "error", "kind": "refused", "message": "no"}


def test_replies_are_pinned(program):
    requests = b'{"request":"run","id":"v","models":["m"],"cycles":1,"warmup_cycles":0}\nnot json\n[1]\n{"request":"dance"}\n{"request":"quit"}\n'
    done = subprocess.run([sys.executable, "-I", "-S", str(program)], input=requests, capture_output=True, timeout=60, check=True)
    assert done.stdout.splitlines(keepends=True) == [
        b'{"reply":"error","kind":"failed","message":"WireError: run came before hello"}\n',
        b'{"reply":"error","kind":"failed","message":"WireError: b\'not json\\\\n\' is not JSON: Expecting value: line 1 column 1 (char 0)"}\n',
        b'{"reply":"error","kind":"failed","message":"WireError: b\'[1]\\\\n\' is not a JSON object"}\n',
        b'{"reply":"error","kind":"failed","message":"WireError: unknown request \'dance\'; '
        b'expected one of hello, preflight, load, run, outputs, quit"}\n',
        b'{"reply":"quit"}\n',
    ]


@pytest.mark.parametrize("line", [b"\xff\n", b"", b"1\n", b"{]\n"])
def test_lines_that_are_no_messages_are_refused(line):
    with pytest.raises(wire.WireError):
        wire.decode(line)


def test_numbers_that_json_lacks_are_refused():
    with pytest.raises(ValueError, match="JSON"):
        wire.encode({"load_1m": float("nan")})


def test_worker_ends_when_its_input_ends(program):
    assert talk([sys.executable, "-I", "-S", str(program)], []) == []


def test_archive_is_small_and_the_same_each_time():
    packed = archive.pack()
    assert packed == archive.pack()
    assert len(packed) < 120_000
    names = zipfile.ZipFile(io.BytesIO(packed)).namelist()
    folder = archive.PACKAGE.replace(".", "/")
    assert {name for name in names if not name.startswith(f"{folder}/")} == {"__main__.py", "device_agents/__init__.py"}


@pytest.mark.parametrize("source", sorted(archive.ON_DEVICE.glob("*.py")), ids=lambda path: path.name)
def test_shipped_file_needs_python_3_9_and_imports_other_packages_inside_functions_only(source):
    tree = ast.parse(source.read_text(), feature_version=(3, 9))
    top_level = set(map(id, tree.body))
    for node in ast.walk(tree):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom):
            assert node.level <= 1, f"{source.name} imports from outside the folder"
            names = [node.module] if node.level == 0 else []
        for name in names:
            package = name.partition(".")[0]
            assert package in sys.stdlib_module_names or (package in OUTSIDE and id(node) not in top_level), f"{source.name} imports {name}"


def test_no_file_has_a_standard_library_name():
    stems = {path.stem for path in archive.ON_DEVICE.parent.rglob("*.py")} - {"__init__", "__main__"}
    assert not stems & (set(sys.stdlib_module_names) | {"profiling"})


def test_registry_names_classes_that_exist():
    for name, target in RUNTIMES.items():
        module, _, class_name = target.partition(":")
        text = (archive.ON_DEVICE / f"{module.lstrip('.')}.py").read_text()
        assert re.search(rf"^class {class_name}\b", text, re.MULTILINE), name


def test_host_and_worker_agree_on_the_fields_of_a_state(program):
    from device_agents.base import DeviceState
    from device_agents.on_device.system_state import StateReader

    state = StateReader([0]).read()
    assert DeviceState.from_dict(json.loads(json.dumps(state))).to_dict() == state
