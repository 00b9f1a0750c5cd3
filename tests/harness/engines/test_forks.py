"""Clients' processes find imported what their target named, and nothing of what it did not."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def test_what_a_target_names_is_imported_before_its_processes_are_made(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text("""
import sys
from types import SimpleNamespace
from harness.engines.forks import forks

def tell(pipe):
    pipe.send([name in sys.modules for name in ("psycopg", "smtplib", "imaplib")])

if __name__ == "__main__":
    context = forks(SimpleNamespace(preload=("smtplib",)))
    ours, theirs = context.Pipe()
    process = context.Process(target=tell, args=(theirs,))
    process.start()
    print(ours.recv())
    process.join()
""")
    done = subprocess.run([sys.executable, str(program)], capture_output=True, text=True, check=False, timeout=60)
    assert done.stdout.strip() == "[True, True, False]", done.stderr
