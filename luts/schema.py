"""The tables of a measurement store; the tests pin them word by word.

Versions of the schema:
1   facts, subjects, sequences, visits, accuracy_protocols, accuracies
2   visits.repeats; outcomes, warnings, claims, figures
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import BigInteger, CheckConstraint, Column, Float, ForeignKey, Integer, LargeBinary, MetaData, Table, Text, UniqueConstraint, text
from sqlalchemy.types import TypeEngine

SCHEMA_VERSION = 2
FILE_KIND = "elastic-latency measurements"  # the fact that tells a store from any other SQLite file

# Of the device, before and after a visit; NULL where the device does not tell.
STATE_FIELDS = ("unix_time_ns", "load_1m", "frequency_khz", "temperature_c", "throttled", "memory_available_kb")
_LARGE = Integer().with_variant(BigInteger(), "postgresql")  # SQLite's integers are large anyway
_STATE_TYPES: dict[str, TypeEngine[Any]] = {
    "unix_time_ns": BigInteger(), "frequency_khz": Integer(), "throttled": Integer(), "memory_available_kb": _LARGE,
}  # fmt: skip

METADATA = MetaData()

# Name → JSON value: kind, schema_version, condition, collection, provenance.
FACTS = Table(
    "facts",
    METADATA,
    Column("name", Text, primary_key=True),
    Column("value", Text, nullable=False),
)

# What is measured: a block (spec: its BlockSpec) or a whole network (spec: name, architecture, blocks).
SUBJECTS = Table(
    "subjects",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("key", Text, nullable=False, unique=True),
    Column("kind", Text, nullable=False),
    Column("role", Text, nullable=False),
    Column("spec", Text, nullable=False),
    CheckConstraint("kind IN ('block', 'network')", name="kind_is_known"),
)

# Subjects run one after another as one visit; `subjects` is their ids joined by spaces, so that equal sequences are one.
SEQUENCES = Table(
    "sequences",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("subjects", Text, nullable=False, unique=True),
)
SEQUENCE_SUBJECTS = Table(
    "sequence_subjects",
    METADATA,
    Column("sequence_id", Integer, ForeignKey("sequences.id"), primary_key=True),
    Column("position", Integer, primary_key=True),
    Column("subject_id", Integer, ForeignKey("subjects.id"), nullable=False),
)

# `samples` is zlib over little-endian int64 nanoseconds, (positions, cycles) in C order. `attempt` is 0 for the visit that
# counts; discarded ones (`discarded` says why) are kept under 1, 2, ... Each sample is one call, in which the subject ran
# `repeats` times.
VISITS = Table(
    "visits",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("plan_id", Text, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("discarded", Text),
    Column("mode", Text, nullable=False),
    Column("round", Integer, nullable=False),
    Column("sequence_id", Integer, ForeignKey("sequences.id"), nullable=False),
    Column("cycles", Integer, nullable=False),
    Column("worker", Text, nullable=False),
    *(Column(f"{when}_{name}", _STATE_TYPES.get(name, Float())) for when in ("before", "after") for name in STATE_FIELDS),
    Column("samples", LargeBinary, nullable=False),
    Column("repeats", Integer, nullable=False, server_default=text("1")),
    UniqueConstraint("plan_id", "attempt", name="nothing_is_measured_twice"),
    CheckConstraint("(attempt = 0) = (discarded IS NULL)", name="discarded_visits_do_not_count"),
)

# Why measuring a subject ended: the rule, and how far its figure could be trusted then.
OUTCOMES = Table(
    "outcomes",
    METADATA,
    Column("subject_id", Integer, ForeignKey("subjects.id"), primary_key=True),
    Column("mode", Text, primary_key=True),
    Column("stopped_by", Text, nullable=False),
    Column("relative_interval", Float),
    Column("visits", Integer, nullable=False),
)

# `numbers` is JSON.
WARNINGS = Table(
    "warnings",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("code", Text, nullable=False),
    Column("numbers", Text, nullable=False),
    Column("text", Text, nullable=False),
    Column("unix_time_s", Float, nullable=False),
)

# Which collector is about to make a visit, and until when it is waited for.
CLAIMS = Table(
    "claims",
    METADATA,
    Column("plan_id", Text, primary_key=True),
    Column("collector", Text, nullable=False),
    Column("until_unix_s", Float, nullable=False),
)

# Figures without samples here: interpolated, or imported; `source` is JSON: what they rest on.
FIGURES = Table(
    "figures",
    METADATA,
    Column("subject_id", Integer, ForeignKey("subjects.id"), primary_key=True),
    Column("mode", Text, primary_key=True),
    Column("origin", Text, nullable=False),
    Column("latency_ns", Float, nullable=False),
    Column("relative_error", Float),
    Column("visits", Integer, nullable=False),
    Column("samples", Integer, nullable=False),
    Column("source", Text, nullable=False),
)

# `fields` is the protocol as JSON with sorted keys; `architecture` likewise.
ACCURACY_PROTOCOLS = Table(
    "accuracy_protocols",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("fields", Text, nullable=False, unique=True),
)
ACCURACIES = Table(
    "accuracies",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("protocol_id", Integer, ForeignKey("accuracy_protocols.id"), nullable=False),
    Column("architecture", Text, nullable=False),
    Column("top1", Float, nullable=False),
    Column("hits", LargeBinary, nullable=False),
    UniqueConstraint("protocol_id", "architecture", name="nothing_is_evaluated_twice"),
)
