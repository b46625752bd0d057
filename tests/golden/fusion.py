"""Vectors of tracks as each fusion makes them of random parameters, by the modules of PyTorch.

Each row is computed alone, and of the modalities that it has: nothing is masked, so that what a mask
does can be held against it.
"""

import torch
from torch import nn

D = 8
HIDDEN = 6
SEGMENTS = {"text": 5, "lyrics": 4, "audio": 3}
# What each row has.
ROWS = [
    ["text", "lyrics", "audio"],
    ["text", "audio"],
    ["lyrics"],
    ["text", "lyrics", "audio"],
    [],
]
# The row whose own vector is zero: a new track.
NEW = 3


def draw(chance: torch.Generator, *shape: int, around: float = 0.0) -> torch.Tensor:
    """Random parameters, far from what training begins with."""
    return around + 0.4 * torch.randn(shape, generator=chance)


class Perceptron(nn.Module):
    """A linear map, and a perceptron beside it."""

    def __init__(self, width: int, chance: torch.Generator) -> None:
        super().__init__()
        self.linear = nn.Linear(width, D, bias=False)
        self.inner = nn.Linear(width, HIDDEN)
        self.outer = nn.Linear(HIDDEN, D, bias=False)
        for parameter in self.parameters():
            parameter.copy_(draw(chance, *parameter.shape))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The sum of both."""
        return self.linear(x) + self.outer(torch.relu(self.inner(x)))


def concat(own: torch.Tensor, there: dict, chance: torch.Generator) -> tuple[torch.Tensor, list]:
    """All side by side, through a linear map and a perceptron."""
    whole = Perceptron((1 + len(SEGMENTS)) * D, chance)
    sides = [there.get(name, torch.zeros(D)) for name in SEGMENTS]
    return own + whole(torch.cat([own, *sides])), list(whole.parameters())


def weighted_sum(own: torch.Tensor, there: dict, chance: torch.Generator) -> tuple[torch.Tensor, list]:
    """Unit vectors by weights of those that are there."""
    weights, gain = draw(chance, len(SEGMENTS)), draw(chance, 1, around=1.0)
    places = [at for at, name in enumerate(SEGMENTS) if name in there]
    shares = torch.softmax(weights[places], 0)
    summed = sum(
        share * nn.functional.normalize(token, dim=0)
        for share, token in zip(shares, there.values(), strict=True)
    )
    return own + gain * summed, [weights, gain]


def cross_attention(own: torch.Tensor, there: dict, chance: torch.Generator) -> tuple[torch.Tensor, list]:
    """The own vector asks, the modalities answer."""
    norms = [nn.LayerNorm(D, eps=1e-2) for _ in range(2)]
    for norm in norms:
        norm.weight.copy_(draw(chance, D, around=1.0))
        norm.bias.copy_(draw(chance, D))
    attention = nn.MultiheadAttention(D, 4, bias=False, batch_first=True)
    attention.in_proj_weight.copy_(draw(chance, 3 * D, D))
    attention.out_proj.weight.copy_(draw(chance, D, D))
    tokens = torch.stack(list(there.values()))
    mixed, _ = attention(norms[0](own)[None], norms[1](tokens), tokens)
    in_and_out = [*attention.in_proj_weight.chunk(3), attention.out_proj.weight]
    return own + mixed[0], [value for norm in norms for value in norm.parameters()] + in_and_out


def film(own: torch.Tensor, there: dict, chance: torch.Generator) -> tuple[torch.Tensor, list]:
    """The modalities scale and shift the own vector."""
    scale, shift = (draw(chance, D, len(SEGMENTS) * D) for _ in range(2))
    sides = torch.cat([there.get(name, torch.zeros(D)) for name in SEGMENTS])
    return own * (1 + scale @ sides) + shift @ sides, [scale, shift]


FUSIONS = {
    "concat": concat,
    "weighted_sum": weighted_sum,
    "cross_attention": cross_attention,
    "film": film,
}


@torch.no_grad()
def fusion_golden() -> tuple[dict, dict]:
    """Contents, own vectors, parameters in the order that the engine has them in, and the vectors."""
    chance = torch.Generator().manual_seed(5)
    maps = {name: Perceptron(width, chance) for name, width in SEGMENTS.items()}
    stand_in = draw(chance, D)
    own = draw(chance, len(ROWS), D)
    own[NEW] = 0
    contents, tokens = [], []
    for row in ROWS:
        segments = {
            name: draw(chance, width) if name in row else torch.zeros(width)
            for name, width in SEGMENTS.items()
        }
        contents.append(torch.cat(list(segments.values())))
        tokens.append({
            name: maps[name](nn.functional.normalize(segments[name], dim=0)) for name in row
        })  # fmt: skip
    values = {"content": torch.stack(contents), "own": own}
    shared = [value for one in maps.values() for value in one.parameters()] + [stand_in]
    for name, fuse in FUSIONS.items():
        vectors, parameters = [], []
        for x, there in zip(own, tokens, strict=True):
            if not there:
                vectors.append(x + stand_in)
                continue
            vector, parameters = fuse(x, there, torch.Generator().manual_seed(7))
            vectors.append(vector)
        values[f"{name}.vectors"] = torch.stack(vectors)
        for number, value in enumerate([*shared, *parameters]):
            values[f"{name}.{number}"] = value.detach().clone()
    return {"segments": SEGMENTS, "dimensions": D, "hidden": HIDDEN}, values
