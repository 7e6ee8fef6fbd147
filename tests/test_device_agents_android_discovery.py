"""Which devices are attached, and that an address opens the one that is meant or says why not."""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from adb_double import AdbDouble
from adb_shell.exceptions import UsbReadFailedError
from adb_shell.transport.base_transport import BaseTransport
from android_peers import FOLDER, AdbServer, running_adb_server, server_double
from real_adbd import write_key

from device_agents.android import adb_server, adb_shell_device, discovery
from device_agents.android.adb_server import Listed, NoServer, Server
from device_agents.android.adb_server_transport import AdbServerTransport
from device_agents.android.adb_shell_transport import AdbShellTransport
from device_agents.android.transport import ConnectionLost
from device_agents.base import DeviceError, DeviceUnreachable, RuntimeMissing

NOWHERE = Server("127.0.0.1", 1)


class CableDouble(BaseTransport):  # type: ignore[misc]
    """A test double of adb-shell's USB transport: takes a thousand bytes at a time, and ends at an adbd double."""

    def __init__(self, serial: str, port_path: list[int], double: AdbDouble | None = None, refuses: type[Exception] | None = None) -> None:
        self.serial_number, self.port_path = serial, port_path
        self._double, self._refuses = double, refuses
        self._socket: socket.socket | None = None

    def connect(self, transport_timeout_s: float) -> None:
        if self._refuses is not None:
            raise self._refuses
        assert self._double is not None
        self._socket = socket.create_connection((self._double.host, self._double.port), transport_timeout_s)

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()

    def bulk_read(self, numbytes: int, transport_timeout_s: float) -> bytes:
        assert self._socket is not None
        self._socket.settimeout(transport_timeout_s)
        data = self._socket.recv(numbytes)
        if not data:
            raise UsbReadFailedError("Could not receive data from the cable", None)
        return data

    def bulk_write(self, data: bytes, transport_timeout_s: float) -> int:
        assert self._socket is not None
        self._socket.settimeout(transport_timeout_s)
        return self._socket.send(data[:1000])


