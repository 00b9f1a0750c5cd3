"""Every way out of the command line: one line that says what to do, and the exit status that the design promises."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from harness.cli.main import main
from tests.containers import needs_docker

RACEGATE = str(Path(sys.executable).with_name("racegate"))


def failing(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    status = main(arguments)
    seen = capsys.readouterr()
    assert seen.out == "", "messages belong on standard error"
    assert "Traceback" not in seen.err
    return status, seen.err.splitlines()[-1]


@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        (["nonsense"], 2, "No such command 'nonsense'"),
        (["run"], 2, "name a scenario"),
        (["run", "concurrent_creates"], 2, "name a target"),
        (["run", "no_such_scenario", "--target", "reference:pg.counter_row"], 2, "no scenario is called 'no_such_scenario'"),
        (
            ["run", "concurrent_creates", "--target", "reference:pg.count_plus_on"],
            2,
            "did you mean 'reference:pg.count_plus_one'",
        ),
        (["run", "concurrent_creates", "--clients", "0"], 2, "should be greater than or equal to 1"),
        (["run", "concurrent_creates", "--clients", "two"], 2, "should be a valid integer"),
        (["run", "concurrent_creates", "--duration", "soon"], 2, "not a length of time such as 30s"),
        (["run", "concurrent_creates", "--nonsense"], 2, "; see: racegate run --help"),
        (["nonsense"], 2, "No such command 'nonsense'; see: racegate --help"),
        (["run", "concurrent_creates", "-t", "reference:pg.counter_row", "--ops", "5", "--duration", "5s"], 2, "contradict"),
        (["run", "concurrent_creates", "-t", "reference:pg.counter_row", "--policy", "atlantis"], 2, "no policy is called"),
        (["run", "concurrent_creates", "-t", "reference:pg.counter_row", "--set", "isolation"], 2, "is not name=value"),
        (
            ["run", "concurrent_creates", "-t", "reference:pg.counter_row", "--postgres", "embeded"],
            2,
            "expected embedded, container",
        ),
        (
            ["run", "concurrent_creates", "-t", "reference:pg.counter_row", "--disposable", "x"],
            2,
            "--disposable marks the database of a URL",
        ),
        (
            ["run", "concurrent_creates", "-t", "reference:pg.counter_row", "--postgres", "postgresql://u:s3cr3t@127.0.0.1:1/x"],
            2,
            "--disposable x",
        ),
        (
            [
                "run",
                "concurrent_creates",
                "-t",
                "reference:pg.counter_row",
                "--disposable",
                "x",
                "--postgres",
                "postgresql://u:s3cr3t@127.0.0.1:1/x",
            ],
            3,
            "cannot connect to postgresql://u:***@127.0.0.1:1/x",
        ),
        (["run", "concurrent_creates", "-t", "reference:pg.counter_row", "--out", "/proc/nowhere"], 3, "choose another --out"),
        (["report", "/no/such/folder"], 2, "is not a run folder"),
        (["report", "/no/such/folder", "--format", "htm"], 2, "did you mean 'html'|no report format"),
        (["catalogue", "--area", "poetry"], 2, "no case matches --area poetry; there is: audit, durability, numbering"),
        (["catalogue", "--id", "N99", "--engine", "stress"], 2, "no case matches --id N99; the areas are: audit, durability"),
        (
            ["catalogue", "--id", "N04-twin", "--engine", "explore"],
            2,
            "1 case matches --id N04-twin, but not --engine explore: there is stress; see: racegate list cases",
        ),
        (
            ["catalogue", "--store", "postgres", "--id", "N04", "--id", "N05-mongo", "--store", "mongo", "--area", "orders"],
            2,
            "cases match --id N04 --id N05-mongo, but not --area orders: there is numbering",
        ),
        (["list", "poems"], 2, "poems"),
    ],
    ids=lambda value: " ".join(value)[-60:] if isinstance(value, list) else None,
)
def test_every_mistake_is_one_line_with_its_exit_status(
    arguments: list[str],
    status: int,
    says: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)

    seen, line = failing(arguments, capsys)

    assert seen == status, line
    assert re.search(says if "|" in says else re.escape(says), line), line
    assert line.startswith("racegate: ")
    assert "s3cr3t" not in line


def test_a_call_without_a_command_shows_the_help_and_proves_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert "Commands:\n" in capsys.readouterr().out


def test_the_version_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert re.fullmatch(r"racegate \d+\.\d+\.\d+\n", capsys.readouterr().out)


def test_a_policy_file_with_an_unknown_field_names_it(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    policy = tmp_path / "ours.toml"
    policy.write_text('name = "ours"\ncontinuty = "gapless"\n')

    status, line = failing(["run", "concurrent_creates", "-t", "reference:pg.counter_row", "--policy", str(policy)], capsys)

    assert status == 2
    assert "continuty" in line
    assert "continuity" in line


def test_a_bug_of_ours_is_said_to_be_one_and_keeps_its_traceback(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*arguments: object, **more: object) -> None:
        raise ZeroDivisionError("postgresql://u:s3cr3t@h/x")

    monkeypatch.setattr("harness.run.request.build_request", broken)

    status, line = failing(["run", "concurrent_creates", "-t", "reference:pg.counter_row"], capsys)

    assert status == 3
    assert "This is likely a bug in racegate" in line
    kept = Path(line.rsplit(" ", 1)[-1])
    assert "ZeroDivisionError" in kept.read_text()
    assert "s3cr3t" not in line + kept.read_text()
    kept.unlink()


def test_a_failing_run_exits_1_with_the_result_on_standard_output(tmp_path: Path) -> None:
    done = subprocess.run(
        [
            RACEGATE,
            "run",
            "concurrent_creates",
            "-t",
            "reference:pg.count_plus_one",
            "--ops",
            "200",
            "--seed",
            "1",
            "--json",
            "-",
        ],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=False,
    )

    assert done.returncode == 1, done.stderr
    result = json.loads(done.stdout)
    assert (result["verdict"], result["seed"], result["schema"]) == ("fail", 1, "racegate.result/1")
    assert result["command"].startswith("racegate run concurrent_creates -t reference:pg.count_plus_one")


def test_the_report_of_a_run_reads_the_same_afterwards(tmp_path: Path) -> None:
    run = [RACEGATE, "run", "concurrent_creates", "-t", "reference:pg.counter_row", "--ops", "50", "--seed", "7"]
    done = subprocess.run(run, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr
    [folder] = (tmp_path / "runs").iterdir()

    again = subprocess.run([RACEGATE, "report", f"runs/{folder.name}"], capture_output=True, text=True, cwd=tmp_path, check=True)

    assert again.stdout == done.stdout
    assert "PASS" in done.stdout
    assert "seed 7" in done.stdout
    assert all(line == line.rstrip() for line in done.stdout.splitlines())


def test_what_is_no_finished_run_is_left_out_of_a_report_and_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = tmp_path / "runs"
    words = ["run", "concurrent_creates", "--target", "reference:pg.counter_row", "--clients", "2", "--ops", "4"]
    assert main([*words, "--out", str(runs)]) == 0
    (runs / "of-a-replay").mkdir()
    capsys.readouterr()

    assert main(["report", *map(str, sorted(runs.iterdir()))]) == 0
    told = capsys.readouterr()
    assert "PASS" in told.out
    assert told.err == f"{runs / 'of-a-replay'} is left out: it holds no finished run\n"


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_or_a_cancelled_pipeline_ends_a_run_with_unknown_and_leaves_nothing(tmp_path: Path, sent: int) -> None:
    process = subprocess.Popen(
        [RACEGATE, "run", "concurrent_creates", "-t", "reference:pg.counter_row", "--duration", "60s"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
        start_new_session=True,
    )
    history = None
    while history is None or history.stat().st_size < 10_000:
        assert process.poll() is None
        history = next(tmp_path.glob("runs/*/history/worker-0.0.jsonl"), None)
        time.sleep(0.05)

    os.killpg(process.pid, sent)
    out, err = process.communicate(timeout=30)

    assert process.returncode == 4, err
    assert out == ""
    assert err.splitlines()[-1].startswith("racegate: interrupted: nothing is proved")
    assert "Traceback" not in err


INTERRUPTED_IMPORT = """
import os, sys

