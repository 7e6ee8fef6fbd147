"""How `profiler collect` measures several devices, and how it tells what it has."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from profiler.cli.options import BadOptionError, folder_to_write, store_to_write

if TYPE_CHECKING:
    from device_agents.devices import Device
    from profiler.collecting import CollectResult
    from profiler.farm_jobs import Collection


def collect_from_several(
    devices: Sequence[Device], collection: Collection, out: Path | None, store: str | None, ray: str | None, as_json: bool
) -> None:
    """Measure devices side by side and tell what became of each; ends with exit code 1 where one failed."""
    from profiler.cli.output import print_json, say
    from profiler.farm import collect_side_by_side
    from profiler.farm_jobs import Job
    from profiler.farm_ray import collect_through_ray

    _refuse_one_for_another(devices, elsewhere=ray is not None)
    places = _places([device.name for device in devices], out, store)
    with device_bars(list(places)) as report:
        if ray is None:
            outcomes = collect_side_by_side([Job(device, places[device.name], collection) for device in devices], report)
        else:
            outcomes = collect_through_ray(devices, places, collection, ray, report)
    if as_json:
        print_json({outcome.device: outcome.to_dict() for outcome in outcomes})
    for outcome in outcomes:
        if outcome.result is not None and not as_json:
            say_result(outcome.result, f"{outcome.device}: ")
        for note in outcome.notes:
            say(f"{outcome.device}: another collector made good what one could not: {note}")
        if outcome.failure is not None:
            say(f"profiler: device {outcome.device!r} failed: {outcome.failure}")
    if any(outcome.failure is not None for outcome in outcomes):
        raise typer.Exit(1)


def say_result(result: CollectResult, prefix: str = "") -> None:
    """Tell what a table holds, what ended its measurement, and what to be wary of."""
    from profiler.cli.output import say

    said = [result.sentence(), *([] if result.thinned is None else [result.thinned.sentence()]), result.ending()]
    said += [f"warning ({warning.caution.code}): {warning.text}" if warning.caution else warning.text for warning in result.warnings]
    for text in filter(None, said):
        say(prefix + text)


@contextmanager
def device_bars(names: Sequence[str]) -> Iterator[Callable[[str, int, int, str], None]]:
    """Show a bar a device on standard error; yields report(device, done, total, note)."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    console = Console(stderr=True)
    times = (TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn())
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), *times, TextColumn("{task.fields[note]}"))
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        tasks = {name: progress.add_task(name, total=None, note="") for name in names}

        def report(device: str, done: int, total: int, note: str) -> None:
            progress.update(tasks[device], completed=done, total=total, note=note)

        yield report


def _places(names: Sequence[str], out: Path | None, store: str | None) -> dict[str, str | Path]:
    """Return device → where its measurements go.

    Raises:
        BadOptionError: the folder cannot be one, or two devices would share a place.
    """
    from profiler.farm_jobs import file_of, url_of

    if len(names) == 1:
        return {names[0]: store or "" if out is None else store_to_write(out)}
    if out is None:
        places: dict[str, str | Path] = {name: url_of(store or "", name) for name in names}
    elif out.suffix == ".lut" or out.is_file():
        raise BadOptionError(f"--out {out} is a file, and {len(names)} devices are measured into one each; give a folder for them")
    else:
        places = {name: file_of(folder_to_write(out), name) for name in names}
    for name, place in places.items():
        other = next(each for each in names if str(places[each]).lower() == str(place).lower())
        if other != name:
            raise BadOptionError(f"devices {other!r} and {name!r} would be measured into one place; give one of them another name")
    return places


def _refuse_one_for_another(devices: Sequence[Device], elsewhere: bool) -> None:
    """Refuse devices that are one and the same: measured at one time they would slow each other down."""
    seen: dict[object, str] = {}
    for device in devices:
        if elsewhere:
            return
        same = "local" if device.transport == "local" else device.settings.get("address")
        if same is None:
            continue
        if same in seen:
            raise BadOptionError(
                f"devices {seen[same]!r} and {device.name!r} are the same machine, and would slow each other down; collect from one after the other"
            )
        seen[same] = device.name
