"""Signals that request a stop."""

import contextlib
import os
import signal
import threading

import pytest

from alexnet_tf.training.signals import StopRequest


@contextlib.contextmanager
def handled(number, handler):
    """Handles a signal so, whatever this process inherited, as of nohup."""
    before = signal.signal(number, handler)
    try:
        yield
    finally:
        signal.signal(number, before)


@pytest.mark.parametrize(
    "number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP]
)
def test_a_signal_requests_a_stop(number, capsys):
    stop = StopRequest()
    with handled(number, signal.SIG_DFL), stop.listening():
        assert not stop.is_made()
        os.kill(os.getpid(), number)
        assert stop.is_made()
    with pytest.raises(SystemExit) as ended:
        stop.exit("Stopped after step 5.")
    assert ended.value.code == 128 + number
    assert f"{number.name}: stopping after" in capsys.readouterr().out


def test_nohup_ignores_sighup():
    stop = StopRequest()
    with handled(signal.SIGHUP, signal.SIG_IGN), stop.listening():
        os.kill(os.getpid(), signal.SIGHUP)
        assert not stop.is_made()


def test_another_thread_leaves_signals_alone():
    """As those in which Ray Train and some notebooks train."""
    before = signal.getsignal(signal.SIGTERM)
    found = []

    def listen():
        with StopRequest().listening():
            found.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=listen)
    thread.start()
    thread.join()
    assert found == [before]
