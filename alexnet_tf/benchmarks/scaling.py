"""How fast many replicas would be: a prediction from measured parts.

Each replica keeps its batch, so that the global batch grows with their number.
A step takes what its layers take, the traffic between towers, and the sum of
the gradients over the replicas, which TensorFlow may or may not do beside the
backward pass: both are told. Replicas of a machine sum among themselves, then
machines do; a sum in a ring moves 2 (n - 1) / n of the gradients through each
of n links.
"""

import dataclasses
import math

# Global batches of AlexNet that are reported to have kept its accuracy.
PUBLISHED_BATCHES = {
    128: "Krizhevsky, Sutskever and Hinton, 2012, Sec. 5",
    8_192: "You, Gitman and Ginsburg, 2017, arXiv:1708.03888: LARS",
    32_768: "You et al., 2017, arXiv:1709.05011: LARS, 100 epochs in 11 "
    "minutes on 1,024 processors",
}
DEVICES = tuple(2**n for n in range(11))


@dataclasses.dataclass(frozen=True)
class Machines:
    """Equal machines.

    Args:
        rate: Training steps on one device [images/s].
        input_rate: What one machine's processors read [images/s].
        devices: Devices of a machine.
        link: Between machines, for each of them [bytes/s].
        device_link: Between devices of a machine, for each [bytes/s].
    """

    rate: float
    input_rate: float
    devices: int
    link: float
    device_link: float


@dataclasses.dataclass(frozen=True)
class Traffic:
    """What a network moves.

    Args:
        gradients: Of a replica, each step [bytes].
        between_towers: For each image, in each direction [bytes].
    """

    gradients: float
    between_towers: float


@dataclasses.dataclass(frozen=True)
class Prediction:
    """What a number of devices would do.

    Args:
        devices: The number.
        replicas: Networks, each on one device or on one a tower.
        global_batch: Images a step.
        lowest: Images a second if gradients are summed after the step.
        highest: Images a second if that costs no time of its own.
        input_limit: Images a second that can be read.
    """

    devices: int
    replicas: int
    global_batch: int
    lowest: float
    highest: float
    input_limit: float

    @property
    def starves(self) -> bool:
        """Whether the input may be what is waited for."""
        return self.highest > self.input_limit


def predict(
    traffic: Traffic,
    machines: Machines,
    *,
    devices: int,
    towers: int,
    batch: int,
) -> Prediction:
    """Predicts the speed of training.

    Args:
        traffic: What the network moves.
        machines: What it runs on.
        devices: Number of devices, a multiple of `towers`.
        towers: Devices of a replica, each with a tower; 1 for data parallelism
            alone.
        batch: Images of a replica.
    """
    num_machines = math.ceil(devices / machines.devices)
    replicas = devices // towers
    step = batch / machines.rate / towers
    if towers > 1:
        step += batch * traffic.between_towers / machines.device_link
    together = math.ceil(replicas / num_machines)
    # Each device of a replica sums the gradients of its own tower.
    within = _ring(together) * traffic.gradients / towers
    between = _ring(num_machines) * traffic.gradients
    summing = within / machines.device_link + between / machines.link
    global_batch = replicas * batch
    return Prediction(
        devices,
        replicas,
        global_batch,
        lowest=global_batch / (step + summing),
        highest=global_batch / max(step, summing),
        input_limit=num_machines * machines.input_rate,
    )


def _ring(members):
    """Returns how often a link carries all that is summed in a ring."""
    return 2 * (members - 1) / members


def as_table(predictions: list[Prediction]) -> str:
    """Returns predictions as text."""
    lines = [
        f"{'devices':>7}{'replicas':>10}{'batch':>9}{'images/s':>22}"
        f"{'efficiency':>16}  input"
    ]
    first = predictions[0].highest / predictions[0].devices
    for p in predictions:
        rates = f"{p.lowest:,.0f} to {p.highest:,.0f}"
        shares = " to ".join(
            f"{rate / p.devices / first:.0%}" for rate in (p.lowest, p.highest)
        )
        lines.append(
            f"{p.devices:7,}{p.replicas:10,}{p.global_batch:9,}{rates:>22}"
            f"{shares:>16}  "
            + (f"starves above {p.input_limit:,.0f}" if p.starves else "enough")
        )
    return "\n".join(lines)
