"""The shape of the tree: names of files, public names, registries, and words that have no place in it."""

from __future__ import annotations

import ast
import importlib
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("device_agents", "luts", "predictors", "profiler", "search", "supernets")
SOURCES = sorted(file for package in PACKAGES for file in (ROOT / package).rglob("*.py"))
NOUN_IS_MISSING = {"utils", "util", "helpers", "helper", "common", "misc", "base_utils", "tools"}

# Places of one machine, and hosts of package registries: brackets keep the patterns from finding themselves.
NOT_IN_THE_PROJECT = re.compile(
    r"/[r]oot/|/[h]ome/|/[U]sers/|/[w]ork/|/[o]pt/wheels|[.]librar[y]/|py[p]i[.]o|python[h]osted|np[m]js[.]|deb[.]deb[i]an|git[h]ub[.]com/[a]stral",
    re.IGNORECASE,
)
TEXT = {".py", ".md", ".toml", ".txt", ".html", ".css", ".js", ".sh", ".json", ".yaml", ".yml", ".cfg", ".csv", ""}


def module_name(file: Path) -> str:
    parts = file.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def files_of_the_project() -> list[Path]:
    """Return the files git knows or would add, or all but caches where there is no git."""
    try:
        listed = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=ROOT, capture_output=True, check=True, text=True
        ).stdout
        return [ROOT / name for name in listed.split("\0") if name and (ROOT / name).is_file()]
    except (OSError, subprocess.CalledProcessError):
        return [file for file in ROOT.rglob("*") if file.is_file() and not any(part.startswith((".venv", "__pycache__")) for part in file.parts)]


def test_no_file_carries_the_name_of_a_standard_library_module() -> None:
    found = [str(file.relative_to(ROOT)) for file in SOURCES if file.stem in sys.stdlib_module_names and not file.stem.startswith("__")]
    assert found == []


def test_no_package_carries_the_name_of_a_standard_library_module() -> None:
    folders = {folder.name for file in SOURCES for folder in file.relative_to(ROOT).parents if folder.name}
    assert sorted(folders & set(sys.stdlib_module_names)) == []


def test_no_file_is_a_drawer_for_odds_and_ends() -> None:
    assert [str(file.relative_to(ROOT)) for file in SOURCES if file.stem in NOUN_IS_MISSING] == []


@pytest.mark.parametrize("package", PACKAGES)
def test_package_is_typed_and_every_folder_of_modules_in_it_is_a_package(package: str) -> None:
    assert (ROOT / package / "py.typed").is_file()
    folders = {file.parent for file in SOURCES if file.is_relative_to(ROOT / package)}
    assert [str(folder.relative_to(ROOT)) for folder in sorted(folders) if not (folder / "__init__.py").is_file()] == []


def test_every_module_says_what_is_in_it_and_postpones_annotations() -> None:
    for file in SOURCES:
        tree = ast.parse(file.read_text(encoding="utf-8"))
        assert ast.get_docstring(tree), file
        future = [node for node in tree.body if isinstance(node, ast.ImportFrom) and node.module == "__future__"]
        defines = any(isinstance(node, (ast.FunctionDef, ast.ClassDef)) for node in tree.body)
        assert future or not defines, f"{file} lacks `from __future__ import annotations`"


@pytest.mark.parametrize("package", PACKAGES)
def test_all_of_a_package_is_sorted_and_complete(package: str) -> None:
    module = importlib.import_module(package)
    public = sorted(name for name, value in vars(module).items() if not name.startswith("_") and own(value, package))
    assert list(getattr(module, "__all__", [])) == public


def own(value: object, package: str) -> bool:
    """Is it defined in the package (or plain data), and no module?"""
    if isinstance(value, ModuleType) or repr(value).startswith("_Feature("):
        return False
    return getattr(value, "__module__", package).partition(".")[0] == package


@pytest.mark.parametrize("package", PACKAGES)
def test_no_public_name_hides_a_module_of_its_package(package: str) -> None:
    for file in (ROOT / package).rglob("__init__.py"):
        module = importlib.import_module(module_name(file))
        modules = {path.stem for path in file.parent.glob("*.py")} | {path.parent.name for path in file.parent.glob("*/__init__.py")}
        hidden = {name for name, value in vars(module).items() if name in modules and not isinstance(value, ModuleType)}
        assert hidden == set(), module.__name__


def registries() -> list[tuple[str, str, dict[str, str]]]:
    """Return (module, name, registry) of every dictionary of name → "module:attribute" in the packages."""
    found = []
    for file in SOURCES:
        for node in ast.parse(file.read_text(encoding="utf-8")).body:
            value = getattr(node, "value", None)
            if isinstance(node, (ast.Assign, ast.AnnAssign)) and isinstance(value, ast.Dict) and value.values:
                texts = [entry.value for entry in value.values if isinstance(entry, ast.Constant) and isinstance(entry.value, str)]
                if len(texts) == len(value.values) and all(re.fullmatch(r"\.?[a-z_][\w.]*:\w+", text) for text in texts):
                    target = node.target if isinstance(node, ast.AnnAssign) else node.targets[0]
                    found.append((module_name(file), ast.unparse(target), ast.literal_eval(value)))
    return found


@pytest.mark.parametrize(("module", "name", "registry"), registries(), ids=lambda value: value if isinstance(value, str) else "")
def test_registry_names_things_that_exist(module: str, name: str, registry: dict[str, str]) -> None:
    for target in registry.values():
        where, _, attribute = target.partition(":")
        package = module if (ROOT / module.replace(".", "/")).is_dir() else module.rpartition(".")[0]
        assert hasattr(importlib.import_module(where, package), attribute), target


def test_registries_are_found() -> None:
    assert "supernets.spaces" in {module for module, _, _ in registries()}


def test_no_file_names_a_place_of_one_machine_or_a_registry_host() -> None:
    found = []
    for file in files_of_the_project():
        if file.suffix in TEXT and file.name != "LICENSE":
            text = file.read_text(encoding="utf-8", errors="replace")
            found += [f"{file.relative_to(ROOT)}: {match.group()}" for match in NOT_IN_THE_PROJECT.finditer(text)]
    assert found == []
