"""Somebody's own service, described by a file: run, explored and replayed through the unmodified service."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import psycopg
import pymongo
import pytest

from harness.cli.main import main
from harness.config.sections import TargetSection
from harness.model import EnvironmentProblem
from harness.run.recorded import recorded_at
from harness.run.registry import reports
from harness.run.service_process import ServiceProcess, wait_until_healthy
from harness.stores import Database
from harness.stores.inplace import InPlaceMongo, InPlacePostgres
from harness.stores.mongo import lasting_transactions
from harness.stores.ports import free_port
from tests.services import invoices

TOKEN = "s3cr3t-t0ken"

DESCRIPTION = """
policy = {{ name = "ours", format = "INV-{{00000}}", continuity = "gapless" }}

[target]
url = "{url}"
{command}
environment = {{ BUG = "{bug}", API_TOKEN = "${{API_TOKEN}}" }}
headers = {{ Authorization = "Bearer ${{API_TOKEN}}" }}

[operations.create]
path = "/companies/{{company}}/invoices"
body = {{ cents = "{{amount}}", reference = "{{token}}" }}
answer = {{ number = "invoice.number", text = "invoice.text" }}
constants = {{ scope = "{{company}}", period = "" }}

[store]
{store}

[books.documents]
sql = \"\"\"
SELECT id, company AS scope, '' AS period, number, 'INV-' || lpad(number::text, 5, '0') AS text,
       reference AS token, 'issued' AS status, created AS dated, cents AS amount FROM invoices;\"\"\"

[[runs]]
scenario = "concurrent_creates"
clients = 8
ops = 120
"""
COMMAND = f'command = ["{sys.executable}", "{invoices.__file__}"]'


@pytest.fixture(autouse=True)
def api_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("API_TOKEN", TOKEN)


def described(folder: Path, *, bug: bool, database: Database | None = None, **more: str) -> Path:
    path = folder / "racegate.toml"
    values = {"url": "http://127.0.0.1:0", "command": COMMAND, "store": 'postgres = "embedded"', **more}
    if database is not None:
        values["store"] = f'postgres = "{database.url}"\ndisposable = "{database.name}"'
    path.write_text(DESCRIPTION.format(bug=int(bug), **values))
    return path


def called(folder: Path, *words: str) -> tuple[int, dict[str, Any]]:
    status = main([*words, "--out", str(folder / "runs"), "--json", str(folder / "result.json")])
    return status, json.loads((folder / "result.json").read_text())


def test_a_bug_is_found_at_full_speed_and_no_secret_is_kept(
    tmp_path: Path, postgres_database: Database, capfd: pytest.CaptureFixture[str]
) -> None:
    config = described(tmp_path, bug=True, database=postgres_database)
    status, result = called(tmp_path, "run", "--config", str(config), "--seed", "1")

    assert status == 1
    assert "N-UNIQ" in {f["invariant"] for f in result["findings"]}
    assert result["operations"] == {"ok": 120, "fail": 0, "info": 0}
    kept = [p for p in (tmp_path / "runs").rglob("*") if p.is_file() and TOKEN.encode() in p.read_bytes()]
    assert kept == []
    assert TOKEN not in "".join(capfd.readouterr())


def test_a_run_folder_is_judged_and_reported_by_the_configurations_own_policy_where_that_is_gone(
    tmp_path: Path, postgres_database: Database
) -> None:
    config = described(tmp_path, bug=False, database=postgres_database)
    status, result = called(tmp_path, "run", "--config", str(config), "--seed", "1")
    config.unlink()

    assert status == 0
    folder = Path(result["folder"])
    assert main(["check", str(folder)]) == 0
    page = reports()["html"].render([folder])
    assert "Policy ours: no number may be missing" in page
    assert "not known here" not in page
    [recorded] = recorded_at(folder)
    assert recorded.measured.shares["gaps"].hits == 0


def test_an_answer_that_never_holds_what_it_should_is_told(tmp_path: Path, postgres_database: Database) -> None:
    config = described(tmp_path, bug=False, database=postgres_database)
    assert '"invoice.number"' in config.read_text()
    config.write_text(config.read_text().replace('"invoice.number"', '"invoice.nummer"'))
    status, result = called(tmp_path, "run", "--config", str(config), "--seed", "1")

    assert (status, result["verdict"]) == (4, "unknown")
    [told] = [f["message"] for f in result["findings"] if f["class"] == "indeterminate"]
    assert told == (
        "none of 120 answers to create held its number at 'invoice.nummer': what clients were told is not checked; correct or "
        "remove number below operations.create.answer"
    )


def changed(config: Path, *changes: tuple[str, str]) -> Path:
    text = config.read_text()
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    config.write_text(text)
    return config


def test_a_column_that_is_not_the_token_accuses_no_sound_service(tmp_path: Path, postgres_database: Database) -> None:
    config = changed(described(tmp_path, bug=False, database=postgres_database), ("reference AS token", "id::text AS token"))
    status, result = called(tmp_path, "run", "--config", str(config), "--seed", "1")

    assert (status, result["verdict"]) == (4, "unknown")
    [told] = [f["message"] for f in result["findings"]]
    assert told.startswith("no row of documents holds a token that a client sent: a row holds '1' where a client sent 'c")


def test_without_a_token_an_answer_that_names_no_scope_is_matched_where_documents_have_one(
    tmp_path: Path, postgres_database: Database
) -> None:
    config = changed(
        described(tmp_path, bug=False, database=postgres_database),
        ("reference AS token, ", ""),
        ('constants = { scope = "{company}", period = "" }', ""),
    )
    assert called(tmp_path, "run", "--config", str(config), "--seed", "1")[0] == 0

    config = changed(config, ("company AS scope", "company || '/' || number % 2 AS scope"), ('"gapless"', '"none"'))
    status, result = called(tmp_path, "run", "--config", str(config), "--seed", "1")
    assert (status, result["verdict"]) == (4, "unknown")
    assert any("answers name no scope, and documents are of several" in f["message"] for f in result["findings"])


OLD_ROWS = """
CREATE TABLE invoices (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, company text NOT NULL,
    number bigint NOT NULL, reference text NOT NULL, cents bigint NOT NULL, created timestamptz NOT NULL DEFAULT now());
