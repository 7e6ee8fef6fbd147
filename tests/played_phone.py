"""A phone for quick tests: a double of the transport (this machine's shell), folders and programs of a test's own in place of Android's."""

from __future__ import annotations

import time
from pathlib import Path

from android_runner_builds import model, runner
from local_shell_transport import LocalShellTransport

from device_agents.adb import AdbAgent
from device_agents.base import VisitPlan

MODELS = {"one": model(0.2), "two": model(0.4)}
THERMAL = """IsStatusOverride: false
Thermal Status: {status}
HAL Ready: true
Current temperatures from HAL:
\tTemperature{{mValue=41.5, mType=0, mName=CPU0, mStatus=0}}
\tTemperature{{mValue={skin}, mType=3, mName=skin, mStatus=0}}
Current cooling devices from HAL:
"""
BATTERY = "  USB powered: true\n  status: 2\n  level: {level}\n  temperature: 250\n"


def plans(count: int, cycles: int = 3) -> list[VisitPlan]:
    return [VisitPlan(f"visit {number}", (("one", "two")[number % 2],), cycles, 1) for number in range(count)]


class PlayedPhone:
    """The pretended phone: folders and programs of a test's own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.transport = LocalShellTransport(folder / "bin")
        self.device_folder = folder / "device" / "elastic-latency"
        self.log = folder / "settings.log"
        self.says("thermal", THERMAL.format(status=0, skin=30.0))
        self.says("battery", BATTERY.format(level=80))
        self.says("power", "  mWakefulness=Awake\n")
        self.transport.program("dumpsys", f'cat "{folder}/says.${{1%service}}"')
        self.transport.program("cmd", f'echo "cmd $*" >>"{self.log}"')
        self.transport.program("settings", f'echo "settings $*" >>"{self.log}"; [ "$1" = get ] && echo 3')
        self.transport.program("getprop", "case $1 in ro.product.model) echo Pixel;; ro.product.cpu.abilist) echo arm64-v8a;; esac")

    def says(self, service: str, text: str) -> None:
        unfinished = self.folder / ".says"
        unfinished.write_text(text)
        unfinished.replace(self.folder / f"says.{service}")

    def agent(self, fault: str = "", **settings) -> AdbAgent:
        chosen = {
            "folder": str(self.device_folder),
            "cores": [],
            "least_s": 0.0,
            "warmup_s": 0.0,
            "runner": str(runner(self.folder, fault)),
            "sleep": lambda s: time.sleep(min(s, 0.05)),
        }
        return AdbAgent("pixel1", transport=self.transport, **{**chosen, **settings})

    @property
    def set_and_set_back(self) -> list[str]:
        return self.log.read_text().splitlines() if self.log.exists() else []

    def assert_left_empty(self) -> None:
        for _ in range(50):
            if not list(self.device_folder.rglob("*")):
                return
            time.sleep(0.05)
        raise AssertionError(sorted(map(str, self.device_folder.rglob("*"))))
