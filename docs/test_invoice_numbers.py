"""Copy this file. Remove the LOCK, and see what the test shows."""

import psycopg

SETUP = ["CREATE TABLE invoices (number int)"]


def create_invoice(url: str) -> None:
    with psycopg.connect(url) as connection:
        connection.execute("LOCK TABLE invoices IN EXCLUSIVE MODE")
        number = connection.execute("SELECT count(*) + 1 FROM invoices").fetchone()[0]
        connection.execute("INSERT INTO invoices VALUES (%s)", [number])


def numbers_are_unique(seen) -> None:
    assert not seen.rows("SELECT number FROM invoices GROUP BY number HAVING count(*) > 1"), "a number was issued twice"


def test_two_clients_never_get_the_same_number(racegate) -> None:
    racegate.explore(setup=SETUP, clients=[create_invoice, create_invoice], invariants=[numbers_are_unique])