INSERT INTO invoices (company, number, reference, cents) VALUES ('of old', 7, 'PO-77', 5), ('of old', 9, 'PO-77', 5)
"""


@pytest.mark.parametrize("command", ["run", "explore"])
def test_what_was_wrong_before_the_race_is_not_laid_at_its_door(
    tmp_path: Path, postgres_database: Database, command: str
) -> None:
    with psycopg.connect(postgres_database.url) as connection:
        connection.execute(OLD_ROWS)
    config = described(tmp_path, bug=False, database=postgres_database)
    status, result = called(tmp_path, command, "--config", str(config), "--seed", "1")

    assert (status, result["verdict"]) == (4, "unknown")
    assert {f["class"] for f in result["findings"]} == {"indeterminate"}
    assert "the rows from before the race break N-" in result["findings"][0]["message"]


def test_exploring_finds_the_bug_through_a_pool_and_a_replay_breaks_again(
    tmp_path: Path, postgres_database: Database, capsys: pytest.CaptureFixture[str]
) -> None:
    config = str(described(tmp_path, bug=True, database=postgres_database))

    status, result = called(tmp_path, "explore", "--config", config, "--seed", "1")

    assert (status, result["schedules"]["diverged"]) == (1, 0)
    [finding] = [f for f in result["findings"] if f["invariant"] == "N-UNIQ"]
    assert main(["replay", finding["schedule"], "--config", config, "--out", str(tmp_path / "runs"), "-k", "3"]) == 1
    assert "3 of 3 broke again" in capsys.readouterr().out


def test_the_line_that_is_printed_repeats_what_was_found_as_it_is(tmp_path: Path) -> None:
    described(tmp_path, bug=True).rename(tmp_path / "shop.toml")
    racegate = str(Path(sys.executable).with_name("racegate"))

    found = subprocess.run(
        [racegate, "explore", "--config", "shop.toml", "--seed", "1"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    [line] = [line.partition("again: ")[2] for line in found.stdout.splitlines() if "again: racegate replay " in line][:1]
    again = subprocess.run([racegate, *shlex.split(line)[1:]], cwd=tmp_path, capture_output=True, text=True, check=False)

    assert (found.returncode, again.returncode) == (1, 1), found.stderr + again.stderr
    assert "5 of 5 broke again" in again.stdout


def test_a_placeholder_that_the_scenario_does_not_fill_is_refused_before_anything_is_sent(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = described(tmp_path, bug=False)
    config.write_text(config.read_text().replace("{company}/invoices", "{compny}/invoices"))

    for command in ("run", "explore"):
        assert main([command, "--config", str(config), "--out", str(tmp_path / "runs")]) == 2
        assert (
            "racegate.toml, [operations.create]: the operation has no argument {compny}; did you mean" in capsys.readouterr().err
        )
    assert not (tmp_path / "runs").exists()


def test_the_fix_is_explored_to_the_end_and_is_quiet(tmp_path: Path) -> None:
    status, result = called(tmp_path, "explore", "--config", str(described(tmp_path, bug=False)), "--seed", "1")

    assert (status, result["verdict"], result["schedules"]["coverage"]) == (0, "pass", "exhaustive")
    assert result["schedules"]["explored"] > 1


def test_a_service_that_has_other_traffic_is_explored_when_that_is_named(tmp_path: Path, postgres_database: Database) -> None:
    config = described(tmp_path, bug=True, database=postgres_database)
    text = config.read_text().replace('BUG = "1"', 'HEARTBEAT = "1", BUG = "1"')
    config.write_text(text.replace("[target]", '[target]\nbackground = ["^UPDATE heartbeat "]'))

    status, result = called(tmp_path, "explore", "--config", str(config), "--seed", "1")

    assert (status, result["schedules"]["diverged"]) == (1, 0)
    assert "N-UNIQ" in {f["invariant"] for f in result["findings"]}


def test_a_service_that_somebody_starts_is_waited_for_with_the_url_that_it_needs(
    tmp_path: Path, postgres_database: Database
) -> None:
    port = free_port()
    config = described(tmp_path, bug=True, url=f"http://127.0.0.1:{port}", command="", database=postgres_database)
    racegate = [sys.executable, "-c", "from harness.cli.main import entry; entry()"]
    words = ["explore", "--config", str(config), "--seed", "1", "--out", str(tmp_path), "--json", str(tmp_path / "result.json")]
    with subprocess.Popen([*racegate, *words], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True) as exploring:
        assert exploring.stderr is not None
        said = next(line for line in exploring.stderr if "start the service with this database" in line)
        proxied = said.split()[-1]
        who, where = postgres_database.url.split("//")[1].split("@")[0], proxied.split("@")[1]
        assert who.partition(":")[2] not in said, "no password is printed"
        environment = {
            **os.environ,
            "DATABASE_URL": f"postgresql://{who}@{where}",
            "PORT": str(port),
            "API_TOKEN": TOKEN,
            "BUG": "1",
        }
        with subprocess.Popen([sys.executable, invoices.__file__], env=environment) as service:
            try:
                exploring.communicate(timeout=120)
            finally:
                service.terminate()
    assert exploring.returncode == 1
    assert "N-UNIQ" in {f["invariant"] for f in json.loads((tmp_path / "result.json").read_text())["findings"]}


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_rows_are_put_back_behind_the_last_request_of_a_run_that_is_broken_off(
    tmp_path: Path, postgres_database: Database, sent: int
) -> None:
    config = described(tmp_path, bug=False, database=postgres_database)
    config.write_text(config.read_text().replace("environment = {", 'environment = { SLOW = "1",'))
    words = ["run", "--config", str(config), "--duration", "60s", "--out", str(tmp_path / "runs")]
    with psycopg.connect(postgres_database.url, autocommit=True) as connection:
        connection.execute(invoices.SCHEMA)
        connection.execute("INSERT INTO invoices (company, number, reference, cents) VALUES ('other', 1, 'before', 5)")
        racegate = [sys.executable, "-c", "from harness.cli.main import entry; entry()"]
        with subprocess.Popen([*racegate, *words], stderr=subprocess.PIPE, text=True) as run:
            while connection.execute("SELECT count(*) FROM invoices").fetchone() == (1,):
                assert run.poll() is None
            run.send_signal(sent)
            _, said = run.communicate(timeout=60)
        rows = connection.execute("SELECT company, number FROM invoices").fetchall()

    assert rows == [("other", 1)], said


class _Up(BaseHTTPRequestHandler):
    """Healthy, but for two paths."""

    def do_GET(self) -> None:
        self.send_response({"/nowhere": 404, "/broken": 500}.get(self.path, 204))
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Keep quiet."""


