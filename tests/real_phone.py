"""A phone that a real adbd plays, as far as measuring sees it: what its services say, a runner that can be made to fail, and what is left on it."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from android_runner_builds import runner
from real_adbd import RealAdbd

from device_agents.adb import FOLDER, AdbAgent
from device_agents.android.discovery import open_transport

TMP = "/data/local/tmp"
FAULTS = ("_crash", "_exit3", "_fallback", "_hang", "_noisy", "_old", "_rubbish", "_truncated", "_zero")
NAMES = ("benchmark_model", "program", "program_hang")  # of processes of runners
QUICK: dict[str, Any] = {"cores": [], "least_s": 0.0, "warmup_s": 0.0}
OTHER_MACHINE = (0xBEEF).to_bytes(2, "little")  # in an ELF file's header: one that nothing runs
DUMPSYS = f"""#!/system/bin/sh
case $1 in
thermalservice) echo "Thermal Status: $(cat {TMP}/thermal)"; echo "HAL Ready: true"; echo "Current temperatures from HAL:"
    echo "\tTemperature{{mValue=41.5, mType=0, mName=CPU0, mStatus=0}}" ;;
battery) echo "  USB powered: true"; echo "  status: 2"; echo "  level: $(cat {TMP}/level)"; echo "  temperature: 250" ;;
power) echo "  mWakefulness=Awake" ;;
esac
"""
# Counts its starts. From the start on that the file `fault` names first, it is the program with the fault that the file names second.
RUNNER = f"""#!/system/bin/sh
cd {TMP}/programs
at=; fault=
if [ "$1" != --help ]; then
    echo "$1" >>starts
    {{ read -r at fault <fault; }} 2>/dev/null
    [ -z "$at" ] || [ $(wc -l <starts) -ge "$at" ] || fault=
fi
exec ./program"$fault" "$@"
"""


class RealPhone:
    """A real adbd's device with services, and what tests set on it."""

    def __init__(self, adbd: RealAdbd, folder: Path) -> None:
        self.adbd, self.folder = adbd, folder
        adbd.install("dumpsys", DUMPSYS)
        adbd.install("cmd", f'#!/system/bin/sh\necho "$*" >>{TMP}/settings\n')
        self.says(thermal=0, level=80)

    def write(self, name: str, content: bytes | str, mode: int = 0o644) -> str:
        """Put a file into the phone's temporary folder, in place of one that is there, and return its path on the phone."""
        path = self.adbd.path(f"{TMP}/{name}")
        path.parent.mkdir(exist_ok=True)
        path.parent.chmod(0o777)
        unfinished = path.with_name(f".{path.name}")
        unfinished.write_bytes(content.encode() if isinstance(content, str) else content)
        unfinished.chmod(mode)
        unfinished.replace(path)
        return f"{TMP}/{name}"

    def says(self, **values: int) -> None:
        """Have dumpsys say another thermal status or battery level."""
        for name, value in values.items():
            self.write(name, f"{value}\n")

    def agent(self, **settings: Any) -> AdbAgent:
        """Return an agent of it, whose runner is pushed."""
        chosen = {**QUICK, "runner": str(runner(self.folder)), **settings}
        return AdbAgent("pixel1", transport=open_transport(f"tcp:{self.adbd.serial}", self.adbd.key), **chosen)

    def counting_runner(self, faults: tuple[str, ...] = ()) -> str:
        """Return the path there of a runner that counts its starts and can be made to fail."""
        program = runner(self.folder).read_bytes()
        self.write("programs/program", program, 0o755)
        for fault in faults:
            self.write(f"programs/program{fault}", program, 0o755)
        self.write("programs/program_other", program[:18] + OTHER_MACHINE + program[20:], 0o755)
        self.write("programs/starts", b"", 0o666)
        self.fails("")
        return self.write("benchmark_model", RUNNER, 0o755)

    def fails(self, fault: str, after: int = 0) -> None:
        """Have that runner fail so after as many starts more; an empty fault makes it sound again."""
        self.write("programs/fault", f"{self.starts + after + 1} {fault}\n" if fault else "")

    @property
    def starts(self) -> int:
        """How often that runner was started for a visit."""
        return len(self.adbd.path(f"{TMP}/programs/starts").read_bytes().splitlines())

    @property
    def settings_set(self) -> list[str]:
        """What was set on the phone and set back."""
        return self.adbd.path(f"{TMP}/settings").read_text().splitlines()

    def assert_left_empty(self, folder: str = FOLDER) -> None:
        """Wait until nothing of a session is left there."""
        place = self.adbd.path(folder)
        for _ in range(400):
            left = [*(map(str, place.rglob("*")) if place.exists() else ()), *(pid for name in NAMES for pid in self.adbd.pids(name))]
            if not left:
                return
            time.sleep(0.05)
        raise AssertionError(left)

    def mend(self) -> None:
        """Undo what was done to it."""
        self.adbd.relay.disarm()
        self.adbd.relay.mend()
        self.adbd.free_disk()
        self.says(thermal=0, level=80)
