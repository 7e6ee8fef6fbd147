"""Sampled accuracies: what a row says, under which protocol it was evaluated, and its place in a store."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from sqlalchemy import Connection, select

from luts.facts import to_json
from luts.schema import ACCURACIES, ACCURACY_PROTOCOLS
from supernets.space import Architecture

TOP1_TOLERANCE = 1e-6  # top-1 may have passed through float32 on its way here


@dataclass(frozen=True)
class AccuracyProtocol:
    """How accuracies were evaluated; rows of different protocols are never compared.

    Raises:
        ValueError: no validation images, or a negative number of calibration images.
    """

    space: str
    weights_sha256: str
    dataset: str
    validation_images: int
    calibration_images: int
    calibration_seed: int
    precision: str

    def __post_init__(self) -> None:
        if self.validation_images < 1 or self.calibration_images < 0:
            raise ValueError(
                f"validation_images is {self.validation_images} and calibration_images is {self.calibration_images}; expected at least 1 and 0"
            )

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as a JSON-serialisable mapping."""
        return asdict(self)


@dataclass(frozen=True)
class AccuracyRow:
    """One evaluated architecture: top-1 as a share (0 to 1), and which images were right, one bit each, first image first.

    Empty `hits` mean that only the share is known.

    Raises:
        ValueError: the share is out of range, or the bits say another one.
    """

    protocol: AccuracyProtocol
    architecture: Architecture
    top1: float
    hits: bytes = b""

    def __post_init__(self) -> None:
        if self.architecture.space != self.protocol.space:
            raise ValueError(f"architecture of space {self.architecture.space!r} given with accuracies of space {self.protocol.space!r}")
        if not 0.0 <= self.top1 <= 1.0:
            raise ValueError(f"top1 is {self.top1}; expected a share from 0 to 1")
        if self.hits:
            self._check_hits()

    def _check_hits(self) -> None:
        images = self.protocol.validation_images
        if len(self.hits) != (images + 7) // 8:
            raise ValueError(f"hits are {len(self.hits)} bytes; expected {(images + 7) // 8} for {images} images")
        bits = np.unpackbits(np.frombuffer(self.hits, dtype=np.uint8))
        if bits[images:].any() or abs(float(bits.sum()) / images - self.top1) > TOP1_TOLERANCE:
            raise ValueError(f"top1 is {self.top1}, but hits count {int(bits.sum())} of {images} images; expected the same share")


def insert(connection: Connection, protocol: AccuracyProtocol, rows: Sequence[AccuracyRow]) -> None:
    """Add rows of one protocol.

    Raises:
        IntegrityError: an architecture is there already.
    """
    text = to_json(protocol.to_dict())
    same = select(ACCURACY_PROTOCOLS.c.id).where(ACCURACY_PROTOCOLS.c.fields == text)
    if connection.execute(same).scalar_one_or_none() is None:
        connection.execute(ACCURACY_PROTOCOLS.insert().values(fields=text))
    protocol_id = connection.execute(same).scalar_one()
    connection.execute(
        ACCURACIES.insert(),
        [{"protocol_id": protocol_id, "architecture": to_json(row.architecture.to_dict()), "top1": row.top1, "hits": row.hits} for row in rows],
    )


def read(connection: Connection, protocol: AccuracyProtocol | None) -> list[AccuracyRow]:
    """Return the rows in order of evaluation: of one protocol, or of all."""
    joined = select(ACCURACIES, ACCURACY_PROTOCOLS.c.fields).join(ACCURACY_PROTOCOLS).order_by(ACCURACIES.c.id)
    if protocol is not None:
        joined = joined.where(ACCURACY_PROTOCOLS.c.fields == to_json(protocol.to_dict()))
    rows = connection.execute(joined).all()
    protocols = {text: AccuracyProtocol(**json.loads(text)) for text in {row.fields for row in rows}}
    return [AccuracyRow(protocols[row.fields], Architecture.from_dict(json.loads(row.architecture)), row.top1, row.hits) for row in rows]
