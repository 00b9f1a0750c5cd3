"""A certificate for the proxy's own side of TLS, for applications that will not speak without it.

It is made for one proxy, signs itself (so it is its own authority: the file that an application is told to trust), names
loopback alone, and lives in a folder that only this user may read, until the proxy is closed. OpenSSL's program makes it;
Python can use certificates but not make them.
"""

from __future__ import annotations

import shutil
import ssl
import subprocess
import tempfile
from pathlib import Path

from harness.model.errors import EnvironmentProblem

MAKING_LIMIT = 30.0
"""Seconds that making a key may take."""


class LocalCertificate:
    """A self-signed certificate for 127.0.0.1 and localhost.

    Raises:
        EnvironmentProblem: there is no ``openssl``, or it failed.
    """

    def __init__(self) -> None:
        program = shutil.which("openssl")
        if program is None:
            raise EnvironmentProblem("TLS on the proxy needs the program openssl on PATH; install OpenSSL, or go without TLS")
        self._folder = Path(tempfile.mkdtemp(prefix="racegate-tls-"))
        self.authority = self._folder / "authority.pem"
        key = self._folder / "key.pem"
        command = [
            *(program, "req", "-x509", "-nodes", "-days", "2", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
            *("-subj", "/CN=racegate proxy", "-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost"),
            *("-keyout", str(key), "-out", str(self.authority)),
        ]
        try:
            subprocess.run(command, capture_output=True, text=True, check=True, timeout=MAKING_LIMIT)
            self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self.context.load_cert_chain(self.authority, key)
        except (OSError, subprocess.SubprocessError) as e:
            self.close()
            said = getattr(e, "stderr", None) or str(e)
            raise EnvironmentProblem(f"openssl made no certificate: {said.strip().splitlines()[-1]}") from e

    def close(self) -> None:
        """Remove key and certificate."""
        shutil.rmtree(self._folder, ignore_errors=True)
