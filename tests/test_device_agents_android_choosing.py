"""Which phone a device means, over a double of discovery: phones that say their model, or do not answer."""

import pytest

from device_agents.android import discovery
from device_agents.android.choosing import is_of_model, open_phone
from device_agents.android.discovery import Attached, Found
from device_agents.android.transport import Unauthorised
from device_agents.base import DeviceError, DeviceUnreachable


class Opened:
    def __init__(self, address: str) -> None:
        self.address, self.serial, self.closed = address, address, False

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def attach(monkeypatch):
    """Attach phones: serial → what it says it is; None does not answer."""

    def attach(**phones):
        def model(transport):
            said = phones[transport.address]
            if said is None:
                raise Unauthorised("not yet")
            return said

        monkeypatch.setattr(discovery, "open_transport", lambda address, key=None: Opened(address))
        monkeypatch.setattr(discovery, "model", model)
        states = {serial: "unauthorized" if said is None else "device" for serial, said in phones.items()}
        return Found(tuple(Attached(serial, state, serial, serial) for serial, state in states.items()))

    return attach


def test_only_phone_of_a_model_is_taken(attach):
    found = attach(A="Google Pixel", B="Google Pixel 2", C="samsung SM-G935F")
    assert open_phone("pixel1", None, "Pixel", None, found).serial == "A"
    assert open_phone("galaxy-s7-edge", None, "SM-G935*", None, found).serial == "C"


def test_two_phones_of_a_model_are_an_error_naming_both(attach):
    with pytest.raises(DeviceUnreachable, match="any phone of model 'Pixel', and A and B are; set `address`"):
        open_phone("pixel1", None, "Pixel", None, attach(A="Google Pixel", B="Google Pixel"))


def test_no_phone_of_a_model_is_an_error_naming_what_is_attached(attach):
    with pytest.raises(DeviceUnreachable, match=r"no phone of model 'Pixel' .* attached are: B \(Google Pixel 2\)"):
        open_phone("pixel1", None, "Pixel", None, attach(B="Google Pixel 2"))
    with pytest.raises(DeviceUnreachable, match="attached are: none; plug it in"):
        open_phone("pixel1", None, "Pixel", None, attach())


def test_phone_that_does_not_accept_this_computer_is_told(attach):
    with pytest.raises(Unauthorised, match="phone 'A' does not accept this computer yet; unlock it"):
        open_phone("pixel1", None, "Pixel", None, attach(A=None))


def test_address_wins_and_neither_is_an_error(attach):
    found = attach(A="Google Pixel 2")
    assert open_phone("pixel1", "A", "Pixel", None, found).serial == "A"
    with pytest.raises(DeviceError, match="neither address nor model"):
        open_phone("pixel1", None, None, None, found)


@pytest.mark.parametrize(
    ("own", "pattern", "fits"),
    [
        ("Google Pixel", "pixel", True),
        ("Google Pixel 2", "Pixel", False),
        ("samsung SM-G935F", "SM-G935*", True),
        ("", "*", False),
        ("Pixel", "Pixel", True),
    ],
)
def test_models_are_compared_whole(own, pattern, fits):
    assert is_of_model(own, pattern) is fits
