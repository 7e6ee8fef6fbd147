import pytest

from device_agents.android.settings import fixed_performance, refused, stay_awake


def test_fixed_performance_mode_is_set_and_set_back():
    change = fixed_performance()
    assert change.apply == "cmd power set-fixed-performance-mode-enabled true"
    assert change.restore == "cmd power set-fixed-performance-mode-enabled false"


@pytest.mark.parametrize(
    ("before", "restore"),
    [
        ("0\n", "settings put global stay_on_while_plugged_in 0"),
        ("3", "settings put global stay_on_while_plugged_in 3"),
        ("null\n", "settings delete global stay_on_while_plugged_in"),
        ("$(reboot)", "settings delete global stay_on_while_plugged_in"),
    ],
)
def test_screen_setting_is_set_back_to_what_it_was(before, restore):
    assert stay_awake(before).restore == restore


@pytest.mark.parametrize(
    ("code", "said", "is_refused"),
    [
        (0, "", False),
        (255, "", True),
        (0, "Unknown command: set-fixed-performance-mode-enabled", True),
        (127, "cmd: not found", True),
        (0, "Success", False),
    ],
)
def test_phone_that_lacks_a_setting_is_recognised(code, said, is_refused):
    assert refused(code, said) is is_refused
