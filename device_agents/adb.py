"""A phone as a device: models are timed by a program of its own (`benchmark_model`, `onnxruntime_perf_test`, or one that
speaks the runner protocol, see `android.perf_test`), which is pushed if it is a file here. Nothing stays on the phone.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from device_agents.android import clusters, runner, settings, state
from device_agents.android.checking import checks
from device_agents.android.choosing import open_phone
from device_agents.android.discovery import refuse_no_address
from device_agents.android.placing import Placed, confirm_cores, place
from device_agents.android.probe import Phone, phone, probe_script
from device_agents.android.session import LEASE_S, Session
from device_agents.android.transport import Transport, words
from device_agents.android.visits import Protocol, Visits, refuse_low_battery
from device_agents.base import Check, DeviceAgent, DeviceError, DeviceInfo, ModelFormat, Visit, VisitPlan, models_of_plans

FOLDER = "/data/local/tmp/elastic-latency"
TIMEOUT_S = 120.0  # of one visit; its end on the phone
LEAST_S = 0.1  # of the timed runs of one start of the runner: beside it, starting is little
WARMUP_S = 0.05  # of running before: a core needs that to clock up
PROBE_TIMEOUT_S = 60.0


class AdbAgent(DeviceAgent):
    """Times models on an Android phone, each visit in a process of the phone's own, in batches that it works through by itself.

    Without `cores` or `cluster` the big cores are used; cores = [] does not pin. `flags` are further ones for the runner.
    A visit of `benchmark_model` is as many runs as planned, and on until `least_s` are over.

    Raises (constructor):
        ValueError: a setting is out of range or unknown.
    """

    setting_names: ClassVar[tuple[str, ...]] = (
        "model", "address", "key", "runner", "runner_kind", "runner_version", "model_format", "flags", "threads", "cores", "cluster", "delegate",
        "full_delegation", "precision", "batch", "hottest_c", "least_battery_percent", "highest_thermal_status", "folder", "least_s", "warmup_s",
        "timeout_s", "fixed_performance", "stay_awake",
    )  # fmt: skip
    runs_chains = False
    gives_outputs = False

    def __init__(self, device: str = "adb", *, model: str | None = None, address: str | None = None, key: str | None = None,
                 runner: str = runner.BENCHMARK_MODEL, runner_kind: str | None = None, runner_version: str | None = None,
                 model_format: ModelFormat | None = None, flags: Sequence[str] = (), threads: int = 1, cores: Sequence[int] | None = None,
                 cluster: str | None = None, delegate: str = "cpu", full_delegation: bool = True, precision: str = "float32", batch: int = 1,
                 hottest_c: float | None = None, least_battery_percent: int = 20, highest_thermal_status: str | int = 0, folder: str = FOLDER,
                 least_s: float = LEAST_S, warmup_s: float = WARMUP_S, timeout_s: float = TIMEOUT_S, fixed_performance: bool = True,
                 stay_awake: bool = False, transport: Transport | None = None, root: str = "", lease_s: int = LEASE_S,
                 sleep: Callable[[float], None] = time.sleep) -> None:  # fmt: skip
        self.device, self.phone_model, self.address, self.key = device, model, _address(address), None if key is None else Path(key).expanduser()
        self.runner = _runner(runner, runner_kind)
        self.runner_version = runner_version
        self.delegate = _delegate(self.runner.kind, delegate)
        self.model_format = model_format or _format(self.runner.kind)
        self.flags = tuple(_text("flags", flag) for flag in flags)
        self.threads, self.batch = _whole("threads", threads, 1), _whole("batch", batch, 1)
        if cores is not None and cluster is not None:
            raise ValueError(f"cores are {list(cores)} and cluster is {cluster!r}; give one of them")
        if cluster is not None and cluster not in clusters.CLUSTERS:
            raise ValueError(f"cluster is {cluster!r}; expected {', '.join(clusters.CLUSTERS)}")
        self.cores = None if cores is None else tuple(sorted({_whole("cores", core, 0) for core in cores}))
        self.cluster = cluster or clusters.BIG
        self.full_delegation, self.precision = full_delegation, precision
        self.hottest_c = hottest_c
        self.least_battery_percent = _whole("least_battery_percent", least_battery_percent, 0)
        self.highest_status = _status(highest_thermal_status)
        self.folder = _folder(folder)
        for name, value, least in (("least_s", least_s, 0.0), ("warmup_s", warmup_s, 0.0), ("timeout_s", timeout_s, 1.0)):
            if not isinstance(value, (int, float)) or isinstance(value, bool) or not least <= value < 1e6:
                raise ValueError(f"{name} is {value!r}; expected seconds of at least {least:g}")
        self.least_s, self.warmup_s, self.timeout_s = least_s, warmup_s, timeout_s
        self.fixed_performance, self.stay_awake = fixed_performance, stay_awake
        self.incidents: list[str] = []  # what went wrong on the phone and was made good
        self.in_runner_s = 0.0  # time that the phone spent in the runner
        self._root, self._lease_s, self._sleep = root, lease_s, sleep
        self._transport = transport
        self._session: Session | None = None
        self._info: DeviceInfo | None = None
        self._clock_limits_khz: Mapping[int, int] = {}  # when the session began

    # --- the contract ----------------------------------------------------------------------------------------------------

    def info(self) -> DeviceInfo:
        """Return what the phone is, asked once; the runner is started there, and must be one that runs."""
        if self._info is None:
            with self.begun() as session:
                found = self.probe()
                placed = place(session, self.runner, self.device, found.abis)
                cores = self.wanted_cores(found)
                confirm_cores(session, cores, self.device)
                self._info = self.describe(found, placed, cores)
                self._clock_limits_khz = found.caps_khz
        return self._info

    def measure(self, models: Mapping[str, bytes], plans: Sequence[VisitPlan]) -> Iterator[Visit]:
        """Yield one visit a plan, each as soon as it is seen; every visit is a process of its own on the phone."""
        names = models_of_plans(models, plans)
        for plan in plans:
            if len(plan.models) > 1:
                raise ValueError(f"visit plan {plan.id!r} is a chain of {len(plan.models)} models; runner {self.runner.kind!r} runs one at a time")
        return self._visits(models, names, list(plans))

    def _visits(self, models: Mapping[str, bytes], names: Sequence[str], plans: Sequence[VisitPlan]) -> Iterator[Visit]:
        info = self.info()
        with self.begun(changes=True) as session:
            found = self.probe()
            refuse_low_battery(found.moment.battery, self.least_battery_percent, self.device)
            placed = place(session, self.runner, self.device, found.abis, try_it=False)
            paths = session.push_models(models, names, self.model_format)
            visits = Visits(session, found, self._protocol(placed, info.cores), paths, self.device, self._sleep)
            try:
                yield from visits.make(plans)
            finally:
                self.in_runner_s += visits.in_runner_s
                self.incidents += visits.incidents
                if session.lost_connections:
                    self.incidents.append(f"device {self.device!r}: the connection was lost, and made again, {session.lost_connections} times")

    def run(self, model: bytes, inputs: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """Raise DeviceError: these programs time a model and keep its outputs to themselves."""
        raise DeviceError(f"runner {self.runner.kind!r} of device {self.device!r} does not tell outputs; check them on a device that gives_outputs")

    def checks(self) -> Iterator[Check]:
        """Yield each step of proving that this phone can be measured."""
        return checks(self)

    def close(self) -> None:
        """End what runs on the phone, set it back, and end the connection."""
        if self._session is not None:
            self._session.end()
        if self._transport is not None:
            self._transport.close()

    # --- parts of it, for checks -----------------------------------------------------------------------------------------

    @property
    def transport(self) -> Transport:
        """The connection, opened at first use."""
        if self._transport is None:
            self._transport = open_phone(self.device, self.address, self.phone_model, self.key)
        return self._transport

    @contextlib.contextmanager
    def begun(self, changes: bool = False) -> Iterator[Session]:
        """Give a session on the phone; nothing is set there without `changes`."""
        session = Session(self.transport, self.device, self.folder, root=self._root, lease_s=self._lease_s, sleep=self._sleep)
        self._session = session
        try:
            with session.open(self._changes(session) if changes else []):
                yield session
        finally:
            self._session = None

    def _changes(self, session: Session) -> list[settings.Change]:
        wanted = [settings.fixed_performance()] if self.fixed_performance else []
        if self.stay_awake:
            wanted.append(settings.stay_awake(session.shell(words(settings.STAY_ON)).text))
        return wanted

    def probe(self) -> Phone:
        """Return what the phone says of itself now."""
        shell = self.transport.shell if self._session is None else self._session.shell
        return phone(shell(probe_script(self._root), PROBE_TIMEOUT_S).text)

    def wanted_cores(self, found: Phone) -> tuple[int, ...]:
        """Return the cores to pin to.

        Raises:
            DeviceError: the phone has no such cores, or fewer than threads.
        """
        try:
            cores = clusters.cores_of(self.cluster, found.maxima_khz) if self.cores is None else self.cores
        except ValueError as error:
            raise DeviceError(f"device {self.device!r}: {error}") from error
        if cores and len(cores) < self.threads:
            raise DeviceError(f"device {self.device!r} has threads {self.threads}, but the cores {clusters.listed(cores)}; use fewer, or set `cores`")
        return cores

    def describe(self, found: Phone, placed: Placed, cores: tuple[int, ...]) -> DeviceInfo:
        """Return the phone, its runner and how both are used."""
        moment = found.moment
        program = {"kind": self.runner.kind, "path": placed.path if self.runner.file is None else str(self.runner.file), "sha256": placed.sha256,
                   "version": self.runner_version, "machine": placed.machine, "flags": list(self.flags)}  # fmt: skip
        in_use = cores or tuple(found.maxima_khz)
        preflight = {
            "clock_limits_khz": [found.caps_khz.get(core) for core in in_use], "clock_maxima_khz": [found.maxima_khz.get(core) for core in in_use],
            "battery_percent": moment.battery.percent, "battery_status": moment.battery.status, "timer_floor_ns": None,
            "build_sha256": placed.sha256, "screen_on": found.screen_on,
            "state": moment.state(found.clock[1], state.Limits(found.caps_khz, self.hottest_c, self.highest_status)).to_dict(),
        }  # fmt: skip
        return DeviceInfo(
            device=self.device, runtime=self.runner.kind, runtime_version=runner.version_of(placed.sha256, self.runner_version),
            delegate=self.delegate if self.full_delegation else f"{self.delegate} (partial)", threads=self.threads, cores=cores, batch=self.batch,
            precision=self.precision, cpu_model=found.processor, kernel=found.kernel,
            governor=found.governors.get(cores[0]) if cores else next(iter(found.governors.values()), None),
            extra={"serial": self.transport.serial, **found.describe(), "runner": program, "least_s": self.least_s, "warmup_s": self.warmup_s,
                   "fixed_performance": self.fixed_performance, "preflight": preflight},
        )  # fmt: skip

    def _protocol(self, placed: Placed, cores: tuple[int, ...]) -> Protocol:
        limits = state.Limits({core: self._clock_limits_khz.get(core) for core in cores}, self.hottest_c, self.highest_status)
        return Protocol(
            self.runner, placed.path, placed.machine, self.delegate, self.full_delegation, self.threads, cores, self.flags, self.least_s,
            self.warmup_s, self.timeout_s, limits, self.least_battery_percent, self._root,
        )  # fmt: skip


def _runner(given: str, kind: str | None) -> runner.Runner:
    return runner.find(_text("runner", given), kind)


def _delegate(kind: str, delegate: str) -> str:
    return runner.delegate_of(kind, delegate)


def _format(kind: str) -> ModelFormat:
    return runner.MODEL_FORMATS[kind]


def _folder(folder: str) -> str:
    if not isinstance(folder, str) or not folder.startswith("/") or "\0" in folder or "\n" in folder or len(folder.strip("/").split("/")) < 2:
        raise ValueError(f"folder is {folder!r}; expected one of the phone's own for this alone, such as {FOLDER}")
    return folder.rstrip("/")


def _address(address: str | None) -> str | None:
    if address is not None:
        try:
            refuse_no_address(_text("address", address))
        except DeviceError as error:
            raise ValueError(f"address: {error}") from error
    return address


def _status(value: str | int) -> int:
    if isinstance(value, str) and value in state.THERMAL_STATUSES:
        return state.THERMAL_STATUSES.index(value)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < len(state.THERMAL_STATUSES):
        raise ValueError(f"highest_thermal_status is {value!r}; expected 0 to 6, or {', '.join(state.THERMAL_STATUSES)}")
    return value


def _text(name: str, value: Any) -> str:
    if not isinstance(value, str) or not value or "\0" in value:
        raise ValueError(f"{name} is {value!r}; expected a text without NUL characters")
    return value


def _whole(name: str, value: Any, least: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ValueError(f"{name} is {value!r}; expected a whole number of at least {least}")
    return value