class Interrupting:
    def find_spec(self, name, path=None, target=None):
        if name == {module!r}:
            os.kill(os.getpid(), {sent})

sys.meta_path.insert(0, Interrupting())
from harness.cli.main import entry
sys.argv = ["racegate", "serve", "pg.counter_row", "--port", "0"]
entry()
"""


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("module", ["typer", "harness.cli.load_command", "uvicorn", "psycopg"])
def test_ctrl_c_while_python_still_imports_is_one_line(module: str, sent: int) -> None:
    program = INTERRUPTED_IMPORT.format(module=module, sent=int(sent))
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)

    assert ended.stderr.strip().splitlines() == [
        "racegate: interrupted: nothing is proved; servers that were started are stopped"
    ]
    assert ended.returncode == 4


@pytest.mark.parametrize("kind", ["scenarios", "targets", "invariants", "policies", "cases"])
def test_everything_can_be_listed_with_a_summary(kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", kind]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) > 5
    assert all(len(line.split(None, 1)) == 2 for line in lines)


def test_doctor_says_what_this_machine_can_run(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor"]) == 0
    out = capsys.readouterr().out
    assert re.search(r"ok +postgres embedded +PostgreSQL 18", out)
    assert re.search(r"ok +mongo embedded +MongoDB 6", out)


@needs_docker
def test_doctor_names_the_images_of_containers(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor"]) == 0
    out = capsys.readouterr().out
    assert re.search(r"ok +docker +engine \d+", out)
    assert re.search(r"ok +postgres container +image \S*postgres:18, (built here|the official one)", out)
    assert re.search(r"ok +mongo container +image \S*mongo:\d, (built here|the official one)", out)


@needs_docker
def test_doctor_says_how_to_get_an_image(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RACEGATE_MONGO_IMAGE", "127.0.0.1:1/mongo:9")
    assert main(["doctor"]) == 0
    out = capsys.readouterr().out
    assert re.search(r"missing +mongo container +the image 127.0.0.1:1/mongo:9 is not here", out)
    assert "docker pull 127.0.0.1:1/mongo:9" in out


def test_doctor_says_what_to_do_without_docker(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", "tcp://127.0.0.1:1")
    assert main(["doctor"]) == 0, "embedded stores need no Docker"
    out = capsys.readouterr().out
    assert re.search(r"missing +docker +Docker is missing or does not run", out)
    assert re.search(r"(install|start) Docker to use --postgres container", out)
