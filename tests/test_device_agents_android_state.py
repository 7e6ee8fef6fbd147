import pytest

from device_agents.android.state import Battery, Limits, Moment, Thermal, battery, is_processor_zone, moment, screen_is_on, thermal, zone_c

DUMP = """IsStatusOverride: false
ThermalEventListeners:
\tcallbacks: 2
Thermal Status: 1
Cached temperatures:
\tTemperature{mValue=37.0, mType=0, mName=CPU0, mStatus=0}
\tTemperature{mValue=99.0, mType=3, mName=skin, mStatus=0}
HAL Ready: true
HAL connection:
\tThermalHAL 2.0 connected: yes
Current temperatures from HAL:
\tTemperature{mValue=66.5, mType=0, mName=CPU0, mStatus=0}
\tTemperature{mValue=64.0, mType=0, mName=cpu-1-0, mStatus=0}
\tTemperature{mValue=71.0, mType=1, mName=GPU0, mStatus=0}
\tTemperature{mValue=38.5, mType=3, mName=skin, mStatus=0}
\tTemperature{mValue=-99.9, mType=2, mName=battery, mStatus=0}
Current cooling devices from HAL:
\tCoolingDevice{mValue=99, mType=2, mName=thermal-cpufreq-0}
Temperature{mValue=120.0, mType=0, mName=CPU9, mStatus=0}
"""
BATTERY_DUMP = """Current Battery Service state:
  AC powered: false
  USB powered: true
  Wireless powered: false
  Max charging current: 500000
  status: 2
  health: 2
  present: true
  level: 87
  scale: 100
  voltage: 4321
  temperature: 285
  technology: Li-ion
"""
NOTHING = Moment(None, (), {}, (), None, None, Thermal(), Battery())


def test_temperatures_are_the_thermal_hals_own_and_not_the_cached_ones():
    assert thermal(DUMP) == Thermal(status=1, processor_c=66.5, skin_c=38.5)


def test_values_that_no_sensor_has_are_dropped():
    samsung = DUMP.replace("mValue=66.5", "mValue=-99.9").replace("mValue=64.0", "mValue=0.0").replace("mValue=38.5", "mValue=-274.0")
    assert thermal(samsung) == Thermal(status=1)


@pytest.mark.parametrize("changed", [DUMP.replace("HAL Ready: true", "HAL Ready: false"), DUMP.split("Current temperatures from HAL")[0]])
def test_where_the_hal_says_nothing_no_temperature_is_told(changed):
    assert thermal(changed) == Thermal(status=1)


@pytest.mark.parametrize("dump", ["", "Can't find service: thermalservice", "Thermal Status: hot", "\0\xff"])
def test_what_is_no_such_dump_says_nothing(dump):
    assert thermal(dump) == Thermal()
    assert battery(dump) == Battery()
    assert screen_is_on(dump) is None


def test_battery_is_charge_status_degrees_and_power():
    assert battery(BATTERY_DUMP) == Battery(percent=87, status="Charging", temperature_c=28.5, powered=True)
    unplugged = BATTERY_DUMP.replace("USB powered: true", "USB powered: false").replace("status: 2", "status: 3")
    assert battery(unplugged) == Battery(percent=87, status="Discharging", temperature_c=28.5, powered=False)
    assert battery(BATTERY_DUMP.replace("level: 87", "level: -1")).percent is None


def test_zones_are_in_whatever_unit_the_kernel_has():
    assert [zone_c(text) for text in ("45000", "450", "45", "-40000", "0", "", "x", "999999999")] == [45.0, 45.0, 45.0, None, None, None, None, None]
    assert [is_processor_zone(name) for name in ("cpu-0-0-usr", "soc_max", "tsens_tz_sensor3", "gpuss-0", "battery", "quiet_therm")] == [
        True, True, True, False, False, False,
    ]  # fmt: skip


def test_screen_is_told_by_wakefulness():
    assert (screen_is_on("  mWakefulness=Awake\n"), screen_is_on("  mWakefulness=Asleep\n")) == (True, False)


def test_moment_is_read_from_lines_and_leaves_out_what_is_odd():
    lines = [
        "before",
        "up 123.45",
        "cur 4 1804800",
        "cap 4 2419200",
        "cur 5 0",
        "cap 5 x",
        "cap",
        "zone 45000",
        "load 1.5",
        "memory 2048",
        "",
        "cur 9",
    ]
    found = moment(lines, Thermal(0, 50.0), Battery(80))
    assert (found.uptime_s, found.clocks_khz, dict(found.caps_khz), found.zones_c) == (123.45, (1804800,), {4: 2419200}, (45.0,))
    assert (found.load_1m, found.memory_available_kb) == (1.5, 2048)
    state = found.state(7, Limits({4: 2419200}))
    assert (state.unix_time_ns, state.frequency_khz, state.temperature_c, state.throttled) == (7, 1804800, 50.0, False)


@pytest.mark.parametrize(
    ("found", "limits", "hot"),
    [
        (NOTHING, Limits(), None),
        (NOTHING, Limits({4: 2419200}, 40.0), None),
        (moment(["cap 4 2000000"], Thermal(), Battery()), Limits({4: 2419200}), True),
        (moment(["cap 4 2419200"], Thermal(), Battery()), Limits({4: 2419200}), False),
        (moment(["cap 4 2419200"], Thermal(), Battery()), Limits({4: 2000000}), False),
        (moment([], Thermal(status=1), Battery()), Limits(), True),
        (moment([], Thermal(status=1), Battery()), Limits(highest_status=1), False),
        (moment([], Thermal(skin_c=41.0), Battery()), Limits(hottest_c=40.0), True),
        (moment([], Thermal(processor_c=80.0), Battery(temperature_c=30.0)), Limits(hottest_c=40.0), False),
        (moment([], Thermal(), Battery(temperature_c=41.0)), Limits(hottest_c=40.0), True),
    ],
)
def test_phone_is_not_itself_when_hot_by_its_word_or_ours_or_clocked_down(found, limits, hot):
    assert found.too_hot(limits) is hot
    assert found.state(0, limits).throttled is hot


def test_nothing_said_is_none_and_never_zero():
    state = NOTHING.state(1, Limits())
    assert (state.load_1m, state.frequency_khz, state.temperature_c, state.throttled, state.memory_available_kb) == (None,) * 5
