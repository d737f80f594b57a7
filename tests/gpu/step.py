"""Facts and checks of one step, on disk after each of them, so that a step that hangs loses nothing."""

import json
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from gpu.setting import Setting


class Step:
    """One step of the proof, in the process that runs it.

    Args:
        name: Its name in result.json.
        setting: The proof's options.
    """

    def __init__(self, name: str, setting: Setting) -> None:
        self.name = name
        self.setting = setting
        self.file = file_of(setting, name)
        self.facts: dict[str, Any] = {}
        self.checks: list[dict[str, Any]] = []
        self._start = time.monotonic()
        self._lock = threading.Lock()  # cases of a step run in threads
        self.save("running")

    def fact(self, name: str, value: Any) -> None:
        """Record a measured value."""
        self.facts[name] = value
        print(f"{name}: {value}", flush=True)
        self.save("running")

    def check(self, name: str, ok: bool, found: Any = None) -> None:
        """Record whether something holds; one that does not is a fault of the project, not of the proof."""
        self.checks.append({"name": name, "ok": bool(ok), "found": found})
        print(f"{'ok  ' if ok else 'FAIL'} {name}: {found}", flush=True)
        self.save("running")

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """A part whose failure is recorded as a failed check and does not stop the next one."""
        try:
            yield
        except Exception as error:
            traceback.print_exc()
            self.check(name, False, f"{type(error).__name__}: {error}"[:400])

    def cases(self, *cases: Callable[[], None]) -> None:
        """Parts that do not disturb each other: side by side, or one after the other where the machine is small."""
        with ThreadPoolExecutor(1 if self.setting.tiny else len(cases)) as pool:
            for case in cases:
                pool.submit(self._case, case)

    def _case(self, case: Callable[[], None]) -> None:
        with self.part(getattr(case, "__name__", str(case))):
            case()

    def save(self, status: str) -> None:
        """Write the step's file; `status` is running, done or failed."""
        content = {
            "status": status,
            "seconds": round(time.monotonic() - self._start, 1),
            "facts": self.facts,
            "checks": self.checks,
        }
        with self._lock:
            temporary = self.file.with_suffix(".tmp")
            temporary.write_text(json.dumps(content, indent=1))
            temporary.replace(self.file)


def file_of(setting: Setting, name: str) -> Path:
    """Where a step's process writes."""
    return setting.work / "steps" / f"{name}.json"
