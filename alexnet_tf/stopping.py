"""SIGTERM and Ctrl-C: the first stops in good order, the second at once."""

import contextlib
import os
import signal
from collections.abc import Callable, Iterator

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


@contextlib.contextmanager
def ending_on_signals() -> Iterator[None]:
    """Ends the process on a signal where it is, by SystemExit, with a line."""

    def end(number, frame):
        signal.signal(number, signal.SIG_DFL)
        print(f"\nStopped by {signal.Signals(number).name}.", flush=True)
        raise SystemExit(_code(number))

    with _handling(end):
        yield


class StopRequest:
    """A wish to stop, for a loop that asks after each step.

    `signal` is the one received while this was listening, None if there was
    none.
    """

    def __init__(self):
        self.signal = None

    def listening(self) -> contextlib.AbstractContextManager:
        """Returns a context in which signals are noted."""
        return _handling(self._receive)

    def exit(self, step: int) -> None:
        """Ends the process as the signal would have, after a checkpoint.

        Args:
            step: Steps done.

        Raises:
            SystemExit: with 128 and the signal's number, as shells have it.
        """
        print(
            f"Stopped after step {step}. The same command goes on from there.",
            flush=True,
        )
        raise SystemExit(_code(self.signal))

    def _receive(self, number, frame):
        if self.signal is not None:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        self.signal = signal.Signals(number)
        print(f"\n{self.signal.name}: stopping after this step.", flush=True)


def _code(number):
    """Returns the exit code of a process that a signal ended, as in shells."""
    return 128 + number


@contextlib.contextmanager
def _handling(handler: Callable) -> Iterator[None]:
    before = {number: signal.signal(number, handler) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler_before in before.items():
            signal.signal(number, handler_before)
