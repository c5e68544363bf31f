"""One training step in PyTorch, the peer of `examples/training_cost.rs`: same shapes, same
loss, random data. `padded` scores every padded position at every dim by its own product, as a
straightforward implementation does; `prefix` scores labelled positions only and adds one slice's
product after the other, the exact reformulation that this repository is built on.

usage: training_cost.py padded|prefix name=value ...   (names as in the Rust example)
Prints one JSON line.
"""

import json
import math
import resource
import statistics
import sys
import time

import torch
from torch import nn
from torch.nn import functional as F


# Multiples of it, less their whole parts, are spread evenly over 0..1.
GOLDEN = 0.6180339887498949


class NestedLinear(nn.Module):
    """Output slice i reads the inputs of slices 0..=i."""

    def __init__(self, dims):
        super().__init__()
        widths = [after - before for before, after in zip([0] + dims, dims)]
        self.parts = nn.ModuleList(nn.Linear(dim, width) for dim, width in zip(dims, widths))
        for part in self.parts:
            nn.init.trunc_normal_(part.weight, std=0.02)

    def forward(self, x):
        return torch.cat([part(x[..., : part.in_features]) for part in self.parts], -1)


class NestedNorm(nn.Module):
    """One layer norm a slice."""

    def __init__(self, dims):
        super().__init__()
        self.widths = [after - before for before, after in zip([0] + dims, dims)]
        self.parts = nn.ModuleList(nn.LayerNorm(width) for width in self.widths)

    def forward(self, x):
        return torch.cat([norm(part) for norm, part in zip(self.parts, x.split(self.widths, -1))], -1)


class Block(nn.Module):
    """Linear recurrent unit and gated feed-forward layer, each with a residual."""

    def __init__(self, dims, dropout):
        super().__init__()
        d = dims[-1]
        radius = torch.empty(d).uniform_(0.8**2, 0.99**2)
        self.nu = nn.Parameter(torch.log(-0.5 * torch.log(radius)))
        self.theta = nn.Parameter(torch.log(torch.rand(d) * 6.28 + 1e-6))
        self.gamma = nn.Parameter(torch.log(torch.sqrt(1 - radius)))
        self.in_re, self.in_im = NestedLinear(dims), NestedLinear(dims)
        self.out_re, self.out_im = NestedLinear(dims), NestedLinear(dims)
        self.norm_1, self.norm_2 = NestedNorm(dims), NestedNorm(dims)
        self.gate, self.w_1, self.w_2 = NestedLinear(dims), NestedLinear(dims), NestedLinear(dims)
        self.drop = nn.Dropout(dropout)

    def forward(self, x, valid):
        z = self.norm_1(x)
        h = torch.complex(self.in_re(z), self.in_im(z)) * torch.exp(self.gamma)
        power = torch.exp(torch.complex(-torch.exp(self.nu), torch.exp(self.theta)))
        step = 1
        # Doubling: after round k every state holds the last 2^k inputs.
        while step < h.shape[1]:
            earlier = F.pad(h[:, :-step] * valid[:, :-step], (0, 0, step, 0))
            h, power, step = h + power * earlier, power * power, step * 2
        x = x + self.drop(self.out_re(h.real) - self.out_im(h.imag))
        z = self.norm_2(x)
        return x + self.drop(self.w_2(self.drop(F.silu(self.gate(z)) * self.w_1(z))))


class Model(nn.Module):
    def __init__(self, features, dims, blocks, dropout):
        super().__init__()
        self.dims = dims
        self.register_buffer("features", features)
        self.projector = nn.Linear(features.shape[1], dims[-1])
        nn.init.trunc_normal_(self.projector.weight, std=0.02)
        self.drop = nn.Dropout(dropout)
        self.blocks = nn.ModuleList(Block(dims, dropout) for _ in range(blocks))

    def loss(self, tokens, labels, variant):
        table = self.projector(self.features)
        x = self.drop(table[tokens])
        valid = (tokens > 0).unsqueeze(-1)
        for block in self.blocks:
            x = block(x, valid)
        if variant == "padded":
            losses = [
                F.cross_entropy((x[..., :d] @ table[:, :d].T).flatten(0, 1), labels.flatten(), ignore_index=0)
                for d in self.dims
            ]
        else:
            x, labels, scores, losses = x[labels > 0], labels[labels > 0], 0.0, []
            for before, after in zip([0] + self.dims, self.dims):
                scores = scores + x[:, before:after] @ table[:, before:after].T
                losses.append(F.cross_entropy(scores, labels))
        return sum(losses) / len(losses)


def batch(items, users, max_len, mean_len):
    """`users` are numbers: the n-th has the same length in every implementation."""
    tokens = torch.zeros(len(users), max_len, dtype=torch.long)
    labels = torch.zeros(len(users), max_len, dtype=torch.long)
    for user, number in enumerate(users):
        quantile = (number + 0.5) * GOLDEN % 1
        length = int(min(max_len, round(3 - max(mean_len - 3, 0) * math.log(1 - quantile))))
        sequence = torch.randint(1, items + 1, (length + 1,))
        tokens[user, max_len - length :] = sequence[:-1]
        labels[user, max_len - length :] = sequence[1:]
    return tokens, labels


def main():
    variant = sys.argv[1]
    settings = dict(
        dims="8,16,32,64,128", items=12101, features=2048, blocks=1, users=32, max_len=50, mean_len=7.2,
        steps=10, dropout=0.6, threads=1, device="cpu",
    )
    settings.update(pair.split("=", 1) for pair in sys.argv[2:])
    dims = [int(dim) for dim in settings["dims"].split(",")]
    number = lambda name: int(settings[name])
    torch.manual_seed(1)
    torch.set_num_threads(number("threads"))
    device = torch.device(settings["device"])
    if device.type == "cuda":
        # What the other side's products are on tensor cores.
        torch.set_float32_matmul_precision("high")
    features = torch.rand(number("items") + 1, number("features")) * 2 - 1
    features[0] = 0
    model = Model(features / number("features") ** 0.5, dims, number("blocks"), float(settings["dropout"])).to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.01)
    walls, cpus, positions = [], [], 0
    for step in range(number("steps") + 2):
        users = range(step * number("users"), (step + 1) * number("users"))
        tokens, labels = batch(number("items"), users, number("max_len"), float(settings["mean_len"]))
        if device.type == "cuda":
            torch.cuda.synchronize()
        wall, cpu = time.perf_counter(), time.process_time()
        optimizer.zero_grad(set_to_none=True)
        loss = model.loss(tokens.to(device), labels.to(device), variant)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimizer.step()
        if device.type == "cuda":
            torch.cuda.synchronize()
        if step >= 2:
            walls.append(time.perf_counter() - wall)
            cpus.append(time.process_time() - cpu)
            positions += int((labels > 0).sum())
    print(json.dumps({
        "implementation": f"PyTorch {torch.__version__}, {variant}",
        "dims": dims,
        "items": number("items"),
        "positions_a_step": positions // number("steps"),
        "wall_s": statistics.median(walls),
        "cpu_s": statistics.mean(cpus),
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        "loss": loss.item(),
    }))


main()