def test_a_service_that_was_there_before_is_waited_for_until_it_is_connected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.run.service_process.ASK_EVERY", 0.001)
    asked: list[int] = []

    def connections() -> int:
        asked.append(int(len(asked) == 3))
        return asked[-1]

    with ThreadingHTTPServer(("127.0.0.1", 0), _Up) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        here = f"http://127.0.0.1:{server.server_port}"
        wait_until_healthy(here, TargetSection(url=here), limit=60, process=None, shown=here, connections=connections)
        assert asked == [0, 0, 0, 1]
        wait_until_healthy(here, TargetSection(url=here), limit=0, process=None, shown=here, connections=lambda: 0)
        server.shutdown()


@pytest.mark.parametrize(
    ("health", "own", "says"),
    [
        ("/nowhere", True, "it answers 404; set target.health (now /nowhere) to a path that answers 2xx or 3xx; it said nothing"),
        ("/nowhere", False, "it answers 404; set target.health (now /nowhere) to a path that answers 2xx or 3xx"),
        ("/broken", True, "it answers 500; it said nothing"),
    ],
)
def test_a_service_that_is_not_healthy_in_time_is_told_with_what_to_set(
    tmp_path: Path, health: str, own: bool, says: str
) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Up) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        here = f"http://127.0.0.1:{server.server_port}"
        section = TargetSection(url=here, health=health, command=("sleep", "60"))
        more: dict[str, Any] = {"url": here, "database_url": None, "root": tmp_path, "log": tmp_path / "log"}
        process = ServiceProcess(section, **more) if own else None
        try:
            with pytest.raises(EnvironmentProblem) as told:
                wait_until_healthy(here, section, limit=0, process=process, shown=here)
        finally:
            if process is not None:
                process.close()
            server.shutdown()

    assert str(told.value) == f"{here}{health} is not healthy after 0 s: {says}"


