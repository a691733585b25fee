"""A Panel server of a test's own, on the loopback interface, in a process of its own."""

import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def served(*pages: Path, log: Path, environment: Mapping[str, str] | None = None) -> Iterator[str]:
    """Serve pages; gives the address below which they are, by the names of their files."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "panel", "serve", *map(str, pages), "--port", str(port)]
    with open(log, "w") as out:
        process = subprocess.Popen(
            command, env={**os.environ, **(environment or {})}, stdout=out, stderr=subprocess.STDOUT
        )
    address = f"http://localhost:{port}"
    try:
        for _ in range(240):
            assert process.poll() is None, log.read_text()
            try:
                urllib.request.urlopen(f"{address}/{pages[0].stem}", timeout=20).close()
                break
            except OSError:
                time.sleep(0.25)
        yield address
    finally:
        process.terminate()
        process.wait(60)  # a busy machine takes its time
