"""Devices by name."""

from __future__ import annotations

import ast
import importlib.metadata
import inspect
import os
import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest

from device_agents import TRANSPORTS, devices
from device_agents.base import DeviceAgent, UnknownDevice
from device_agents.devices import BUILT_IN_FILE, DeviceFileError, connect, find_device, list_devices, open_device, transport_class
from device_agents.local import LocalAgent
from device_agents.simulated import SimulatedAgent
from device_agents.simulated_noise import Disturbances

PHONES = ("galaxy-s7-edge", "lg-g8", "note10", "pixel1", "pixel2", "pixel4")
BOARDS = ("jetson-nano", "jetson-orin", "raspberrypi4", "raspberrypi5")


@pytest.fixture(autouse=True)
def empty_folder(tmp_path_factory, monkeypatch):
    """Stand in a folder without a file of devices."""
    monkeypatch.chdir(tmp_path_factory.mktemp("empty"))
    monkeypatch.delenv(devices.ENVIRONMENT_VARIABLE, raising=False)


def test_built_in_devices_are_phones_boards_this_machine_its_gpu_and_a_simulated_one():
    transports = {device.name: device.transport for device in list_devices()}
    expected = {"local": "local", "local-gpu": "cuda", "simulated": "simulated"}
    assert transports == expected | dict.fromkeys(PHONES, "adb") | dict.fromkeys(BOARDS, "ssh")
    assert isinstance(connect("simulated"), SimulatedAgent)
    local = connect("local")
    assert isinstance(local, LocalAgent)
    assert (local.device, local.runtime, local.threads, local.model_format) == ("local", "onnxruntime", 1, "onnx")


def test_what_is_given_wins_over_the_file():
    core = min(os.sched_getaffinity(0))
    agent = connect("local", runtime="litert", cores=[core])
    assert (agent.runtime, agent.model_format, agent.cores) == ("litert", "tflite", (core,))


def test_phones_are_measured_as_the_papers_did():
    for name in PHONES:
        settings = find_device(name).settings
        assert {key: settings[key] for key in ("runner", "cluster", "threads")} == {"runner": "benchmark_model", "cluster": "big", "threads": 1}
        assert settings["model"] and "address" not in settings
    assert len({find_device(name).settings["model"] for name in PHONES}) == len(PHONES)


def test_built_in_devices_have_only_settings_of_their_transports():
    for device in list_devices():
        assert set(device.settings) <= set(transport_class(device.transport).setting_names), device.name
        open_device(device).close()


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_every_setting_is_explained_in_the_file(transport):
    _, _, after = BUILT_IN_FILE.read_text().partition(f'# transport "{transport}"')
    words = set(re.findall(r"[a-z][a-z0-9_]*", after.partition("\n#\n")[0].partition("\n\n")[0]))
    inherited = {"cuda": {"threads", "cores", "batch", "precision", "python", "timeout_s"}}
    assert set(transport_class(transport).setting_names) - words <= inherited.get(transport, set())


def test_listing_imports_no_transport():
    code = "import sys; from device_agents.devices import list_devices; list_devices(); print(*[m for m in sys.modules if 'adb' in m or 'ssh' in m])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=BUILT_IN_FILE.parent.parent).stdout == "\n"


def test_unknown_device_lists_the_known_ones_and_where_to_declare_others():
    said = (
        r"unknown device 'pixel'; known devices: .*local, .*pixel1, .*; declare others in devices\.toml of this folder, or .*ELASTIC_LATENCY_DEVICES"
    )
    with pytest.raises(UnknownDevice, match=said):
        connect("pixel")