def test_a_service_that_runs_already_works_on_its_own_database_which_is_put_back(
    tmp_path: Path, postgres_database: Database
) -> None:
    port = free_port()
    environment = {**os.environ, "DATABASE_URL": postgres_database.url, "PORT": str(port), "API_TOKEN": TOKEN}
    here = f"http://127.0.0.1:{port}"
    with psycopg.connect(postgres_database.url, autocommit=True) as connection:
        connection.execute(invoices.SCHEMA)
        connection.execute("INSERT INTO invoices (company, number, reference, cents) VALUES ('other', 1, 'before', 5)")
        with subprocess.Popen([sys.executable, invoices.__file__], env=environment) as process:
            try:
                config = described(tmp_path, bug=False, url="http://127.0.0.1:1", command="", database=postgres_database)
                wait_until_healthy(here, TargetSection(url=here), limit=30, process=None, shown=here)
                results = [called(tmp_path, "run", "--target", here, "--config", str(config)) for _ in range(2)]
            finally:
                process.terminate()
        rows = connection.execute("SELECT company, number FROM invoices").fetchall()
        schemas = connection.execute("SELECT 1 FROM pg_namespace WHERE nspname LIKE 'racegate%'").fetchall()

    assert [(status, result["operations"]["ok"]) for status, result in results] == [(0, 120), (0, 120)]
    assert (rows, schemas) == ([("other", 1)], [])
    assert {result["target"] for _, result in results} == {here}, "where it was, and not where the file says"
    asked = [json.loads((Path(result["folder"]) / "run.json").read_text()) for _, result in results]
    assert {(told["config"], told["url"]) for told in asked} == {(str(config), here)}


def test_a_service_that_is_not_there_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = described(tmp_path, bug=False, url=f"http://127.0.0.1:{free_port()}", command="start_limit = 0.3", store="")

    assert main(["run", "--config", str(config)]) == 3
    assert "is not healthy after 0.3 s: nothing answers; is it running?" in capsys.readouterr().err


def test_a_service_whose_host_looks_like_production_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = described(tmp_path, bug=False, url="https://api.prod.example.com", command="", store="")

    assert main(["run", "--config", str(config)]) == 2
    assert "the service's host 'api.prod.example.com' looks like production" in capsys.readouterr().err


def test_a_service_without_a_database_is_judged_by_its_answers_alone(
    tmp_path: Path, postgres_database: Database, capsys: pytest.CaptureFixture[str]
) -> None:
    config = described(tmp_path, bug=True, store="")
    text = config.read_text().replace('BUG = "1"', f'DATABASE_URL = "{postgres_database.url}", BUG = "1"')
    config.write_text(text[: text.index("[books.documents]")] + text[text.index("[[runs]]") :])

    status, result = called(tmp_path, "run", "--config", str(config))

    assert (status, result["facts"]["store"]) == (1, None)
    assert "has no [store]: answers alone are judged, and what is written stays" in capsys.readouterr().err
    assert "N-UNIQ" in {f["invariant"] for f in result["findings"]}
    assert main(["explore", "--config", str(config)]) == 2, "there is no wire that could be held"


