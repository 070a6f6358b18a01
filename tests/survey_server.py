"""A web server on this machine that serves a folder, and misbehaves when told to."""

import threading
import time
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any


class Server:
    """A folder behind a web server.

    Attributes:
        asked: Paths of all GET requests.
        faults: Answers to give first, by path: status and headers.
        cut_short: How often to end a file half way, by path.
        slow_s: Wait before each answer.
        most_at_once: Largest number of requests in work at one time.
    """

    def __init__(self, folder: Path) -> None:
        self.asked: list[str] = []
        self.faults: dict[str, list[tuple[int, dict[str, str]]]] = {}
        self.cut_short: dict[str, int] = {}
        self.at_once = self.most_at_once = 0
        self.slow_s = 0.0
        self.lock = threading.Lock()
        handler = partial(type("Handler", (_Handler,), {"owner": self}), directory=str(folder))
        self.http = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.address = f"http://127.0.0.1:{self.http.server_port}"
        threading.Thread(target=self.http.serve_forever, args=(0.01,), daemon=True).start()

    def close(self) -> None:
        self.http.shutdown()
        self.http.server_close()


class _Handler(SimpleHTTPRequestHandler):
    owner: Server

    def do_HEAD(self) -> None:
        path = self.path.lstrip("/")
        if self.owner.faults.get(path):
            self._fail(path)
        else:
            super().do_HEAD()

    def do_GET(self) -> None:
        path, owner = self.path.lstrip("/"), self.owner
        with owner.lock:
            owner.asked.append(path)
            owner.at_once += 1
            owner.most_at_once = max(owner.most_at_once, owner.at_once)
        try:
            self._answer(path)
        finally:
            with owner.lock:
                owner.at_once -= 1

    def _answer(self, path: str) -> None:
        if self.owner.slow_s:
            time.sleep(self.owner.slow_s)
        if self.owner.faults.get(path):
            self._fail(path)
        elif self.owner.cut_short.get(path):
            self.owner.cut_short[path] -= 1
            content = Path(self.directory, path).read_bytes()
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content[: len(content) // 2])
            self.close_connection = True
        else:
            super().do_GET()

    def _fail(self, path: str) -> None:
        status, headers = self.owner.faults[path].pop(0)
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *args: Any) -> None:
        pass
