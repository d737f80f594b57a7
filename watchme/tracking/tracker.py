"""What a tracker is: a callback that is also asked to work while nothing happens."""

from watchme.core.interfaces import Callback


class Tracker(Callback):
    """A callback in the tracking process."""

    def on_idle(self) -> None:
        """Nothing has happened for a second, and a second from now this is called again."""
