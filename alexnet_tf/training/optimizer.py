"""The paper's stochastic gradient descent (Sec. 5)."""

import bisect
import collections
import re

import keras
import numpy as np
import tensorflow as tf

from alexnet_tf.config.schedule import Schedule
from alexnet_tf.distribution.workers import KerasMultiWorkerStrategy


@keras.saving.register_keras_serializable("alexnet_tf")
class MomentumSGD(keras.optimizers.SGD):
    """Gradient descent with momentum and weight decay inside the momentum.

    v = momentum v - decay learning_rate w - learning_rate gradient
    w = w + v

    Keras's `weight_decay` is another rule: it shrinks the weights outside the
    momentum.

    A `trust_coefficient` makes it LARS, "layer-wise adaptive rate scaling" for
    large batches: the rate of each tower's kernel is multiplied by

        trust_coefficient |w| / (|gradient| + decay |w|)

    which makes its step a fraction of the kernel. Biases, many of which start
    at zero, and kernels that are zero or have no gradient use
    trust_coefficient times the rate.

    Args:
        learning_rate: The rate after the warm-up.
        momentum: Fraction of the last step that is kept, in [0, 1).
        decay: The paper's weight decay.
        decay_biases: Whether biases decay too.
        bias_learning_rate: Factor on the learning rate of biases.
        loss_scale: Factor on the loss, by which the gradients are divided
            again: those of float16 layers would be rounded to zero. (Keras's
            `loss_scale_factor` divides on the primary device.)
        trust_coefficient: 0 for plain gradient descent.
        warmup_steps: Steps of linear growth to `learning_rate`.
        schedule: Rates by date, in place of all others, as in --schedule. At
            rate 0 a variable keeps its bits and v becomes 0.
        steps_per_epoch: Steps of an epoch of the schedule.
        layer_decay: Decay of layers that have their own, by name.
        **kwargs: As for `keras.optimizers.SGD`; `nesterov` has no effect.

    Reference:
        Krizhevsky, Sutskever and Hinton, 2012, Sec. 5.
        You, Gitman and Ginsburg, 2017, "Large Batch Training of Convolutional
        Networks", arXiv:1708.03888: LARS, Algorithm 1.
        Goyal et al., 2017, "Accurate, Large Minibatch SGD: Training ImageNet
        in 1 Hour", arXiv:1706.02677, Sec. 2.2: warm-up.
    """

    def __init__(
        self,
        learning_rate=0.01,
        momentum=0.9,
        decay=0.0005,
        decay_biases=True,
        bias_learning_rate=1.0,
        loss_scale=1.0,
        trust_coefficient=0.0,
        warmup_steps=0,
        schedule="",
        steps_per_epoch=1,
        layer_decay=None,
        **kwargs,
    ):
        # Keras numbers unnamed optimizers, and so their variables in
        # checkpoints, in the order they are made.
        kwargs.setdefault("name", "momentum_sgd")
        super().__init__(learning_rate, momentum=momentum, **kwargs)
        self.decay = decay
        self.decay_biases = decay_biases
        self.bias_learning_rate = bias_learning_rate
        self.loss_scale = loss_scale
        self.trust_coefficient = trust_coefficient
        self.warmup_steps = warmup_steps
        self.schedule = schedule
        self.steps_per_epoch = steps_per_epoch
        self.layer_decay = dict(layer_decay or {})

    def build(self, variables: list[keras.Variable]) -> None:
        """Creates the momentum, and finds biases, their decay and rates.

        Under a strategy `update_step` receives TensorFlow's variables, which
        have other names.
        """
        super().build(variables)
        self._is_bias = [variable.name == "bias" for variable in variables]
        # Layers by their names in Figure 2: conv1 of conv1_tower0/kernel.
        layers = [re.sub(r"(_tower\d+)?/.*", "", v.path) for v in variables]
        self._decays = [
            self.layer_decay.get(layer, self.decay)
            * (self.decay_biases if is_bias else 1)
            for layer, is_bias in zip(layers, self._is_bias, strict=True)
        ]
        if self.schedule:
            schedule = Schedule.parse(self.schedule)
            dates = np.array(schedule.dates) * self.steps_per_epoch
            self._dates = dates.round().astype(np.int64)  # In steps.
            self._weights_rates = schedule.values("weights")
            rates = [
                schedule.values(f"{layer}.{'biases' if is_bias else 'weights'}")
                for layer, is_bias in zip(layers, self._is_bias, strict=True)
            ]
            self._rates = np.array(rates, np.float32)  # By variable and date.
        self._squares = []
        strategy = tf.distribute.get_strategy()
        for variable in variables:
            name = f"{variable.path.replace('/', '_')}_gradient_square"
            with strategy.extended.colocate_vars_with(variable.value):
                self._squares.append(self.add_variable((), name=name))
        # Compiled: it is called after each step.
        self._norm = tf.function(
            lambda: tf.sqrt(tf.add_n([s.value for s in self._squares]))
        )

    def gradient_norm(self) -> float:
        """Returns the norm of the last gradient of the mean loss, all weights.

        Without decay; not finite if any part of the gradient is not.
        """
        return float(self._norm())

    def scale_loss(self, loss: tf.Tensor) -> tf.Tensor:
        """Returns the loss that Keras differentiates."""
        return loss * self.loss_scale

    def update_step(self, gradient, variable: tf.Variable, learning_rate):
        """Updates `variable`."""
        index = self._get_variable_index(variable)
        if self.loss_scale != 1:
            gradient /= self.loss_scale
        square = 2 * tf.nn.l2_loss(gradient)
        self.assign(self._squares[index], square)
        learning_rate *= self._warmup_factor(self.iterations.value)
        decay, momentum = self._decays[index], self.momentum
        if self.trust_coefficient:
            learning_rate *= self._lars_factor(index, variable, tf.sqrt(square))
        if self._is_bias[index]:
            learning_rate *= self.bias_learning_rate
        if self.schedule:
            learning_rate = self._scheduled_rate(index)
            momentum = tf.where(learning_rate > 0, momentum, 0.0)
        if not self.momentum:
            step = learning_rate * (gradient + decay * variable)
            self.assign_sub(variable, step)
            return
        # These change variables in place; others allocate large tensors and
        # take twice the time. The second one multiplies v by the momentum, so
        # that the first one divides by it.
        v = self.momentums[index].value.handle
        if decay:
            alpha = learning_rate * decay / self.momentum
            tf.raw_ops.ResourceApplyGradientDescent(
                var=v, alpha=alpha, delta=variable
            )
        tf.raw_ops.ResourceApplyKerasMomentum(
            var=variable.handle,
            accum=v,
            lr=learning_rate,
            grad=gradient,
            momentum=momentum,
        )

    def last_rate(self) -> float:
        """Returns the learning rate of the last step; scheduled, of weights."""
        step = max(int(self.iterations.numpy()) - 1, 0)
        if self.schedule:
            return self._weights_rates[bisect.bisect(self._dates, step) - 1]
        return float(self.learning_rate.numpy() * self._warmup_factor(step))

    def _warmup_factor(self, step):
        if not self.warmup_steps:
            return 1.0
        step = tf.cast(step, tf.float32) + 1
        return tf.minimum(step / self.warmup_steps, 1.0)

    def _scheduled_rate(self, index):
        step = tf.cast(self.iterations.value, tf.int64)
        after = tf.searchsorted(self._dates, [step], side="right")[0]
        return tf.gather(self._rates[index], after - 1)

    def _lars_factor(self, index, variable, gradient_norm):
        if self._is_bias[index]:
            return self.trust_coefficient
        norm = tf.norm(variable)
        ratio = norm / (gradient_norm + self._decays[index] * norm)
        has_both = (norm > 0) & (gradient_norm > 0)
        return self.trust_coefficient * tf.where(has_both, ratio, 1.0)

    def _all_reduce_sum_gradients(self, grads_and_vars):
        """Sums the gradients over the replicas, device by device.

        Overrides a private method of Keras, which sums them in one call that
        TensorFlow places, with all its inputs, on the primary device.
        """
        pairs = list(grads_and_vars)
        if tf.distribute.get_replica_context() is None:
            return pairs
        indices_on = collections.defaultdict(list)
        # In the order of the variables, the same on all replicas; the order of
        # names is not: GPU:10 comes before GPU:9.
        for index, (gradient, _) in enumerate(pairs):
            indices_on[gradient.device].append(index)
        summed = [None] * len(pairs)
        strategy = tf.distribute.get_strategy()
        for number, (device, indices) in enumerate(indices_on.items()):
            part = [pairs[index] for index in indices]
            with tf.device(device):
                if number and isinstance(strategy, KerasMultiWorkerStrategy):
                    gradients, variables = zip(*part, strict=True)
                    sums = strategy.sum_where_they_are(gradients, number)
                    part = list(zip(sums, variables, strict=True))
                else:
                    part = super()._all_reduce_sum_gradients(part)
            for index, pair in zip(indices, part, strict=True):
                summed[index] = pair
        return summed

    def get_config(self) -> dict:
        """Returns the constructor's arguments."""
        return {
            **super().get_config(),
            "decay": self.decay,
            "decay_biases": self.decay_biases,
            "bias_learning_rate": self.bias_learning_rate,
            "loss_scale": self.loss_scale,
            "trust_coefficient": self.trust_coefficient,
            "warmup_steps": self.warmup_steps,
            "schedule": self.schedule,
            "steps_per_epoch": self.steps_per_epoch,
            "layer_decay": dict(self.layer_decay),
        }