def test_a_service_that_ends_at_once_is_quoted_without_its_secret(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = f"""command = ["{sys.executable}", "-c", "import os; print('no', os.environ['API_TOKEN']); raise SystemExit(7)"]"""

    assert main(["run", "--config", str(described(tmp_path, bug=False, command=command))]) == 3
    assert "the service ended with status 7 before it was healthy; it said: no ***" in capsys.readouterr().err


def test_a_program_that_is_not_installed_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "--config", str(described(tmp_path, bug=False, command='command = "no-such-program serve"'))]) == 3
    assert "target.command needs 'no-such-program', which is not installed" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("store", "says"),
    [
        ('postgres = "postgresql://u:hunter22@127.0.0.1:1/shop"', 'say so in the configuration: [store] disposable = "shop"'),
        (
            'postgres = "postgresql://u:hunter22@127.0.0.1:1/shop"\ndisposable = "shop2"',
            "racegate: store.disposable = 'shop2' does not name the URL's database, 'shop'; nothing was touched",
        ),
        ('postgres = "postgresql://u:hunter22@127.0.0.1:1/shop-prod"\ndisposable = "shop-prod"', "looks like production"),
        (
            'postgres = "postgresql://u:hunter22@db.prod.example.com/shop"\ndisposable = "shop"',
            "the host 'db.prod.example.com' looks",
        ),
    ],
)
def test_a_database_that_is_not_marked_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], store: str, says: str
) -> None:
    assert main(["run", "--config", str(described(tmp_path, bug=False, store=store))]) == 2
    said = capsys.readouterr().err
    assert says in said
    assert "hunter22" not in said
    assert said.count("\n") == 1


def test_a_service_that_does_not_use_the_wire_has_not_passed(
    tmp_path: Path, postgres_database: Database, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = described(tmp_path, bug=False, database=postgres_database)
    config.write_text(config.read_text().replace("[target]", '[target]\ndatabase_variable = "UNUSED"'))
    monkeypatch.setenv("DATABASE_URL", postgres_database.url)
    monkeypatch.setattr("harness.engines.explore.bypass.LEAVING", 1.0)

    assert main(["explore", "--config", str(config), "--out", str(tmp_path)]) == 3
    assert re.search("no statement came through the proxy|traffic that does not go through the proxy", capsys.readouterr().err)


def test_open_transactions_of_others_are_waited_for_and_later_ones_are_not(postgres_database: Database) -> None:
    store = InPlacePostgres(postgres_database.url, postgres_database.name)
    with psycopg.connect(postgres_database.url) as one, psycopg.connect(postgres_database.url) as two:
        one.execute("SELECT 1")
        assert len(store.in_flight(postgres_database)) == 1
        two.execute("SELECT 1")
        one.rollback()
        assert store.in_flight(postgres_database) == []
    store.close()


def test_a_role_that_may_not_put_rows_back_is_told_how(postgres_database: Database) -> None:
    with psycopg.connect(postgres_database.url, autocommit=True) as connection:
        connection.execute("CREATE ROLE plain_writer LOGIN PASSWORD 'pw-of-writer'")
        try:
            url = postgres_database.url.replace(postgres_database.url.split("//")[1].split("@")[0], "plain_writer:pw-of-writer")
            with pytest.raises(EnvironmentProblem, match="GRANT SET ON PARAMETER session_replication_role TO"):
                InPlacePostgres(url, postgres_database.name)
        finally:
            connection.execute("DROP ROLE plain_writer")


def test_mongo_transactions_that_were_open_are_waited_for(mongo_store: Any, mongo_database: Database) -> None:
    url = mongo_database.url
    store = InPlaceMongo(url, mongo_database.name)
    client: pymongo.MongoClient[Any] = pymongo.MongoClient(url)
    with client, lasting_transactions(mongo_store.client), client.start_session() as session:
        client[mongo_database.name].create_collection("c")
        session.start_transaction()
        client[mongo_database.name].c.insert_one({"n": 1}, session=session)
        assert len(store.in_flight(mongo_database)) == 1
        session.commit_transaction()
        assert store.in_flight(mongo_database) == []
    store.close()
