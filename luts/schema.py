"""The tables of a measurement store; the tests pin them word by word.

Versions of the schema:
1   facts, subjects, sequences, visits, accuracy_protocols, accuracies
2   visits.repeats; outcomes, warnings, claims, figures
"""

from __future__ import annotations

from sqlalchemy import CheckConstraint, Column, ForeignKey, Integer, MetaData, Table, UniqueConstraint, text

from luts.columns import BYTES, LARGE, NUMBER, TEXT, WHOLE

SCHEMA_VERSION = 2
FILE_KIND = "elastic-latency measurements"  # the fact that tells a store from any other SQLite file

# Of the device, before and after a visit; NULL where the device does not tell.
STATE_FIELDS = ("unix_time_ns", "load_1m", "frequency_khz", "temperature_c", "throttled", "memory_available_kb")
_STATE_TYPES = {"unix_time_ns": LARGE, "frequency_khz": WHOLE, "throttled": WHOLE, "memory_available_kb": LARGE}

METADATA = MetaData()

# Name → JSON value: kind, schema_version, condition, collection, provenance.
FACTS = Table(
    "facts",
    METADATA,
    Column("name", TEXT, primary_key=True),
    Column("value", TEXT, nullable=False),
)

# What is measured: a block (spec: its BlockSpec) or a whole network (spec: name, architecture, blocks).
SUBJECTS = Table(
    "subjects",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("key", TEXT, nullable=False, unique=True),
    Column("kind", TEXT, nullable=False),
    Column("role", TEXT, nullable=False),
    Column("spec", TEXT, nullable=False),
    CheckConstraint("kind IN ('block', 'network')", name="kind_is_known"),
)

# Subjects run one after another as one visit; `subjects` is their ids joined by spaces, so that equal sequences are one.
SEQUENCES = Table(
    "sequences",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("subjects", TEXT, nullable=False, unique=True),
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
    Column("plan_id", TEXT, nullable=False),
    Column("attempt", WHOLE, nullable=False),
    Column("discarded", TEXT),
    Column("mode", TEXT, nullable=False),
    Column("round", WHOLE, nullable=False),
    Column("sequence_id", Integer, ForeignKey("sequences.id"), nullable=False),
    Column("cycles", WHOLE, nullable=False),
    Column("worker", TEXT, nullable=False),
    *(Column(f"{when}_{name}", _STATE_TYPES.get(name, NUMBER)) for when in ("before", "after") for name in STATE_FIELDS),
    Column("samples", BYTES, nullable=False),
    Column("repeats", WHOLE, nullable=False, server_default=text("1")),
    UniqueConstraint("plan_id", "attempt", name="nothing_is_measured_twice"),
    CheckConstraint("(attempt = 0) = (discarded IS NULL)", name="discarded_visits_do_not_count"),
)

# Why measuring a subject ended: the rule, and how far its figure could be trusted then.
OUTCOMES = Table(
    "outcomes",
    METADATA,
    Column("subject_id", Integer, ForeignKey("subjects.id"), primary_key=True),
    Column("mode", TEXT, primary_key=True),
    Column("stopped_by", TEXT, nullable=False),
    Column("relative_interval", NUMBER),
    Column("visits", WHOLE, nullable=False),
)

# `numbers` is JSON.
WARNINGS = Table(
    "warnings",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("code", TEXT, nullable=False),
    Column("numbers", TEXT, nullable=False),
    Column("text", TEXT, nullable=False),
    Column("unix_time_s", NUMBER, nullable=False),
)

# Which collector is about to make a visit, and until when it is waited for.
CLAIMS = Table(
    "claims",
    METADATA,
    Column("plan_id", TEXT, primary_key=True),
    Column("collector", TEXT, nullable=False),
    Column("until_unix_s", NUMBER, nullable=False),
)

# Figures without samples here: interpolated, or imported; `source` is JSON: what they rest on.
FIGURES = Table(
    "figures",
    METADATA,
    Column("subject_id", Integer, ForeignKey("subjects.id"), primary_key=True),
    Column("mode", TEXT, primary_key=True),
    Column("origin", TEXT, nullable=False),
    Column("latency_ns", NUMBER, nullable=False),
    Column("relative_error", NUMBER),
    Column("visits", WHOLE, nullable=False),
    Column("samples", WHOLE, nullable=False),
    Column("source", TEXT, nullable=False),
)

# `fields` is the protocol as JSON with sorted keys; `architecture` likewise.
ACCURACY_PROTOCOLS = Table(
    "accuracy_protocols",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("fields", TEXT, nullable=False, unique=True),
)
ACCURACIES = Table(
    "accuracies",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("protocol_id", Integer, ForeignKey("accuracy_protocols.id"), nullable=False),
    Column("architecture", TEXT, nullable=False),
    Column("top1", NUMBER, nullable=False),
    Column("hits", BYTES, nullable=False),
    UniqueConstraint("protocol_id", "architecture", name="nothing_is_evaluated_twice"),
)
