"""AlexNet in PyTorch, tuned for processors: what torch_speed.py compares with.

Needs PyTorch alone. It has what made training faster on two cores: tensors with
channels last, conv1 as a 3x3 convolution of blocks of 4x4 pixels, response
normalization as a product with a band matrix, fused updates, torch.compile. Its
images are such blocks already, normalized and in the precision of the network,
which other programs spend time on.

As a program it makes a training step for each line of input and answers with
the number of images.
"""

import sys

import torch
from torch import nn
from torch.nn import functional

BATCH_SIZE = 128


class ResponseNormalization(nn.Module):
    """x / (2 + 1e-4 sum of five squares)^0.75."""

    def __init__(self, maps):
        super().__init__()
        distance = torch.arange(maps)[:, None] - torch.arange(maps)
        self.register_buffer("window", (distance.abs() < 3).float())

    def forward(self, x):
        """Returns the normalized maps."""
        maps_last = x.permute(0, 2, 3, 1)
        sums = maps_last.square() @ self.window.to(x.dtype)
        root = torch.rsqrt(2 + 1e-4 * sums.float())
        factor = root * root.sqrt()
        return (maps_last * factor).to(x.dtype).permute(0, 3, 1, 2)


class Conv1(nn.Module):
    """96 kernels of 11x11x3 with stride 4, of blocks (batch, 48, 57, 57)."""

    def __init__(self):
        super().__init__()
        self.kernels = nn.Parameter(0.01 * torch.randn(96, 3, 11, 11))
        self.biases = nn.Parameter(torch.zeros(96))

    def forward(self, blocks):
        """Returns (batch, 96, 55, 55)."""
        kernels = functional.pad(self.kernels, (0, 1, 0, 1))
        kernels = kernels.unflatten(3, (3, 4)).unflatten(2, (3, 4))
        kernels = kernels.permute(0, 1, 3, 5, 2, 4).flatten(1, 3)
        kernels = kernels.to(blocks.dtype, memory_format=torch.channels_last)
        return functional.conv2d(blocks, kernels, self.biases.to(blocks.dtype))


def make_network() -> nn.Module:
    """Returns the paper's network, with groups for towers."""
    layers = [Conv1(), nn.ReLU(), ResponseNormalization(96)]
    layers += [nn.MaxPool2d(3, 2), nn.Conv2d(96, 256, 5, padding=2, groups=2)]
    layers += [nn.ReLU(), ResponseNormalization(256), nn.MaxPool2d(3, 2)]
    for inputs, kernels, groups in (
        (256, 384, 1),
        (384, 384, 2),
        (384, 256, 2),
    ):
        layers.append(nn.Conv2d(inputs, kernels, 3, padding=1, groups=groups))
        layers.append(nn.ReLU())
    layers += [nn.MaxPool2d(3, 2), nn.Flatten()]
    for inputs in (9216, 4096):
        layers += [nn.Linear(inputs, 4096), nn.ReLU(), nn.Dropout()]
    layers.append(nn.Linear(4096, 1000))
    return nn.Sequential(*layers).to(memory_format=torch.channels_last)


def main() -> None:
    """Trains in the precision that is named on the command line."""
    dtype = getattr(torch, sys.argv[1])
    network = make_network()
    compiled = torch.compile(network)
    optimizer = torch.optim.SGD(
        network.parameters(), 0.01, momentum=0.9, weight_decay=5e-4, fused=True
    )
    images = torch.randn(BATCH_SIZE, 48, 57, 57)
    images = images.to(dtype, memory_format=torch.channels_last)
    labels = torch.randint(1000, (BATCH_SIZE,))
    for _ in sys.stdin:
        optimizer.zero_grad(set_to_none=True)
        is_half = dtype != torch.float32
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=is_half):
            logits = compiled(images)
        functional.cross_entropy(logits.float(), labels).backward()
        optimizer.step()
        print(BATCH_SIZE, flush=True)


if __name__ == "__main__":
    main()
