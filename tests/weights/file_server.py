"""A file server on the loopback whose answers a test chooses."""

import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

CONTENT = b"PK\x03\x04" + bytes(range(256)) * 400


class FileServer:
    """Answers each path by a function of the request handler, or sends `files[path]`; counts what was asked."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.answers: dict[str, Callable[[BaseHTTPRequestHandler], None]] = {}
        self.asked: list[str] = []
        self.ended = threading.Event()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.asked.append(self.path)
                if answer := outer.answers.get(self.path):
                    answer(self)
                elif self.path in outer.files:
                    send(self, outer.files[self.path])
                else:
                    self.send_error(404)

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.address = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def close(self) -> None:
        self.ended.set()
        self.server.shutdown()
        self.server.server_close()

    def hang(self, handler: BaseHTTPRequestHandler) -> None:
        """Accept, and never answer."""
        self.ended.wait(60)

    def hang_in_the_middle(self, handler: BaseHTTPRequestHandler) -> None:
        send(handler, CONTENT, sent=CONTENT[:1000])
        self.ended.wait(60)


def send(
    handler: BaseHTTPRequestHandler,
    content: bytes,
    *,
    sent: bytes | None = None,
    kind: str = "application/octet-stream",
) -> None:
    """Answer 200 with the length of `content`, and send it or only `sent`."""
    handler.send_response(200)
    handler.send_header("Content-Type", kind)
    handler.send_header("Content-Length", str(len(content)))
    handler.end_headers()
    handler.wfile.write(content if sent is None else sent)
    handler.wfile.flush()


def slowly(handler: BaseHTTPRequestHandler) -> None:
    """So slow that every process asks before the first one is served."""
    time.sleep(1.0)
    send(handler, CONTENT)
