"""The plateau rule, as a table."""

import pytest

from alexnet_tf.training.plateau import PlateauRule, Verdict

C, D, S = Verdict.CONTINUE, Verdict.DROP, Verdict.STOP
NAN = float("nan")


@pytest.mark.parametrize(
    ("patience", "max_drops", "errors", "verdicts"),
    [
        # Falling errors never end.
        (1, 0, [0.9, 0.8, 0.7], [C, C, C]),
        # An equal error is no improvement.
        (1, 1, [0.5, 0.5, 0.4, 0.4], [C, D, C, S]),
        # A drop starts the wait anew.
        (2, 1, [0.5, 0.6, 0.6, 0.6, 0.6], [C, C, D, C, S]),
        # An improvement does too, but must beat the best of all.
        (2, 3, [0.5, 0.6, 0.4, 0.45, 0.41], [C, C, C, C, D]),
        # Three drops, then the end, as in the paper.
        (1, 3, [0.5, 0.5, 0.5, 0.5, 0.5], [C, D, D, D, S]),
        # NaN is no improvement, not even over nothing.
        (2, 1, [NAN, NAN, 0.9, NAN], [C, D, C, C]),
    ],
)
def test_verdicts(patience, max_drops, errors, verdicts):
    rule = PlateauRule(patience, max_drops)
    assert [rule.update(error) for error in errors] == verdicts


def test_a_restored_rule_continues_as_if_never_stopped():
    errors = [0.5, 0.6, 0.6, 0.45, 0.5, 0.5, 0.5, 0.5]
    whole = PlateauRule(2, 2)
    expected = [whole.update(error) for error in errors]
    for cut in range(len(errors)):
        first = PlateauRule(2, 2)
        verdicts = [first.update(error) for error in errors[:cut]]
        second = PlateauRule(
            2, 2, best=first.best, wait=first.wait, drops=first.drops
        )
        verdicts += [second.update(error) for error in errors[cut:]]
        assert verdicts == expected
