"""Devices by name."""

from __future__ import annotations

import importlib.metadata
import inspect
import os
from dataclasses import fields

import pytest

from device_agents import TRANSPORTS, devices
from device_agents.base import DeviceAgent, UnknownDevice
from device_agents.devices import DeviceFileError, connect, list_devices, transport_class
from device_agents.local import LocalAgent
from device_agents.simulated import SimulatedAgent
from device_agents.simulated_noise import Disturbances


def test_built_in_devices_are_this_machine_and_a_simulated_one():
    assert [(device.name, device.transport) for device in list_devices()] == [("local", "local"), ("simulated", "simulated")]
    assert isinstance(connect("simulated"), SimulatedAgent)
    local = connect("local")
    assert isinstance(local, LocalAgent)
    assert (local.device, local.runtime, local.threads, local.model_format) == ("local", "onnxruntime", 1, "onnx")


def test_what_is_given_wins_over_the_file():
    core = min(os.sched_getaffinity(0))
    agent = connect("local", runtime="litert", cores=[core])
    assert (agent.runtime, agent.model_format, agent.cores) == ("litert", "tflite", (core,))


def test_unknown_device_lists_the_known_ones_and_the_file():
    with pytest.raises(UnknownDevice, match=r"unknown device 'pixel'; known devices: local, simulated; declare others in .*devices\.toml"):
        connect("pixel")


def test_a_users_file_adds_devices_and_replaces_built_in_ones(tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text('[fast]\ntransport = "local"\nruntime = "litert"\ncores = [0]\ntimeout_s = 9.5\n[simulated]\ntransport = "simulated"\nseed = 5\n')
    assert [device.name for device in list_devices(file)] == ["local", "simulated", "fast"]
    assert connect("simulated", devices_file=file).seed == 5
    fast = connect("fast", devices_file=str(file))
    assert (fast.device, fast.runtime, fast.cores, fast.timeout_s) == ("fast", "litert", (0,), 9.5)
    with pytest.raises(UnknownDevice, match=r"known devices: fast, local, simulated; declare others in .*mine\.toml or .*devices\.toml"):
        connect("slow", devices_file=file)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[a]\ntransport = "local"\nspeed = 1\n', "device 'a' in .* has the unknown key 'speed'; known keys: transport, runtime, threads"),
        ('[a]\ntransport = "telepathy"\n', "device 'a' in .*: unknown transport 'telepathy'; known transports: local, simulated"),
        ("[a]\nruntime = 'onnxruntime'\n", "device 'a' in .* has no transport"),
        ("a = 1\n", "device 'a' in .* has no transport"),
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
