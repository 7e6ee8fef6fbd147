"""One batch of visits: a script that the phone's shell works through by itself, and what it has written so far.

The script starts the runner once a visit, and between visits reads the phone's state with nothing but what the shell is
made of: starting a process costs a phone several milliseconds. Each visit has four files: `.s` the states before and
after, `.c` what was seen while the runner ran (clocks, the cores it may use), `.o` and `.e` its two streams. The visit's
line in `done` is written last, in one piece: what is not in there was not measured. `now` says everything twice: what is
read while it is written anew does not agree with itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from device_agents.android.transport import words

WATCH_EVERY_S = 0.1
LARGEST_OUTPUT_KB = 512  # of one stream of a runner; what prints without end is ended there
POLLED_AT_ONCE = 200  # visits
GONE = 3  # exit code of a poll that finds no batch

# Functions of the script. `say` lines are words that device_agents.android.state understands. $up: seconds since boot.
UP = """
up() { { read -r up rest <"$root/proc/uptime"; } 2>/dev/null || up=$(date +%s); }
lives() {
    kill -0 "$1" 2>/dev/null || return
    entry=
    { read -r entry <"/proc/$1/stat"; } 2>/dev/null
    case $entry in *") Z "*) return 1 ;; esac
}
"""
READINGS = """
number() { value=; { read -r value <"$1"; } 2>/dev/null; [ -n "$value" ]; }
quick() {
    up; echo "up $up"
    for core in $cores; do
        number "$root/sys/devices/system/cpu/cpu$core/cpufreq/scaling_cur_freq" && echo "cur $core $value"
        number "$root/sys/devices/system/cpu/cpu$core/cpufreq/scaling_max_freq" && echo "cap $core $value"
    done
    for zone in $zones; do number "$root/sys/class/thermal/thermal_zone$zone/temp" && echo "zone $value"; done
    number "$root/proc/loadavg" && echo "load $value"
    { while read -r key value rest; do [ "$key" = MemAvailable: ] && echo "memory $value" && break; done <"$root/proc/meminfo"; } 2>/dev/null
}
slow() {
    [ $((${up%%.*} - slow_at)) -ge "$slow_every" ] || return
    slow_at=${up%%.*}
    echo @thermal; dumpsys thermalservice 2>/dev/null
    if [ $((${up%%.*} - battery_at)) -ge "$battery_every" ]; then battery_at=${up%%.*}; echo @battery; dumpsys battery 2>/dev/null; fi
    echo @end
}
"""

WATCH = """
watch() {
    while lives "$batch"; do
        sleep "$watch_every" 2>/dev/null || sleep 1
        visit=; again=
        { read -r visit runner began again <now; } 2>/dev/null
        [ -n "$visit" ] && [ "$again" = "$visit $runner $began" ] || continue
        {
            { while read -r key value; do
                case $key in Name:) name=$value ;; Cpus_allowed_list:) echo "allowed $value $name"; break ;; esac
            done <"$root/proc/$runner/status"; } 2>/dev/null
            for core in $cores; do
                number "$root/sys/devices/system/cpu/cpu$core/cpufreq/scaling_cur_freq" && echo "cur $core $value"
            done
            up; if [ $((${up%%.*} - began)) -gt "$limit" ]; then echo late; kill -9 "$runner"; fi
        } >>"$visit.c"
    done
}
"""

VISIT = """
visit() {
    visit=$1; shift
    : >"$visit.c"
    { echo before; quick; slow; } >"$visit.s"
    up; began=$up
    (ulimit -f "$largest"; exec "$@") >"$visit.o" 2>"$visit.e" </dev/null &
    runner=$!
    echo "$visit $runner ${began%%.*} $visit $runner ${began%%.*}" >now
    wait "$runner"; code=$?
    : >now
    up
    { echo "ran $code $began $up"; echo after; quick; slow; } >>"$visit.s"
    echo "$visit" >>done
}
"""


@dataclass(frozen=True)
class Task:
    """One visit of a batch: the words that start the runner."""

    command: tuple[str, ...]


@dataclass(frozen=True)
class Reading:
    """What the script is told of the phone: the cores to watch, thermal zones, how often slow readings are made, and a time limit."""

    cores: tuple[int, ...] = ()
    zones: tuple[int, ...] = ()
    slow_every_s: int = 2
    battery_every_s: int = 30
    limit_s: int = 120
    aside_mask: str | None = None  # cores for the script itself, away from the runner's
    root: str = ""  # of /proc and /sys


@dataclass(frozen=True)
class Finished:
    """One visit as the phone wrote it down: lines of `.s` and `.c`, and the runner's two streams."""

    number: int
    state: tuple[str, ...]
    watched: tuple[str, ...]
    stdout: str
    stderr: str


@dataclass(frozen=True)
class Polled:
    """What a look at a batch found: further visits, whether its script still runs, and the phone's seconds since boot."""

    finished: tuple[Finished, ...]
    alive: bool
    uptime_s: float


