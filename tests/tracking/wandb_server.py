"""A W&B server on 127.0.0.1: the state of wandb_state.py behind HTTP."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tracking.wandb_state import ENTITY, ServedRun, WandbServer

__all__ = ["ENTITY", "ServedRun", "WandbServer", "wandb_server"]


class _QuietServer(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients close connections as they please."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    served: WandbServer

    def _answer(self, content: Any) -> None:
        body = json.dumps(content).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _take(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        with self.served.lock:
            if self.path == "/graphql":
                asked = json.loads(body)
                self._answer({"data": self.served.graphql(asked["query"], asked.get("variables") or {})})
            elif self.path.startswith("/upload/"):
                self.served.upload(self.path.removeprefix("/upload/"), body)
                self._answer({})
            elif self.path.endswith("/file_stream"):
                self._answer(self.served.stream(self.path.split("/")[-2], json.loads(body)))
            else:
                self._answer({})

    do_POST = do_PUT = do_GET = _take  # noqa: N815

    def log_message(self, format: str, *args: Any) -> None:
        """Keep quiet."""


@contextmanager
def wandb_server() -> Iterator[WandbServer]:
    """A server that is empty at first."""
    served = WandbServer()
    handler = type("Handler", (_Handler,), {"served": served})
    with _QuietServer(("127.0.0.1", 0), handler) as http:
        served.url = f"http://127.0.0.1:{http.server_address[1]}"
        thread = threading.Thread(target=http.serve_forever, daemon=True)
        thread.start()
        yield served
        http.shutdown()
