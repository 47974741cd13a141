"""SIGTERM and Ctrl-C: the first asks to stop, the second ends at once."""

import os
import signal

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class StopRequest:
    """Takes the signals while it is entered; `signal` is the one received."""

    def __init__(self):
        self.signal = None

    def __enter__(self):
        self._before = {s: signal.signal(s, self._receive) for s in _SIGNALS}
        return self

    def __exit__(self, *error):
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _receive(self, number, frame):
        if self.signal is not None:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        self.signal = signal.Signals(number)
        print(f"\n{self.signal.name}: stopping after this step.", flush=True)

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
        raise SystemExit(128 + self.signal)
