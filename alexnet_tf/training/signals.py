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

    Args:
        total: Sums a number over all workers of the run; these must then ask
            equally often. They learn of a wish of one of them a few steps
            later.
    """

    # Asking for a sum takes time.
    _INTERVAL = 10

    def __init__(self, total: Callable[[int], int] | None = None):
        self._total = total
        self._signal = None
        self._asked = 0
        self._is_agreed = False

    def listening(self) -> contextlib.AbstractContextManager:
        """Returns a context in which signals are noted."""
        return _handling(self._receive)

    def is_made(self) -> bool:
        """Returns whether to stop now."""
        if not self._total:
            return self._signal is not None
        self._asked += 1
        if self._asked % self._INTERVAL == 0:
            self._is_agreed |= self._total(self._signal is not None) > 0
        return self._is_agreed

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
        raise SystemExit(_code(self._signal or signal.SIGTERM))

    def _receive(self, number, frame):
        if self._signal is not None:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        self._signal = signal.Signals(number)
        print(f"\n{self._signal.name}: stopping after this step.", flush=True)


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
