"""Devices that hang on several hosts of a Ray cluster: each is a resource `device:NAME` of its host.

Each visit is committed to the store by the collector that asked for it: a host that is lost takes none with it, and what
was claimed for it another host of the same device makes.
"""

from __future__ import annotations

import importlib
import logging
import os
import signal
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from device_agents.devices import Device
from profiler.collecting import CollectResult, Report
from profiler.farm import DeviceReport, collect_side_by_side
from profiler.farm_jobs import Collection, Job, Outcome, collect_job
from profiler.ray_agent import HostLost, RayAgent, resource

LOCAL = "local"  # instead of a cluster's address: one that lives as long as the collection, with all devices on this machine
ANSWER_S = 10.0  # for a cluster
MOST_LOSSES = 10  # of a device's host during one collection


def collect_through_ray(devices: Sequence[Device], places: Mapping[str, str | Path], collection: Collection, address: str,
                        report: DeviceReport) -> list[Outcome]:  # fmt: skip
    """Measure all devices at one time, with one collector a host that offers it, and return what became of each.

    Raises:
        ImportError: the package ray is missing.
        ConnectionError: no cluster answers at the address.
    """
    names = [device.name for device in devices]
    ray = _connected(address, {resource(name): 1.0 for name in names})
    try:
        reached = address if address != LOCAL else ray.get_runtime_context().gcs_address
        there = ray.cluster_resources()
        hosts = {name: int(there.get(resource(name), 0)) for name in names}
        jobs = [Job(device, places[device.name], collection, reached) for device in devices for _ in range(hosts[device.name])]
        measured = {outcome.device: outcome for outcome in collect_side_by_side(jobs, report)}
    finally:
        ray.shutdown()
    return [measured.get(name) or Outcome(name, None, _not_offered(address, name)) for name in names]


def _not_offered(address: str, device: str) -> str:
    start = f"ray start --address=HEAD:6379 --resources='{{\"{resource(device)}\": 1}}'"
    return f"no host of the Ray cluster at {address} offers it; start Ray on the host that it hangs on with {start}"


def collect_on_cluster(job: Job, report: Report) -> CollectResult:
    """Measure what a job's place still lacks; where the device's host is lost, on the next host that offers the device.

    Raises:
        DeviceError: the device failed, or no host offers it any more; what was measured is kept.
        and what `collect_table` does.
    """
    ray = _connected(job.cluster or "", {})
    try:
        for losses in range(MOST_LOSSES):
            try:
                with RayAgent(ray, job.device) as agent:
                    return collect_job(job, agent, report)
            except HostLost:
                if losses + 1 == MOST_LOSSES:
                    raise
        raise HostLost(f"device {job.device.name!r} was lost")
    finally:
        ray.shutdown()


def _connected(address: str, resources: Mapping[str, float]) -> Any:
    """Return the module ray, connected to the cluster; `resources` are what a cluster of this machine's own has."""
    if address.startswith("ray://"):
        raise ValueError(f"--ray {address} is the address of Ray's client; run the command on a host of the cluster, with --ray HOST:PORT or auto")
    _refuse_silent(address)
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # it would report to the network
    try:
        ray: Any = importlib.import_module("ray")
    except ImportError as error:
        raise ImportError("collecting through Ray needs the package 'ray'; install it with pip install 'elastic-latency[ray]'") from error
    own = {"num_cpus": 1, "resources": dict(resources), "include_dashboard": False} if address == LOCAL else {}
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.CRITICAL, **own)
    except (ConnectionError, RuntimeError, ValueError) as error:
        told = " ".join(str(error).split())[:200]
        raise ConnectionError(f"no Ray cluster answers at {address} ({told}); start one with ray start --head, or give --ray local") from error
    finally:
        for number, handler in handlers.items():  # Ray has put its own in their place
            if handler is not None:
                signal.signal(number, handler)
    return ray


def _refuse_silent(address: str) -> None:
    """Raise ConnectionError where nothing listens at an address HOST:PORT: Ray would try for many minutes."""
    host, _, port = address.rpartition(":")
    if not host:
        return  # local, auto
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=ANSWER_S).close()
    except (OSError, ValueError, OverflowError) as error:
        told = getattr(error, "strerror", None) or str(error)
        raise ConnectionError(f"no Ray cluster answers at {address} ({told}); start one with ray start --head, or give --ray local") from error
