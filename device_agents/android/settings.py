"""What is set on a phone while it measures, and the script that sets it back: run at the end, or by the phone itself when this computer is gone."""

from __future__ import annotations

from dataclasses import dataclass

from device_agents.android.transport import words

STAY_ON = ("settings", "get", "global", "stay_on_while_plugged_in")
FIXED_PERFORMANCE = ("cmd", "power", "set-fixed-performance-mode-enabled")


@dataclass(frozen=True)
class Change:
    """One thing set on the phone: shell commands that set it and set it back."""

    name: str
    apply: str
    restore: str


def fixed_performance() -> Change:
    """Return the change to the mode in which clocks stay where the phone can hold them (Android 11 and newer; others refuse it).

    The phone does not tell whether the mode is on already: it is off afterwards.
    """
    return Change("fixed performance", words([*FIXED_PERFORMANCE, "true"]), words([*FIXED_PERFORMANCE, "false"]))


def stay_awake(before: str) -> Change:
    """Return the change to a screen that stays on while power is plugged in; `before` is the setting's text until now."""
    name = "stay_on_while_plugged_in"
    before = before.strip()
    back = ["settings", "put", "global", name, before] if before.isdecimal() else ["settings", "delete", "global", name]
    return Change("stay awake", words(["settings", "put", "global", name, "7"]), words(back))


def refused(exit_code: int, said: str) -> bool:
    """Return whether a phone did not take a change; old ones say so and end with 0."""
    lower = said.lower()
    return exit_code != 0 or any(word in lower for word in ("unknown command", "can't find service", "not found", "exception", "error"))
