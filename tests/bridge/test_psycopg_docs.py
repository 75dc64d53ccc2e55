"""The code of docs/bridges.md on PostgreSQL, and the examples in the docstrings of ``bridge.psycopg``."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from silly import bridge, task
from tests.servers.postgres import Postgres
from tests.test_docs_bridges import section
from tests.test_docstring_examples import EXAMPLES, served

TABLES = """
create table customers (name text);
insert into customers values ('Li'), ('Ada'), ('Bo');
create table stock (item text, n int);
insert into stock values ('apple', 50);
create table orders (n int);
"""


@pytest.fixture
def shop(postgres: Postgres, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What the page and the examples expect: the database ``shop``, where they look for it."""
    with psycopg.connect(postgres.conninfo, autocommit=True) as conn:
        conn.execute("create database shop")
        with psycopg.connect(postgres.conninfo, dbname="shop") as inside:
            inside.execute(TABLES)
        for name, value in (("PGPORT", postgres.port), ("PGUSER", "postgres"), ("PGSSLMODE", "disable")):
            monkeypatch.setenv(name, str(value))
        yield
        conn.execute("drop database shop (force)")


def test_the_page(shop: None) -> None:
    names = section("PostgreSQL")
    assert names["names"](2) == [("Ada",), ("Bo",)]
    with names["db"]:
        assert sorted(task.map(names["sell"], ["apple"] * 10, 10)) == list(range(40, 50))
    assert names["report"]() == [("too slow",)]


@pytest.mark.parametrize("name", [name for name in EXAMPLES if served(name)])
def test_the_example_runs(shop: None, name: str) -> None:
    source = textwrap.dedent(EXAMPLES[name]).replace("db.example", "localhost")
    conn = bridge.psycopg.connect("host=localhost dbname=shop")
    names: dict[str, Any] = {"bridge": bridge, "conn": conn}
    exec(source, names)
    conn.close()
    if "db" in names:
        names["db"].close()
