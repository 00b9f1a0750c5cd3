"""The reference against pgbench running the same statements, in turn: gapless creates and payments.

The statements are not copied by hand: one operation is carried out while its connection is listened to, and what went over
it becomes pgbench's script. pgbench runs it in both of its ways: each statement as text, which is what it does unless told
otherwise, and prepared. The medians of interleaved rounds are compared, on a server that keeps its promises (``fsync`` on).
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from psycopg import sql

from benchmarks.bench_stress import run_pgbench
from benchmarks.fleet import AT, Fleet, Job, nothing
from harness.stores import Database, StoreKind, StoreOptions, open_store
from reference_impl.base.libpq import NAME, Wire
from reference_impl.provider import PROVIDER

SECONDS = 2.0
ROUNDS = 5
CLIENTS = (1, 8)
MODES = ("simple", "prepared")
"""What pgbench calls its ways of sending a statement."""
SETTINGS: Mapping[str, Any] = {"isolation": "read_committed", "unique_index": False, "transaction": True}

PLACE = {"company": "acme", "document_type": "invoice", "branch": "Main", "at": AT, "amount": 100}

TOKEN, CLIENT = 770_001, 990_001
"""Numbers that stand for the token and the client where one operation is listened to."""


def create(connection: Any, client: int, n: int) -> None:
    """Create a document."""
    connection.call("create", PLACE, f"{client}{n}", nothing)


def pay(connection: Any, client: int, n: int) -> None:
    """Submit a payment on the client's own term, and approve it."""
    where = {"subject": f"p{client}{n}", "at": AT}
    connection.call("submit", {**where, "term": f"account{client}/1", "amount": 1}, f"s{client}{n}", nothing)
    connection.call("approve", where, f"a{client}{n}", nothing)


def nobody(connection: Any, client: int) -> None:
    """Need no scene."""


def account(connection: Any, client: int) -> None:
    """Open the client's account, with terms that last for a while."""
    asked = {"subject": f"account{client}", "assessment": 10**12, "at": AT}
    connection.call("open_account", asked, f"open{client}", nothing)


@dataclass(frozen=True, kw_only=True)
class Path:
    """A variant, what its clients do, and what must be there before."""

    name: str
    variant: str
    job: Job
    scene: Callable[[Any, int], None] = nobody


PATHS = (
    Path(name="gapless create", variant="pg.counter_row", job=create),
    Path(name="gapless create, one statement", variant="pg.counter_row_one_statement", job=create),
    Path(name="payment: submit and approve", variant="pg.approve_in_one_transaction", job=pay, scene=account),
)


class Listener:
    """Writes down what goes over a connection, with its values in place."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def __enter__(self) -> Listener:
        self._run, self._command = Wire.run, Wire.command
        heard = self.lines
        run, command = self._run, self._command

        def hearing_run(wire: Wire, text: str, values: Mapping[str, Any]) -> Any:
            answer = run(wire, text, values)  # begins a transaction first, where none is
            heard.append(_literal(text, values))
            return answer

        def hearing_command(wire: Wire, text: bytes) -> None:
            heard.append(text.decode())
            command(wire, text)

        Wire.run, Wire.command = hearing_run, hearing_command  # type: ignore[method-assign]
        return self

    def __exit__(self, *error: object) -> None:
        Wire.run, Wire.command = self._run, self._command  # type: ignore[method-assign]


def script_of(path: Path, database: Database) -> str:
    """Return pgbench's script for one job of the path."""
    connection = PROVIDER.target(path.variant, _settings(path)).connect(database, 0)
    path.scene(connection, CLIENT)
    with Listener() as listener:
        path.job(connection, CLIENT, TOKEN)
    connection.close()
    lines = [" ".join(line.split()) + ";" for line in listener.lines]
    return "\n".join([r"\set token random(1, 1000000000000000)", *lines]) + "\n"


def _literal(text: str, values: Mapping[str, Any]) -> str:
    """Return the statement with its values; where one holds the token or the client, pgbench puts its own in."""
    return NAME.sub(lambda found: _value(values[found[1]]), text)


def _value(value: Any) -> str:
    if isinstance(value, str) and value.startswith("{"):
        return f"({_text(value)})::jsonb"
    return _text(value)


def _text(value: Any) -> str:
    plain = sql.Literal(value).as_string(None).replace("E'", "'").strip()
    return plain.replace(f"{CLIENT}{TOKEN}", "' || :token || '").replace(str(CLIENT), "' || :client_id || '")


def _settings(path: Path) -> Mapping[str, Any]:
    return {name: value for name, value in SETTINGS.items() if name in PROVIDER.settings(path.variant)}


def _database(store: Any, path: Path, clients: int) -> Database:
    database: Database = store.create_database()
    fleet = Fleet(variant=path.variant, job=path.job, settings=_settings(path))
    fleet.install(database)
    connection = PROVIDER.target(path.variant, fleet.settings).connect(database, 0)
    for client in range(clients):
        path.scene(connection, client)
    connection.close()
    return database


def main() -> None:
    """Print the table."""
    store = open_store(StoreKind.POSTGRES, "embedded", StoreOptions(connections=60, fsync=True))
    try:
        print(f"{'pgbench':>52}{'reference':>24}")
        print(f"{'path':<32}{'clients':>8}{'text':>12}{'prepared':>12}{'/s':>8}{'of text':>9}{'of prepared':>13}")
        for path in PATHS:
            fleet = Fleet(variant=path.variant, job=path.job, settings=_settings(path))
            for clients in CLIENTS:
                rounds: list[tuple[float, float, float]] = []
                for _ in range(ROUNDS):
                    database = _database(store, path, clients)
                    script = script_of(path, database)
                    text, prepared = (run_pgbench(script, database, clients, SECONDS, mode=mode) for mode in MODES)
                    rounds.append((text, prepared, fleet.rate(database, clients, SECONDS)))
                    store.drop_database(database)
                text, prepared, ours = (statistics.median(side) for side in zip(*rounds, strict=True))
                of_text = statistics.median(ours / text for text, _, ours in rounds)
                of_prepared = statistics.median(ours / prepared for _, prepared, ours in rounds)
                figures = f"{text:>12,.0f}{prepared:>12,.0f}{ours:>8,.0f}{of_text:>9.2f}{of_prepared:>13.2f}"
                print(f"{path.name:<32}{clients:>8}{figures}", flush=True)
    finally:
        store.close()


if __name__ == "__main__":
    main()
