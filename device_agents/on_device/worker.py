"""The worker: reads requests, keeps loaded models for its life, times visits, replies.

It ends when told to, or when its stdin closes, which is what happens when the host dies or its connection is lost: after the
request that it is at, or a few seconds later where that does not end.
"""

from __future__ import annotations

import os
import select
import sys
import threading
import time
import traceback
from collections.abc import Callable
from typing import IO, Any

from . import wire
from .nvml import GpuNotThere
from .pinning import PinningRefused, pin
from .preflight import preflight
from .runtimes import Runtime, RuntimeNotInstalled, Session, runtime_class
from .system_state import StateReader, describe
from .timed_loop import timed_cycles

ABANDONED_S = 10.0  # for the requests that had come before


def main() -> None:
    """Answer requests until the host ends."""
    requests, replies = private_streams()
    try:
        serve(requests, replies)
    except BrokenPipeError:
        os._exit(1)  # the host is gone: nobody to tell, and flushing at exit would fail again


def private_streams() -> tuple[IO[bytes], IO[bytes]]:
    """Return the real stdin and stdout, moved out of reach: whatever prints from now on prints to stderr."""
    requests, replies = os.dup(0), os.dup(1)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.dup2(2, 1)
    os.close(null)
    sys.stdout = sys.stderr
    return os.fdopen(requests, "rb"), os.fdopen(replies, "wb")


def end_once_abandoned(descriptor: int) -> None:
    """Wait, without waking up, until nobody can write to this stream any more; then end the process, whatever it is at."""
    poller = select.poll()
    poller.register(descriptor, select.POLLHUP | getattr(select, "POLLRDHUP", 0))
    poller.poll()
    time.sleep(ABANDONED_S)
    os._exit(1)


def serve(requests: IO[bytes], replies: IO[bytes]) -> None:
    """Answer each line of `requests` with one line, until `quit` or the end."""
    watcher = threading.Thread(target=end_once_abandoned, args=(requests.fileno(),), daemon=True)
    worker = Worker(once_pinned=watcher.start)
    for line in requests:
        reply = worker.answer(line)
        replies.write(wire.encode(reply))
        replies.flush()
        if reply["reply"] == "quit":
            return


REQUESTS = ("hello", "preflight", "load", "run", "outputs", "quit")


class Worker:
    """One runtime, set up once by `hello`, and the models loaded into it."""

    def __init__(self, once_pinned: Callable[[], object] = bool) -> None:
        self._once_pinned = once_pinned
        self._runtime: Runtime | None = None
        self._state: StateReader | None = None
        self._sessions: dict[str, Session] = {}

    def answer(self, line: bytes) -> dict[str, Any]:
        """Return the reply to one request; what goes wrong is a reply too."""
        try:
            request = wire.decode(line)
            name = request.get("request")
            if name not in REQUESTS:
                raise wire.WireError(f"unknown request {name!r}; expected one of {', '.join(REQUESTS)}")
            reply: dict[str, Any] = getattr(self, f"_{name}")(request)
            return {"reply": name, **reply}
        except RuntimeNotInstalled as error:
            return _error("runtime_missing", error)
        except PinningRefused as error:
            return _error("refused", error)
        except GpuNotThere as error:
            return _error("unreachable", error)
        except Exception as error:
            traceback.print_exc()
            return _error("failed", f"{type(error).__name__}: {error}")

    def _hello(self, request: dict[str, Any]) -> dict[str, Any]:
        if request.get("protocol") != wire.PROTOCOL_VERSION:
            raise wire.WireError(f"the host speaks protocol {request.get('protocol')!r}, this worker {wire.PROTOCOL_VERSION}")
        cores = pin(request["cores"])  # first of all: threads that the runtime's import starts inherit it
        self._once_pinned()
        runtime = self._runtime = runtime_class(request["runtime"])(request["threads"], **request.get("options", {}))
        reader = getattr(runtime, "state_reader", StateReader)  # a runtime that runs on a processor of its own reads that one's state
        self._state = reader(cores, clock_limits_khz=request.get("clock_limits_khz"))
        return {
            "protocol": wire.PROTOCOL_VERSION, "pid": os.getpid(), "unix_time_ns": time.time_ns(),
            "runtime": runtime.name, "runtime_version": runtime.version, "delegate": runtime.delegate, "cores": cores,
            "governor": self._state.governor(), "numpy_version": _loaded_version("numpy"), **describe(),
            **getattr(runtime, "description", {}),
        }  # fmt: skip

    def _preflight(self, request: dict[str, Any]) -> dict[str, Any]:
        if self._state is None or self._runtime is None:
            raise wire.WireError("preflight came before hello")
        return preflight(self._state, self._runtime.package)

    def _load(self, request: dict[str, Any]) -> dict[str, Any]:
        if self._runtime is None:
            raise wire.WireError("load came before hello")
        session = self._sessions[request["model"]] = self._runtime.load(request["path"])
        return {
            "model": request["model"], "input_shapes": session.input_shapes, "input_dtypes": session.input_dtypes, "delegate": session.delegate,
        }  # fmt: skip

    def _run(self, request: dict[str, Any]) -> dict[str, Any]:
        if self._state is None:
            raise wire.WireError("run came before hello")
        runs = [self._sessions[name].run for name in request["models"]]
        state_before = self._state.read()
        timed = getattr(self._runtime, "timed_cycles", timed_cycles)  # by a clock of its own, where it has one
        samples_ns, repeats = timed(runs, request["cycles"], request["warmup_cycles"], request["min_call_ns"])
        state_after = self._state.read()
        return {"id": request["id"], "samples_ns": samples_ns, "repeats": repeats, "state_before": state_before, "state_after": state_after}

    def _outputs(self, request: dict[str, Any]) -> dict[str, Any]:
        import numpy as np

        session = self._sessions[request["model"]]
        inputs = np.load(request["inputs_path"], allow_pickle=False)
        batch = session.input_shapes[0][0]
        outputs = [session.infer(inputs[start : start + batch]).copy() for start in range(0, len(inputs), batch)]
        np.save(request["outputs_path"], np.concatenate(outputs), allow_pickle=False)
        return {"model": request["model"]}

    def _quit(self, request: dict[str, Any]) -> dict[str, Any]:
        return {}


def _error(kind: str, message: object) -> dict[str, Any]:
    return {"reply": "error", "kind": kind, "message": str(message)}


def _loaded_version(package: str) -> str | None:
    return getattr(sys.modules.get(package), "__version__", None)
