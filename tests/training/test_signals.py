"""Signals that request a stop."""

import os
import signal
import threading

import pytest

from alexnet_tf.training.signals import StopRequest


@pytest.mark.parametrize(
    "number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP]
)
def test_a_signal_requests_a_stop(number, capsys):
    stop = StopRequest()
    with stop.listening():
        assert not stop.is_made()
        os.kill(os.getpid(), number)
        assert stop.is_made()
    with pytest.raises(SystemExit) as ended:
        stop.exit("Stopped after step 5.")
    assert ended.value.code == 128 + number
    assert f"{number.name}: stopping after" in capsys.readouterr().out


def test_nohup_ignores_sighup():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        stop = StopRequest()
        with stop.listening():
            os.kill(os.getpid(), signal.SIGHUP)
            assert not stop.is_made()
    finally:
        signal.signal(signal.SIGHUP, before)


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