def test_a_users_file_adds_devices_and_replaces_built_in_ones(tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text('[fast]\ntransport = "local"\nruntime = "litert"\ncores = [0]\ntimeout_s = 9.5\n[simulated]\ntransport = "simulated"\nseed = 5\n')
    assert [device.name for device in list_devices(file)] == [*(device.name for device in list_devices()), "fast"]
    assert connect("simulated", devices_file=file).seed == 5
    fast = connect("fast", devices_file=str(file))
    assert (fast.device, fast.runtime, fast.cores, fast.timeout_s) == ("fast", "litert", (0,), 9.5)
    with pytest.raises(UnknownDevice, match=r"unknown device 'slow'; known devices: fast, "):
        connect("slow", devices_file=file)


def test_a_table_without_transport_changes_the_earlier_device_of_its_name_and_one_with_it_stands_for_itself(tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text('[simulated]\njitter = 0.5\n[local]\ntransport = "simulated"\nslow_factor = 1.0\n')
    changed, own = find_device("simulated", devices_file=file), find_device("local", devices_file=file)
    assert (changed.transport, changed.settings, changed.file) == ("simulated", {"seed": 0, "jitter": 0.5}, file)
    assert (own.transport, own.settings) == ("simulated", {"slow_factor": 1.0})


def test_a_device_based_on_another_has_its_settings_but_for_those_given(tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text('[first]\nbased_on = "simulated"\njitter = 0.5\n[second]\nbased_on = "first"\nseed = 7\n')
    assert find_device("second", devices_file=file).settings == {"seed": 7, "jitter": 0.5}
    assert find_device("simulated", devices_file=file).settings == {"seed": 0}


def test_later_files_win_the_folder_s_then_the_environment_s_then_the_one_given(tmp_path, monkeypatch):
    text = '[a]\nbased_on = "simulated"\nseed = {}\n[only-{}]\nbased_on = "simulated"\n'
    (Path.cwd() / "devices.toml").write_text(text.format(1, "folder"))
    assert find_device("a").settings == {"seed": 1}
    (tmp_path / "named.toml").write_text(text.format(2, "named"))
    monkeypatch.setenv(devices.ENVIRONMENT_VARIABLE, str(tmp_path / "named.toml"))
    assert find_device("a").settings == {"seed": 2}
    (tmp_path / "given.toml").write_text(text.format(3, "given"))
    assert find_device("a", devices_file=tmp_path / "given.toml").settings == {"seed": 3}
    assert [device.name for device in list_devices(tmp_path / "given.toml")][-3:] == ["only-folder", "only-named", "only-given"]


def test_a_devices_toml_of_the_folder_that_is_about_something_else_is_left_alone():
    file = Path.cwd() / "devices.toml"
    known = list_devices()
    for text in ("[mouse]\nbuttons = 3\n", "not TOML", "title = 'a'\n"):
        file.write_text(text)
        assert list_devices() == known
    file.write_text('[mouse]\nbuttons = 3\n[mine]\nbased_on = "local"\n')
    with pytest.raises(DeviceFileError, match=r"device 'mouse' in devices\.toml has no transport"):
        list_devices()


def test_a_file_that_the_environment_names_must_be_there(monkeypatch):
    monkeypatch.setenv(devices.ENVIRONMENT_VARIABLE, "not-there.toml")
    with pytest.raises(
        FileNotFoundError, match=r"devices file '.*not-there\.toml' was not found; expected the file that --devices or ELASTIC_LATENCY_DEVICES names"
    ):
        list_devices()


def test_the_package_s_own_file_can_be_the_folder_s(monkeypatch):
    before = [(device.name, device.settings) for device in list_devices()]
    monkeypatch.chdir(BUILT_IN_FILE.parent)
    assert [(device.name, device.settings) for device in list_devices()] == before


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[a]\ntransport = "local"\nspeed = 1\n', "device 'a' in .* has the unknown key 'speed'; keys of transport 'local': runtime, threads"),
        ('[a]\ntransport = "telepathy"\n', "device 'a' in .*: unknown transport 'telepathy'; known transports: adb, cuda, local"),
        ("[a]\nruntime = 'onnxruntime'\n", "device 'a' in .* has no transport"),
        ("a = 1\n", "device 'a' in .* has no transport"),
        ('[a]\nbased_on = "b"\n[b]\nbased_on = "local"\n', "device 'a' in .* is based_on 'b'; expected a device declared before"),
        ('[a]\nbased_on = ["local"]\n', "device 'a' in .* is based_on "),
        ('[a]\nbased_on = "local"\ntransport = "local"\n', "device 'a' in .* is based_on 'local'; .* and no transport"),
        ("[simulated]\nspeed = 1\n", "device 'simulated' in .* has the unknown key 'speed'; keys of transport 'simulated': seed"),
        ('["a;reboot"]\nbased_on = "local"\n', "'a;reboot' in .* is no name of a device"),
        ('["../a"]\nbased_on = "local"\n', "'../a' in .* is no name of a device"),
        ("[a\n", "mine.toml is not TOML"),
    ],
)
def test_mistakes_in_a_file_are_errors_that_name_it(tmp_path, text, message):
    file = tmp_path / "mine.toml"
    file.write_text(text)
    with pytest.raises(DeviceFileError, match=message):
        list_devices(file)


def test_a_setting_that_the_transport_lacks_is_refused():
    with pytest.raises(ValueError, match="threads 2 was given for device 'simulated', whose transport 'simulated' has only the settings seed"):
        connect("simulated", threads=2)


def test_settings_given_win_over_the_file():
    device = find_device("simulated", {"seed": 9, "jitter": 0.25})
    assert (device.settings, open_device(device).seed) == ({"seed": 9, "jitter": 0.25}, 9)
    assert connect("simulated", settings={"seed": 8}).seed == 8


def test_every_transport_is_an_agent_whose_settings_its_constructor_takes():
    for name in TRANSPORTS:
        agent = transport_class(name)
        assert issubclass(agent, DeviceAgent)
        taken = [parameter for parameter in inspect.signature(agent).parameters.values() if parameter.kind is parameter.KEYWORD_ONLY]
        assert set(agent.setting_names) <= {parameter.name for parameter in taken} | {f.name for f in fields(Disturbances)}


def test_transports_come_through_the_entry_point_group_too(monkeypatch):
    point = importlib.metadata.EntryPoint("telepathy", "device_agents.simulated:SimulatedAgent", devices.ENTRY_POINT_GROUP)
    points = importlib.metadata.EntryPoints([point])
    monkeypatch.setattr(devices.metadata, "entry_points", lambda group: points.select(group=group))
    assert transport_class("telepathy") is SimulatedAgent


def told_in_the_code():
    """Return every text of the device agents, the farm and the collector, "…" for what is filled in."""
    root = BUILT_IN_FILE.parent.parent
    found = []
    for file in [*root.glob("device_agents/**/*.py"), *root.glob("profiler/**/*.py"), *root.glob("luts/*.py")]:
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.JoinedStr):
                found.append("".join(part.value if isinstance(part, ast.Constant) else "…" for part in node.values))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(node.value)
    return found


