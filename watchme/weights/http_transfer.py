"""One HTTP transfer of a file, with a deadline for the first byte, by pooch's `HTTPDownloader`.

pooch has requests underneath (redirects, certificates, proxies from HTTP_PROXY, HTTPS_PROXY and NO_PROXY) and tqdm's
progress bar. huggingface_hub was not taken, since its client only knows the hub: half of the model zoo is on GitHub,
and a mirror may be any file server.
"""

import sys
import threading
from concurrent.futures import Future
from pathlib import Path
from typing import Any, Final

STALL_S: Final = 15.0  # without a byte in the middle of a file


class TransferError(Exception):
    """A place does not have the file, or did not send it whole; the text goes into the user's error."""


class BrokenTransferError(TransferError):
    """A failure that may pass: the server answered, and then said 5xx or broke off."""


def transfer_file(url: str, target: Path, patience: float) -> Path:
    """Fetch a file over HTTP into `target`, whose folder exists; `patience` is the seconds until the first byte.

    In a thread, since a name lookup, and one connection after the other to each address of a name, have no deadline.

    Raises:
        TransferError: If the server cannot be reached, does not answer in time or does not have the file.
        BrokenTransferError: If it failed in a way that may pass.
    """
    answered = threading.Event()
    future: Future[Path] = Future()

    def run() -> None:
        try:
            _download(url, target, patience, answered)
            future.set_result(target)
        except BaseException as error:
            future.set_exception(error)
        answered.set()

    threading.Thread(target=run, name="weights", daemon=True).start()
    if not answered.wait(patience):
        raise TransferError(f"no answer within {patience:.0f} s")
    return future.result()


def _download(url: str, target: Path, patience: float, answered: threading.Event) -> None:
    import pooch
    import requests

    def on_response(response: requests.Response, *_: Any, **__: Any) -> None:
        if response.is_redirect or response.status_code >= 400:
            return
        # A login or quota page comes with status 200.
        if response.headers.get("content-type", "").startswith("text/html"):
            raise TransferError("a web page instead of a file, as of a login or of a download limit")
        answered.set()

    download = pooch.HTTPDownloader(
        progressbar=sys.stderr.isatty(),
        chunk_size=1 << 16,
        timeout=(patience, STALL_S),
        headers={"User-Agent": "watchme", "Accept-Encoding": "identity"},
        hooks={"response": on_response},
    )
    try:
        download(url, str(target), None)
    except requests.HTTPError as error:
        status = error.response.status_code if error.response is not None else 0
        text = str(error).partition(" for url")[0]
        raise (BrokenTransferError if status >= 500 or status == 429 else TransferError)(text) from None
    except (requests.RequestException, OSError) as error:
        text = _reason(error)
        raise BrokenTransferError(f"broke off: {text}") if answered.is_set() else TransferError(text) from None


def _reason(error: BaseException) -> str:
    """The innermost cause, without the addresses of objects that urllib3 prints."""
    while (inner := error.__cause__ or error.__context__ or getattr(error, "reason", None)) and isinstance(
        inner, BaseException
    ):
        error = inner
    text = str(error) or type(error).__name__
    return text.rpartition(">: ")[2] if "object at 0x" in text else text