@pytest.fixture
def cables(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What is attached on cables."""
    found: list[Any] = []
    monkeypatch.setattr(adb_shell_device, "_attached", lambda: found)
    return found


@pytest.fixture
def key(tmp_path: Path) -> Path:
    return write_key(tmp_path / "adbkey")


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (
            "FA6A70300001           device usb:1-2 product:sailfish model:Pixel device:sailfish transport_id:1",
            Listed("FA6A70300001", "device", {"usb": "1-2", "product": "sailfish", "model": "Pixel", "device": "sailfish", "transport_id": "1"}),
        ),
        ("127.0.0.1:42237        unauthorized transport_id:2", Listed("127.0.0.1:42237", "unauthorized", {"transport_id": "2"})),
        ("emulator-5554\toffline", Listed("emulator-5554", "offline", {})),
        ("", None),
        ("alone", None),
    ],
)
def test_a_line_of_the_server_is_a_device(line: str, expected: Listed | None) -> None:
    assert adb_server.listed(line) == expected


def test_a_device_without_permissions_keeps_the_reason_apart_from_its_details() -> None:
    found = adb_server.listed("XYZ  no permissions (user in plugdev group; are your udev rules wrong?); see [http://a.b/c] usb:1-4 transport_id:3")
    assert found is not None
    assert found.state.startswith("no permissions")
    assert (found.details["usb"], found.details["transport_id"]) == ("1-4", "3")


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, Server("127.0.0.1", 5037)),
        ({"ANDROID_ADB_SERVER_PORT": "5099"}, Server("127.0.0.1", 5099)),
        ({"ANDROID_ADB_SERVER_PORT": "many"}, Server("127.0.0.1", 5037)),
        ({"ANDROID_ADB_SERVER_ADDRESS": "lab", "ANDROID_ADB_SERVER_PORT": "5"}, Server("lab", 5)),
        ({"ADB_SERVER_SOCKET": "tcp:lab:6000", "ANDROID_ADB_SERVER_PORT": "5"}, Server("lab", 6000)),
        ({"ADB_SERVER_SOCKET": "tcp:6000"}, Server("127.0.0.1", 6000)),
    ],
)
def test_the_server_is_where_adb_looks_for_it(environment: dict[str, str], expected: Server) -> None:
    assert adb_server.server(environment) == expected


def test_where_no_server_runs_none_is_started_and_it_is_said(cables: list[Any]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        nobody = Server("127.0.0.1", probe.getsockname()[1])
    found = discovery.attached(nobody)
    assert found.devices == ()
    assert "no adb server answers" in found.not_looked[0]
    for call in (
        lambda: AdbServerTransport("serial", server=nobody).shell("true"),
        lambda: AdbServerTransport("serial", server=nobody).push(b"", "/a"),
    ):
        with pytest.raises(NoServer, match="no adb server answers at 127.0.0.1:.*; start it with `adb start-server`"):
            call()
    with pytest.raises(NoServer):
        nobody.version()


@pytest.mark.parametrize("answer", ["raw HTTP/1.1 400 Bad Request", "raw ", "raw FAIL0004nope", "raw OKAYzzzz"])
def test_what_is_no_adb_server_is_said(answer: str) -> None:
    with server_double(version=answer, devices=answer) as server:
        for ask in (server.version, server.devices):
            with pytest.raises(NoServer, match="no adb server answers"):
                ask()


def test_the_devices_of_a_server_and_those_on_cables_are_found_once(cables: list[Any]) -> None:
    cables += [CableDouble("FA6A1", [1, 2]), CableDouble("FA6A2", [1, 3, 4])]
    with server_double(devices="FA6A1 device usb:1-2 model:Pixel\nFA6A3 unauthorized usb:1-9\n") as server:
        found = discovery.attached(server)
    assert [(device.serial, device.state, device.address) for device in found.devices] == [
        ("FA6A1", "device", "server:FA6A1"),
        ("FA6A3", "unauthorized", "server:FA6A3"),
        ("FA6A2", "device", "usb:FA6A2"),
    ]
    assert found.devices[2].description == "FA6A2 (port 1-3.4)"
    assert found.not_looked == ()


def test_a_machine_without_libusb_says_that_it_did_not_look(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "adb_shell.transport.usb_transport", None)
    assert any("libusb" in reason and "elastic-latency[usb]" in reason for reason in discovery.attached(NOWHERE).not_looked)
    with pytest.raises(RuntimeMissing, match="'adb-shell.usb.', which .* install it with pip install 'elastic-latency.usb.'"):
        discovery.open_transport("usb:FA6A1").shell("true")


def test_a_computer_without_adb_shell_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "adb_shell", None)
    monkeypatch.delitem(sys.modules, "device_agents.android.adb_shell_device")
    monkeypatch.delattr("device_agents.android.adb_shell_device")
    with pytest.raises(RuntimeMissing, match="pip install 'elastic-latency.adb.'"):
        discovery.open_transport("tcp:127.0.0.1:1", tmp_path / "key").shell("true")


@pytest.mark.parametrize(
    "address", ["", "tcp:", "usb:", "server:", "a b", "FA6A\n", "tcp:host:port", "tcp:host:0", "tcp:host:70000", "tcp:a b:5", "tcp:::1:5555"]
)
def test_what_is_no_address_is_refused(address: str, cables: list[Any]) -> None:
    with pytest.raises(DeviceError, match="is no address of an Android device"):
        discovery.open_transport(address, server=NOWHERE)


@pytest.mark.parametrize(
    ("address", "kind", "serial"),
    [
        ("tcp:192.168.1.20:5556", AdbShellTransport, "192.168.1.20:5556"),
        ("tcp:phone.local", AdbShellTransport, "phone.local:5555"),
        ("tcp:[fe80::1]:5555", AdbShellTransport, "fe80::1:5555"),
        ("192.168.1.20:5556", AdbShellTransport, "192.168.1.20:5556"),
        ("usb:FA6A1", AdbShellTransport, "FA6A1"),
        ("server:FA6A1", AdbServerTransport, "FA6A1"),
        ("server:usb:1-2", AdbServerTransport, "usb:1-2"),
    ],
)
def test_an_address_names_the_way(address: str, kind: type, serial: str, cables: list[Any]) -> None:
    transport = discovery.open_transport(address, server=NOWHERE)
    assert (type(transport), transport.serial) == (kind, serial)


def test_a_serial_alone_is_looked_for(cables: list[Any]) -> None:
    cables.append(CableDouble("FA6A2", [1, 3]))
    with server_double(devices="FA6A1 device usb:1-2\n192.168.1.20:5555 device\n") as server:
        assert isinstance(discovery.open_transport("FA6A1", server=server), AdbServerTransport)
        assert isinstance(discovery.open_transport("192.168.1.20:5555", server=server), AdbServerTransport)
        assert isinstance(discovery.open_transport("FA6A2", server=server), AdbShellTransport)
        with pytest.raises(
            DeviceUnreachable, match="no Android device with the serial 'FA6' is attached; attached are: FA6A1 .device., .*FA6A2 .device."
        ):
            discovery.open_transport("FA6", server=server)


def test_two_devices_of_one_serial_are_both_named_and_neither_is_taken(cables: list[Any]) -> None:
    with (
        server_double(devices="0123456789ABCDEF device usb:1-2 model:A\n0123456789ABCDEF device usb:1-3 model:B\n") as server,
        pytest.raises(DeviceUnreachable, match="several .* serial '0123456789ABCDEF': .*usb:1-2, model:A.* and .*usb:1-3, model:B"),
    ):
        discovery.open_transport("0123456789ABCDEF", server=server)
    cables += [CableDouble("0123456789ABCDEF", [1, 2]), CableDouble("0123456789ABCDEF", [1, 3])]
    with pytest.raises(DeviceUnreachable, match="several .* serial '0123456789ABCDEF': .*port 1-2.* and .*port 1-3"):
        discovery.open_transport("0123456789ABCDEF", server=NOWHERE)


def test_two_cables_of_one_serial_are_refused_when_one_is_meant_by_usb_too(cables: list[Any], key: Path) -> None:
    cables += [CableDouble("0123", [1, 2]), CableDouble("0123", [1, 3])]
    with pytest.raises(DeviceUnreachable, match="several USB devices have the serial '0123': port 1-2 and port 1-3"):
        discovery.open_transport("usb:0123", key).shell("true")


def test_a_device_on_a_cable_takes_commands_and_files(cables: list[Any], key: Path, tmp_path: Path) -> None:
    (tmp_path / "device").mkdir()
    with AdbDouble(tmp_path / "device", [Path(f"{key}.pub").read_bytes()]) as double:
        cables += [CableDouble("other", [1, 1]), CableDouble("FA6A1", [1, 2], double)]
        transport = discovery.open_transport("usb:FA6A1", key)
        assert transport.shell("echo out; exit 3").exit_code == 3
        transport.push(b"model" * 50_000, f"{FOLDER}/model")
        assert transport.pull(f"{FOLDER}/model") == b"model" * 50_000
        double.drop()
        with pytest.raises(ConnectionLost, match="the connection to device 'FA6A1' broke"):
            transport.shell("true")
        assert transport.run(["echo", "back"]) == "back\n"
        transport.close()


class USBErrorBusy(Exception):
    """What libusb says of a device that another program has claimed."""


class USBErrorAccess(Exception):
    """What libusb says of a device that this user may not open."""


@pytest.mark.parametrize(("error", "advice"), [(USBErrorBusy, "adb kill-server"), (USBErrorAccess, "udev rule")])
def test_a_cable_that_cannot_be_opened_says_why(cables: list[Any], key: Path, error: type[Exception], advice: str) -> None:
    cables.append(CableDouble("FA6A1", [1, 2], refuses=error))
    with pytest.raises(DeviceUnreachable, match=advice):
        discovery.open_transport("usb:FA6A1", key).shell("true")


def test_a_serial_that_is_on_no_cable_is_said(cables: list[Any], key: Path) -> None:
    with pytest.raises(DeviceUnreachable, match="no USB device with the serial 'FA6A1' has USB debugging on"):
        discovery.open_transport("usb:FA6A1", key).shell("true")


def test_a_program_that_is_missing_is_one_sentence() -> None:
    with (
        server_double(version="0029") as server,
        pytest.raises(DeviceUnreachable, match="the program '/no/adb' cannot be run .No such file.*; install it"),
    ):
        AdbServerTransport("FA6A1", "/no/adb", server).shell("true")


def test_a_server_of_another_version_is_left_alone(tmp_path: Path) -> None:
    program = tmp_path / "adb"
    program.write_text(f"#!/bin/sh\necho \"$@\" >>{tmp_path}/called\necho 'Android Debug Bridge version 1.0.41'\n")
    program.chmod(0o755)
    with (
        server_double(version="0028") as server,
        pytest.raises(DeviceUnreachable, match="speaks version 41 of adb and the server at .* version 40, which it would kill"),
    ):
        AdbServerTransport("FA6A1", str(program), server).shell("true")
    assert "shell" not in (tmp_path / "called").read_text()


@pytest.fixture(scope="module")
def real_server() -> Iterator[AdbServer]:
    with running_adb_server() as server:
        yield server


def test_a_real_server_lists_what_it_holds_and_is_told_apart(real_server: AdbServer, tmp_path: Path, cables: list[Any]) -> None:
    (tmp_path / "device").mkdir()
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "getprop").write_text("#!/bin/sh\n[ $1 = ro.product.model ] && echo 'Pixel 1' || echo Google\n")
    (tmp_path / "bin" / "getprop").chmod(0o755)
    with AdbDouble(tmp_path / "device", model="Pixel_1") as first, AdbDouble(tmp_path / "device", model="Pixel_1") as second:
        for double in (first, second):
            real_server.attach(double.serial)
        found = discovery.attached(real_server.address)
        assert {(device.serial, device.state) for device in found.devices} == {(first.serial, "device"), (second.serial, "device")}
        transport = discovery.open_transport(first.serial, server=real_server.address)
        assert isinstance(transport, AdbServerTransport)
        assert discovery.model(transport) == "Google Pixel 1"
        with pytest.raises(DeviceUnreachable, match="several devices are called 'model:Pixel_1': .* and ") as error:
            discovery.open_transport("server:model:Pixel_1", server=real_server.address).shell("true")
        assert first.serial in str(error.value)
        assert second.serial in str(error.value)
        with pytest.raises(DeviceUnreachable, match="the adb server has no device 'nobody'; attached are: 127.0.0.1"):
            discovery.open_transport("server:nobody", server=real_server.address).push(b"", "/data/local/tmp/x")
        for double in (first, second):
            real_server.run("disconnect", double.serial)


def test_a_device_of_the_network_that_the_server_does_not_hold_is_connected(real_server: AdbServer, tmp_path: Path) -> None:
    with AdbDouble(tmp_path) as double:
        transport = discovery.open_transport(f"server:{double.serial}", server=real_server.address)
        assert transport.run(["echo", "here"]) == "here\n"
        real_server.run("disconnect", double.serial)
