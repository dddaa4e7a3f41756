# SPDX-License-Identifier: GPL-2.0-or-later
"""A Debian archive in a directory, for the real apt and dpkg: no network."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from harness.store import Store

needs_apt = pytest.mark.skipif(not all(map(shutil.which, ("apt-get", "dpkg-deb"))), reason="needs apt and dpkg")


def control(name: str, version: str, architecture: str, depends: str = "") -> str:
    """What a package says of itself (deb-control(5))."""
    fields = {"Package": name, "Version": version, "Architecture": architecture, "Maintainer": "x <x@example.org>"}
    fields |= {"Description": "x"} | ({"Depends": depends} if depends else {})
    return "".join(f"{field}: {value}\n" for field, value in fields.items())


def stanza(said: str, package: Path) -> str:
    """The same as an archive's list of packages has it."""
    data = package.read_bytes()
    return f"{said}Filename: ./{package.name}\nSize: {len(data)}\nSHA256: {hashlib.sha256(data).hexdigest()}\n"


class Archive:
    """``etc`` is the configuration of an apt that knows this archive and nothing else."""

    def __init__(self, root: Path) -> None:
        self.root = root / "archive"
        self.etc = root / "etc"
        self.root.mkdir()
        for name in ("sources.list.d", "preferences.d", "trusted.gpg.d", "apt.conf.d"):
            (self.etc / name).mkdir(parents=True)
        (self.etc / "sources.list").write_text(f"deb [trusted=yes] file:{self.root} ./\n")
        self._stanzas: list[str] = []

    def pack(self, build: Path, name: str, version: str, architecture: str = "all", depends: str = "") -> Path:
        """Add a directory as a package."""
        said = control(name, version, architecture, depends)
        (build / "DEBIAN").mkdir()
        (build / "DEBIAN/control").write_text(said)
        package = self.root / f"{name}_{version}_{architecture}.deb"
        subprocess.run(["dpkg-deb", "--build", "--root-owner-group", str(build), str(package)], check=True, capture_output=True)
        self._stanzas.append(stanza(said, package))
        (self.root / "Packages").write_text("\n".join(self._stanzas))
        return package

    def vanish(self) -> None:
        """The mirror is gone."""
        shutil.rmtree(self.root)


class Mirror(ThreadingHTTPServer):
    """Serves the archive over HTTP, and stops in the middle of the package."""

    daemon_threads = True

    def __init__(self, root: Path) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.root = root
        self.stalled, self.over = threading.Event(), threading.Event()


class Answer(BaseHTTPRequestHandler):
    """To one request."""

    server: Mirror

    def do_GET(self) -> None:
        path = self.server.root / Path(self.path).name
        if not path.is_file():
            self.send_error(404)
            return
        data = path.read_bytes()
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if path.suffix == ".deb":
            self.wfile.write(data[: len(data) // 2])
            self.wfile.flush()
            self.server.stalled.set()
            self.server.over.wait(60)
            return
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        pass


@contextlib.contextmanager
def stalling(archive: Archive, monkeypatch: pytest.MonkeyPatch) -> Iterator[Mirror]:
    """The archive's packages come over such a mirror."""
    server = Mirror(archive.root)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    (archive.etc / "sources.list").write_text(f"deb [trusted=yes] http://127.0.0.1:{server.server_port} ./\n")
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    try:
        yield server
    finally:
        server.over.set()
        server.shutdown()
        server.server_close()


@contextlib.contextmanager
def interrupting(mirror: Mirror, number: signal.Signals) -> Iterator[None]:
    """This process gets a signal once the mirror has stopped, and is soon through with the block."""
    sent: list[float] = []

    def send() -> None:
        if mirror.stalled.wait(30):
            sent.append(time.monotonic())
            os.kill(os.getpid(), number)

    sender = threading.Thread(target=send)
    sender.start()
    old = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, old)
        sender.join()
    assert time.monotonic() - sent[0] < 3


def nothing_is_left(store: Store) -> None:
    """No process, no file, no lock."""
    assert not list((store.root / "tmp").iterdir())
    assert not list((store.root / "src").iterdir())
    ours = str(store.root).encode()
    assert not [p for p in Path("/proc").glob("[0-9]*/cmdline") if ours in p.read_bytes()]
    with store.try_lock("apt") as free:
        assert free is not None