def script(folder: str, tasks: Sequence[Task], reading: Reading, mask: str | None) -> str:
    """Return the script of a batch in its folder on the phone; `mask` pins the runner."""
    pin = ["taskset", mask] if mask is not None else []
    values = {
        "root": reading.root, "cores": " ".join(map(str, reading.cores)), "zones": " ".join(map(str, reading.zones)),
        "slow_every": str(reading.slow_every_s), "battery_every": str(reading.battery_every_s), "limit": str(reading.limit_s),
        "watch_every": f"{WATCH_EVERY_S:g}", "largest": str(2 * LARGEST_OUTPUT_KB), "slow_at": "-1000000", "battery_at": "-1000000",
    }  # fmt: skip
    lines = [
        f"cd {words([folder])} || exit 1",
        "echo $$ >pid",
        "batch=$$",
        *(f"{name}={words([value])}" for name, value in values.items()),
        *([f"taskset -p {words([reading.aside_mask])} $$ >/dev/null 2>&1"] if reading.aside_mask else []),
        UP + READINGS + WATCH + VISIT,
        ": >done; : >now",
        "watch & watcher=$!",
        *(f"visit {words([name_of(number), *pin, *task.command])}" for number, task in enumerate(tasks)),
        'kill "$watcher"',
    ]
    return "\n".join(lines) + "\n"


def name_of(number: int) -> str:
    """Return the name of a visit's files."""
    return f"{number:05d}"


def start_script(folder: str) -> str:
    """Return the script that sets a batch going and returns; called twice it does so once."""
    program = words([str(PurePosixPath(folder) / "batch.sh")])
    return (f"cd {words([folder])} || exit {GONE}\nmkdir started 2>/dev/null || exit 0\napart=setsid\n"
            f"command -v setsid >/dev/null 2>&1 || apart=nohup\n$apart sh {program} </dev/null >log 2>&1 &\nexit 0\n")  # fmt: skip


def poll_script(folder: str, seen: int, boundary: str, reading: Reading, alive_file: str) -> str:
    """Return the script that prints the visits after the first `seen`, each file of theirs behind a line with the boundary.

    Whether the batch runs is looked at before what it has finished: one that ends meanwhile has all its visits in sight.
    A look whose connection broke may still be at work beside this one, and have made the boundary's file without its line yet.
    """
    aside = f"taskset -p {words([reading.aside_mask])} $$ >/dev/null 2>&1\n" if reading.aside_mask else ""
    return f"""cd {words([folder])} || exit {GONE}
{aside}root={words([reading.root])}
{UP}
up; echo "$up" >{words([alive_file])}
running=dead; pid=
{{ read -r pid <pid; }} 2>/dev/null
if [ -z "$pid" ]; then running=starting; elif lives "$pid"; then running=alive; fi
[ -s boundary ] || printf '\\n%s\\n' {words([boundary])} >boundary
set --; count=0; taken=0
while read -r visit; do
    count=$((count + 1))
    [ $count -le {seen} ] && continue
    [ $taken -ge {POLLED_AT_ONCE} ] && running=alive && break
    taken=$((taken + 1))
    set -- "$@" boundary "$visit.s" boundary "$visit.c" boundary "$visit.o" boundary "$visit.e"
done 2>/dev/null <done
echo "$running $up $taken"
[ $taken -eq 0 ] || cat "$@"
"""


def kill_script(folder: str) -> str:
    """Return the script that ends a batch and its runner at once."""
    return f"""(cd {words([folder])} || exit 0
pid=; visit=; runner=
{{ read -r pid <pid; }} 2>/dev/null
[ -z "$pid" ] || kill -9 "-$pid" 2>/dev/null || kill -9 "$pid" 2>/dev/null
{{ read -r visit runner rest <now; }} 2>/dev/null
[ -z "$runner" ] || kill -9 "$runner" 2>/dev/null
true)
"""


def polled(output: bytes, seen: int, boundary: str) -> Polled | None:
    """Return what a poll printed; None where that is not what a poll prints."""
    head, _, rest = output.partition(b"\n")
    parts = head.decode(errors="replace").split()
    if len(parts) != 3 or parts[0] not in ("alive", "dead", "starting") or not parts[2].isdecimal():
        return None
    try:
        uptime_s = float(parts[1])
    except ValueError:
        return None
    files = rest.split(f"\n{boundary}\n".encode())[1:]
    if len(files) != 4 * int(parts[2]):
        return None
    texts = [file.decode(errors="replace") for file in files]
    visits = (
        Finished(seen + i, tuple(texts[4 * i].splitlines()), tuple(texts[4 * i + 1].splitlines()), texts[4 * i + 2], texts[4 * i + 3])
        for i in range(int(parts[2]))
    )
    return Polled(tuple(visits), parts[0] != "dead", uptime_s)


def sections(lines: Iterable[str]) -> dict[str, list[str]]:
    """Return a state file's lines by part: before, ran (one line), after; and what the slow readings said, @thermal and @battery of each."""
    found: dict[str, list[str]] = {}
    part, inside = "", None
    for line in lines:
        first = line.split(" ", 1)[0]
        if line in ("@thermal", "@battery", "@power", "@end"):
            inside = None if line == "@end" else f"{part}{line}"
            if inside is not None:
                found[inside] = []
        elif inside is not None:
            found[inside].append(line)
        elif first in ("before", "ran", "after"):
            part = first
            found[part] = [line]
        elif part:
            found[part].append(line)
    return found
