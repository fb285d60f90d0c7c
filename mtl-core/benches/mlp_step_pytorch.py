"""The step of mlp_step.rs in PyTorch eager mode, on one thread: fastest and median time in microseconds.

Needs the torch of the same version as the libtorch in use: python3 mlp_step_pytorch.py
"""
import statistics
import time

import torch
from torch import nn

torch.set_num_threads(1)
torch.manual_seed(0)


def measure(batch, samples=1000):
    x, y = torch.randn(batch, 784), torch.arange(batch) % 10
    model = nn.Sequential(nn.Linear(784, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 10))
    sgd = torch.optim.SGD(model.parameters(), lr=0.01)
    times = []
    for _ in range(samples + 20):
        start = time.perf_counter_ns()
        sgd.zero_grad(set_to_none=True)
        nn.functional.cross_entropy(model(x), y).backward()
        sgd.step()
        times.append((time.perf_counter_ns() - start) / 1000)
    times = times[20:]
    return min(times), statistics.median(times)


for batch in (32, 128):
    fastest, median = measure(batch)
    print(f"batch {batch:4}: fastest {fastest:7.1f} us, median {median:7.1f} us")
