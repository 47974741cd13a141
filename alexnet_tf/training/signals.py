"""SIGTERM, SIGHUP and Ctrl-C: the first stops cleanly, the second at once."""

import contextlib
import os
import signal
import stat
import sys
import threading
from collections.abc import Callable, Iterator

_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


@contextlib.contextmanager
def ending_on_signals() -> Iterator[None]:
    """Turns a signal into SystemExit, with a message."""

    def end(number, frame):
        signal.signal(number, signal.SIG_DFL)
        print(f"\nStopped by {signal.Signals(number).name}.", flush=True)
        raise SystemExit(_code(number))

    with _handling(end):
        yield


class StopRequest:
    """A request to stop, checked by the training loop after each step.

    `total` sums a number over all workers of the run, which must call `is_made`
    equally often; a signal to one stops all of them a few steps later.
    """

    # Calls between sums over the workers, which take time.
    _INTERVAL = 10

    def __init__(self, total: Callable[[int], int] | None = None):
        self._total = total
        self._signal = None
        self._calls = 0
        self._is_agreed = False

    def listening(self) -> contextlib.AbstractContextManager:
        """Returns a context in which signals request a stop."""
        return _handling(self._receive)

    def is_made(self) -> bool:
        """Returns whether to stop now."""
        if not self._total:
            return self._signal is not None
        self._calls += 1
        if self._calls % self._INTERVAL == 0:
            self._is_agreed |= self._total(self._signal is not None) > 0
        return self._is_agreed

    def exit(self, message: str) -> None:
        """Ends the process as the signal would have, with a message."""
        print(message, flush=True)
        raise SystemExit(_code(self._signal or signal.SIGTERM))

    def _receive(self, number, frame):
        if self._signal is not None:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        self._signal = signal.Signals(number)
        print(f"{self._signal.name}: stopping after this step.", flush=True)


def _code(number):
    """Returns the exit code that shells give a process ended by a signal."""
    return 128 + number


@contextlib.contextmanager
def _handling(handler):
    # Python handles signals in the main thread only; Ray Train and notebooks
    # may train in another one.
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def handle(number, frame):
        if number == signal.SIGHUP:
            _leave_terminal()
        handler(number, frame)

    before = {
        number: signal.signal(number, handle)
        for number in _SIGNALS
        # `nohup` ignores it.
        if (number, signal.getsignal(number)) != (signal.SIGHUP, signal.SIG_IGN)
    }
    try:
        yield
    finally:
        for number, handler_before in before.items():
            signal.signal(number, handler_before)


def _leave_terminal():
    """Discards what is printed to a terminal, which is gone after SIGHUP.

    Printing there would be an error. Files and pipes stay.
    """
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):  # It is not a file.
            if stat.S_ISCHR(os.fstat(stream.fileno()).st_mode):
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
