"""What is built and what it asks for: the wheel's contents and metadata, and the locked versions."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import zipfile
from email import message_from_string
from email.message import Message
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("device_agents", "luts", "predictors", "profiler", "search", "supernets")
BUILD = "import sys; from setuptools import build_meta; build_meta.build_wheel(sys.argv[1])"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel from a copy of the tree, with the build backend that is installed and without a network."""
    copy, out = tmp_path_factory.mktemp("tree"), tmp_path_factory.mktemp("wheel")
    for package in (*PACKAGES, "tests"):
        shutil.copytree(ROOT / package, copy / package, ignore=shutil.ignore_patterns("__pycache__"))
    for file in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / file, copy / file)
    shutil.copytree(ROOT / "luts", copy / "luts_backup", ignore=shutil.ignore_patterns("__pycache__"))  # a sibling that may not be packed
    result = subprocess.run([sys.executable, "-c", BUILD, str(out)], cwd=copy, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr
    (built,) = out.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def metadata(wheel: Path) -> Message:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        return message_from_string(archive.read(name).decode())


def test_wheel_holds_every_file_of_the_six_packages_and_no_other_package(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if ".dist-info/" not in name}
    files = {file.relative_to(ROOT).as_posix() for package in PACKAGES for file in (ROOT / package).rglob("*") if file.is_file()}
    expected = {name for name in files if "__pycache__" not in name}
    assert sorted(packed - expected) == []
    assert sorted(expected - packed) == []
    assert {f"{package}/py.typed" for package in PACKAGES} | {"device_agents/devices.toml"} <= packed


def test_wheel_runs_by_itself(wheel: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path)
    code = f"import sys, {', '.join(PACKAGES)}; print(*(sys.modules[name].__file__ for name in {PACKAGES}), sep='\\n')"
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    where = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60)
    assert where.returncode == 0, where.stderr
    assert [Path(line).parent.parent for line in where.stdout.splitlines()] == [tmp_path] * 6
    answer = subprocess.run(
        [sys.executable, "-m", "profiler", "spaces", "--json"], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60
    )
    assert answer.returncode == 0, answer.stderr
    assert "ofa-mobilenetv3-tiny" in answer.stdout


def test_metadata_names_the_distribution_its_licence_and_its_program(wheel: Path, metadata: Message) -> None:
    assert (metadata["Name"], metadata["Version"]) == ("elastic-latency", "0.1.0")
    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata["Requires-Python"] == ">=3.10"
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith("entry_points.txt")]
        assert "profiler = profiler.cli.main:main" in archive.read(name).decode()


def test_core_asks_for_nothing_heavy_and_no_extra_for_a_gpu_build(metadata: Message) -> None:
    wanted = [str(line) for line in metadata.get_all("Requires-Dist", [])]
    names = {re.split(r"[\s<>=!~;\[(]", line)[0].lower() for line in wanted}
    core = {re.split(r"[\s<>=!~;\[(]", line)[0].lower() for line in wanted if "extra ==" not in line}
    assert core == {"numpy", "sqlalchemy", "typer", "rich", "tomli"}
    assert "xgboost-cpu" in names
    assert not names & {"xgboost", "onnxruntime-gpu", "triton"}
    assert [name for name in names if name.startswith(("nvidia", "cuda", "jax"))] == ["nvidia-ml-py"]  # small: it asks the driver
    assert not [line for line in wanted if "nvidia" in line and 'extra == "cuda"' not in line]


def test_every_extra_a_message_names_exists(metadata: Message) -> None:
    extras = set(metadata.get_all("Provides-Extra", []))
    named = set()
    for package in PACKAGES:
        for file in (ROOT / package).rglob("*.py"):
            for group in re.findall(r"elastic-latency\[([\w,-]+)\]", file.read_text(encoding="utf-8")):
                named |= set(group.split(","))
    assert named <= extras
    assert {"onnx", "litert", "train"} <= named


def test_locked_versions_are_pinned_and_name_no_host_and_no_gpu_package() -> None:
    for file in sorted((ROOT / "requirements").glob("*.txt")):
        lines = [line.partition("#")[0].strip() for line in file.read_text(encoding="utf-8").splitlines()]
        for line in filter(None, lines):
            assert "://" not in line and not line.startswith("-"), f"{file.name}: {line}"
            assert not line.startswith(("nvidia", "triton", "cuda")), f"{file.name}: {line}"
            assert "==" in line or file.name == "constraints.txt", f"{file.name}: {line}"
    lock = (ROOT / "requirements" / "lock.txt").read_text(encoding="utf-8")
    assert not re.search(r"^torch==", lock, re.MULTILINE), "PyTorch has its own file, so that its build can be chosen"
    assert (ROOT / "requirements" / "torch.txt").read_text(encoding="utf-8").startswith("torch==")
