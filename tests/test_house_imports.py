"""Light modules stay light: each is imported in a child process in which the heavy packages do not exist."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LEARNING = ("torch", "sklearn", "scipy", "xgboost", "safetensors")
RUNTIMES = ("onnx", "onnxruntime", "ai_edge_litert", "tflite_runtime", "tensorflow")
DRAWING = ("matplotlib", "jinja2", "PIL")
DATA_FRAMES = ("pandas", "pyarrow")
HEAVY = (*LEARNING, *RUNTIMES, *DRAWING, *DATA_FRAMES)

# What may need PyTorch to be imported at all; the writers of graphs and the folded weights in `export` may not.
NEED_TORCH = ("supernets.networks", "supernets.training", "supernets.export.subnet", "profiler.accuracy", "profiler.proxy_training")
LIGHT_EXPORT = ("supernets.export.weights", "supernets.export.onnx_graph", "supernets.export.tflite_graph")

CHILD = """
import importlib, json, sys

blocked = set(json.loads(sys.argv[1]))

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in blocked:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Absent())
failed = {}
for name in json.loads(sys.argv[2]):
    try:
        importlib.import_module(name)
    except Exception as error:
        failed[name] = repr(error)
print(json.dumps(failed))
"""


def modules_of(*packages: str) -> list[str]:
    """Return the names of all modules of these packages that must be light."""
    files = sorted(file for package in packages for file in (ROOT / package).rglob("*.py"))
    names = [".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for file in files]
    return [name for name in names if not name.startswith(NEED_TORCH) and not name.endswith("__main__")]


def failures(modules: list[str], blocked: tuple[str, ...]) -> dict[str, str]:
    """Return module → error of those that cannot be imported where the blocked packages do not exist."""
    command = [sys.executable, "-W", "error", "-c", CHILD, json.dumps(blocked), json.dumps(modules)]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr
    return dict(json.loads(result.stdout))


def test_light_modules_import_without_learning_libraries_runtimes_and_drawing() -> None:
    modules = modules_of("supernets", "device_agents", "luts", "predictors", "search", "profiler")
    assert set(LIGHT_EXPORT) <= set(modules)
    assert failures(modules, HEAVY) == {}


@pytest.mark.parametrize("package", ["supernets", "device_agents"])
def test_lowest_rooms_import_without_data_base_and_command_line(package: str) -> None:
    assert failures(modules_of(package), (*HEAVY, "sqlalchemy", "typer", "click", "rich")) == {}


def test_rooms_below_the_tool_import_without_command_line() -> None:
    assert failures(modules_of("luts", "predictors", "search"), (*HEAVY, "typer", "click", "rich")) == {}


def test_what_is_shipped_to_devices_imports_without_numpy() -> None:
    modules = [name for name in modules_of("device_agents") if name.startswith("device_agents.on_device")]
    assert modules
    assert failures(modules, (*HEAVY, "sqlalchemy", "typer", "rich", "numpy", "supernets", "luts", "predictors", "search", "profiler")) == {}


def test_blocking_finds_a_module_that_is_not_light() -> None:
    assert list(failures(["supernets.networks.static"], HEAVY)) == ["supernets.networks.static"]