def test_every_failure_that_the_document_explains_is_one_that_the_code_tells():
    document = (BUILT_IN_FILE.parent.parent / "docs" / "devices.md").read_text()
    told = told_in_the_code()
    rows = [line.split("|")[1] for line in document.partition("## What goes wrong")[2].splitlines() if line.startswith("| ")]
    messages = [message for row in rows for message in re.findall("`([^`]+)`", row)]
    assert len(messages) > 60
    untold = []
    for message in messages:
        pieces = [piece for piece in (part.strip(" ,;()") for part in message.split("…")) if len(piece) > 3]
        if not all(any(piece in text for text in told) for piece in pieces):
            untold.append(message)
    assert untold == []


def test_cores_and_cluster_are_two_ways_of_saying_one_thing_and_the_later_one_wins(tmp_path):
    assert connect("pixel1", cores=[4]).cores == (4,)
    assert connect("pixel1", settings={"cores": []}).cores == ()
    file = tmp_path / "devices.toml"
    file.write_text('[mine]\nbased_on = "pixel1"\ncores = [4, 5]\n')
    assert connect("mine", devices_file=file).cores == (4, 5)
    again = connect("mine", devices_file=file, settings={"cluster": "little"})
    assert (again.cores, again.cluster) == (None, "little")
    with pytest.raises(ValueError, match="give one of them"):
        connect("pixel1", settings={"cores": [1], "cluster": "big"})
