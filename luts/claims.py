"""Rows of claims: which of several collectors is about to make a visit. A claim is a lease, so that a killed collector's ends."""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import Connection, bindparam, select

from luts import visits
from luts.schema import CLAIMS

# A lease that ends later than this many leases from now was written under another time of day: it would hold for ever.
LONGEST_LEASES = 2.0


def claim(connection: Connection, plan_ids: Iterable[str], collector: str, now_s: float, lease_s: float) -> set[str]:
    """Claim for the collector, until a lease from now, those visits that are neither made nor another's; return them."""
    alive = CLAIMS.c.until_unix_s.between(now_s, now_s + LONGEST_LEASES * lease_s)
    connection.execute(CLAIMS.delete().where(~alive))
    owners = {row.plan_id: row.collector for row in connection.execute(select(CLAIMS))}
    own = {plan_id for plan_id in plan_ids if owners.get(plan_id, collector) == collector} - visits.finished(connection)
    if own:
        rows = [{"plan_id": plan_id, "collector": collector, "until_unix_s": now_s + lease_s} for plan_id in sorted(own)]
        connection.execute(CLAIMS.delete().where(CLAIMS.c.plan_id == bindparam("claimed")), [{"claimed": plan_id} for plan_id in sorted(own)])
        connection.execute(CLAIMS.insert(), rows)
    return own


def holds(connection: Connection, collector: str) -> bool:
    """Return whether the collector has claimed something."""
    return connection.execute(select(CLAIMS.c.plan_id).where(CLAIMS.c.collector == collector).limit(1)).first() is not None


def release(connection: Connection, collector: str) -> None:
    """Give back what the collector claimed."""
    connection.execute(CLAIMS.delete().where(CLAIMS.c.collector == collector))
