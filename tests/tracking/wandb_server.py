"""A W&B server on 127.0.0.1: the state of wandb_state.py behind HTTP."""

import json
import threading
import traceback
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
            try:
                self._answer(self._content(body))
            except Exception:  # the client would only try again
                self.served.errors.append(f"{self.path} {body[:300]!r}\n{traceback.format_exc()}")
                self.send_error(400)

    def _content(self, body: bytes) -> Any:
        if self.path == "/graphql":
            asked = json.loads(body)
            return {"data": self.served.graphql(asked["query"], asked.get("variables") or {})}
        if self.path.startswith("/upload/"):
            self.served.upload(self.path.removeprefix("/upload/"), body)
        elif self.path.endswith("/file_stream"):
            return self.served.stream(self.path.split("/")[-2], json.loads(body))
        return {}

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
