from __future__ import annotations

import itertools

import pytest
from postgres_server import postgres_server
from store_contract import StoreContract


@pytest.fixture(scope="module")
def server():
    with postgres_server() as url:
        yield url


@pytest.fixture
def place(server, counter=itertools.count()):  # noqa: B008
    return f"{server}&schema=store_{next(counter)}"


class TestPostgresStore(StoreContract):
    pass
