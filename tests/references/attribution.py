"""Attribution written out: one prompt, one point of a path and one whole pass at a time."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

Score = Callable[[torch.Tensor], torch.Tensor]  # logits (V,) where the answer is read -> a number


def margin_of(correct: int, wrong: Sequence[int]) -> Score:
    return lambda logits: logits[correct] - torch.logsumexp(logits[list(wrong)], 0)


def log_probability_of(correct: int) -> Score:
    return lambda logits: logits.log_softmax(0)[correct]


def probability_of(correct: int) -> Score:
    return lambda logits: logits.softmax(0)[correct]


def integrated_gradients(
    network: Any,
    module: torch.nn.Module,
    ids: Sequence[int],
    read: int,
    score: Score,
    positions: Sequence[int],
    values: np.ndarray,
    start: np.ndarray,
    at: Sequence[float],
    weights: Sequence[float],
) -> np.ndarray:
    """(width,): credits of what enters ``module``, from start to values (T, width), over the positions."""
    total = torch.zeros(values.shape[1])
    away = torch.tensor(values - start)
    for point, weight in zip(at, weights, strict=True):
        leaf = (torch.tensor(start) + point * away).float().requires_grad_()

        def put(_: Any, args: Any, leaf: torch.Tensor = leaf) -> Any:
            flat = args[0].view(-1, args[0].shape[-1])
            rows = [leaf[t] if t in positions else flat[t] for t in range(len(flat))]
            return (torch.stack(rows).view(args[0].shape), *args[1:])

        handle = module.register_forward_pre_hook(put)
        found = score(network(input_ids=torch.tensor([list(ids)])).logits[0, read])
        handle.remove()
        (slope,) = torch.autograd.grad(found, leaf)
        for t in positions:
            total += weight * slope[t] * away[t]
    return total.detach().numpy()


def along_words(
    network: Any,
    modules: Sequence[torch.nn.Module],
    ids: Sequence[int],
    start: torch.Tensor,
    read: int,
    score: Score,
    at: Sequence[float],
) -> tuple[np.ndarray, np.ndarray]:
    """Values and slopes (K, len(modules), T, width) of what enters the modules, on the way from start (T, d)."""
    table = network.get_input_embeddings()
    own = table.weight[list(ids)].detach()
    values, slopes = [], []
    for point in at:
        words = (start + point * (own - start)).requires_grad_()
        seen: list[torch.Tensor] = []
        handles = [table.register_forward_hook(lambda *_, words=words: words[None])]
        handles += [
            m.register_forward_pre_hook(lambda _, args, seen=seen: seen.append(args[0])) for m in modules
        ]
        found = score(network(input_ids=torch.tensor([list(ids)])).logits[0, read])
        for handle in handles:
            handle.remove()
        values.append([one.detach().view(len(ids), -1).numpy() for one in seen])
        slopes.append([one.view(len(ids), -1).numpy() for one in torch.autograd.grad(found, seen)])
    return np.array(values), np.array(slopes)


# ---------------------------------------------------------------- DeepLIFT on GPT-2, one neuron at a time


def _new_gelu(x: np.ndarray) -> np.ndarray:
    return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


class LinearGPT2:
    """GPT-2 in numpy, run once for real and then as the piecewise linear network between two inputs."""

    def __init__(self, network: Any) -> None:
        self.w = {name: value.numpy().astype(np.float64) for name, value in network.state_dict().items()}
        self.layers, self.heads = network.config.n_layer, network.config.n_head
        self.epsilon = network.config.layer_norm_epsilon

    def _norm(self, x: np.ndarray, name: str, key: str, kept: dict, frozen: dict | None) -> np.ndarray:
        centred = x - x.mean(-1, keepdims=True)
        kept[key] = 1 / np.sqrt((centred**2).mean(-1, keepdims=True) + self.epsilon)
        scale = kept[key] if frozen is None else frozen[key]
        return centred * scale * self.w[f"{name}.weight"] + self.w[f"{name}.bias"]

    def _patterns(self, q: np.ndarray, k: np.ndarray) -> np.ndarray:
        size = q.shape[1] // self.heads
        patterns = []
        for h in range(self.heads):
            cut = slice(h * size, (h + 1) * size)
            scores = q[:, cut] @ k[:, cut].T / np.sqrt(size)
            scores = np.where(np.tril(np.ones_like(scores)) > 0, scores, -np.inf)
            scores = np.exp(scores - scores.max(-1, keepdims=True))
            patterns.append(scores / scores.sum(-1, keepdims=True))
        return np.array(patterns)

    def run(
        self, ids: Sequence[int], base: dict | None = None, other: dict | None = None, change: Any = None
    ) -> tuple[np.ndarray, dict]:
        """Logits (T, V) and everything kept; with base and other linear between them.

        ``change`` = (layer, unit, positions, values (T,)) is put in place of a hidden neuron.
        """
        w, kept = self.w, {}
        x = w["transformer.wte.weight"][list(ids)] + w["transformer.wpe.weight"][: len(ids)]
        for layer in range(self.layers):
            at = f"transformer.h.{layer}"
            y = self._norm(x, f"{at}.ln_1", f"n1{layer}", kept, base)
            q, k, v = np.split(y @ w[f"{at}.attn.c_attn.weight"] + w[f"{at}.attn.c_attn.bias"], 3, axis=1)
            kept[f"p{layer}"] = self._patterns(q, k)
            patterns = kept[f"p{layer}"] if base is None else base[f"p{layer}"]
            size = v.shape[1] // self.heads
            mixed = np.concatenate(
                [patterns[h] @ v[:, h * size : (h + 1) * size] for h in range(self.heads)], axis=1
            )
            x = x + mixed @ w[f"{at}.attn.c_proj.weight"] + w[f"{at}.attn.c_proj.bias"]
            y = self._norm(x, f"{at}.ln_2", f"n2{layer}", kept, base)
            before = y @ w[f"{at}.mlp.c_fc.weight"] + w[f"{at}.mlp.c_fc.bias"]
            after = _new_gelu(before)
            if base is not None and other is not None:
                start, stop = base[f"in{layer}"], other[f"in{layer}"]
                slope = (base[f"out{layer}"] - other[f"out{layer}"]) / np.where(
                    start == stop, 1, start - stop
                )
                near = np.abs(start - stop) < 1e-4
                h = 1e-6
                slope = np.where(near, (_new_gelu(start + h) - _new_gelu(start - h)) / (2 * h), slope)
                after = base[f"out{layer}"] + slope * (before - start)
            kept[f"in{layer}"], kept[f"out{layer}"] = before, after.copy()
            if change is not None and change[0] == layer:
                after[list(change[2]), change[1]] = change[3][list(change[2])]
            x = x + after @ w[f"{at}.mlp.c_proj.weight"] + w[f"{at}.mlp.c_proj.bias"]
        x = self._norm(x, "transformer.ln_f", "nf", kept, base)
        return x @ w["transformer.wte.weight"].T, kept

    def contribution(
        self, ids: Sequence[int], source: Sequence[int], layer: int, unit: int, positions: Sequence[int],
        correct: int, wrong: int,
    ) -> float:  # fmt: skip
        """What the margin loses when one neuron takes the twin's values, all else linear."""
        _, base = self.run(ids)
        _, other = self.run(source)
        whole, _ = self.run(ids, base, other)
        without, _ = self.run(ids, base, other, (layer, unit, positions, other[f"out{layer}"][:, unit]))
        return float((whole - without)[-1, correct] - (whole - without)[-1, wrong])
