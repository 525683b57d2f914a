"""Groups: prompts of equal length as tensors, and one plain pass over them with everything read."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from nibench.architecture import Tap
from nibench.model import LanguageModel, Passes
from nibench.prompts import EncodedPrompts

Target = Literal["margin", "log_probability", "probability"]  # of the right answer, over the whole vocabulary


@dataclass(frozen=True, eq=False)
class Group:
    """n prompts of T tokens: ids (n, T), where ablations act (n, T), and the answers."""

    rows: np.ndarray  # (n,) which prompts of the behaviour
    ids: Tensor
    sources: Tensor | None
    acts: Tensor  # (n, T) bool
    read: Tensor  # (n,)
    tokens: Tensor  # (U,) every token that is an answer in this group
    correct: Tensor  # (n,) index into tokens
    wrong: Tensor  # (n, A) index into tokens
    unused: Tensor  # (n, A) bool

    @classmethod
    def of(cls, model: LanguageModel, prompts: EncodedPrompts, rows: np.ndarray, at_last: bool) -> "Group":
        ids = np.array([prompts.ids[row] for row in rows])
        sources = [prompts.sources[row] for row in rows]
        positions = np.arange(ids.shape[1])
        if at_last:
            acts = positions == prompts.read[rows][:, None]
        else:
            acts = ~np.isin(ids, sorted(model.special_ids))
        wrong = prompts.wrong[rows]
        tokens = np.unique(np.concatenate([prompts.correct[rows], wrong[wrong >= 0]]))

        def tensor(array: Any) -> Tensor:
            return torch.from_numpy(np.ascontiguousarray(array)).to(model.device)

        return cls(
            rows=rows,
            ids=tensor(ids),
            sources=None if None in sources else tensor(np.array(sources)),
            acts=tensor(acts),
            read=tensor(prompts.read[rows]),
            tokens=tensor(tokens),
            correct=tensor(np.searchsorted(tokens, prompts.correct[rows])),
            wrong=tensor(np.searchsorted(tokens, np.maximum(wrong, tokens[0]))),
            unused=tensor(wrong < 0),
        )

    def score(self, logits: Tensor, target: Target) -> Tensor:
        """Logits (J, n, U) of the answers, or (J, n, V) of all words where not the margin is asked, -> (J, n)."""
        if target == "margin":
            return self.margin(logits)
        right = self.tokens[self.correct][:, None].expand(*logits.shape[:-1], 1)
        found = logits.log_softmax(-1).gather(-1, right)[..., 0]
        return found.exp() if target == "probability" else found

    def margin(self, logits: Tensor) -> Tensor:
        """Logits (J, n, U) of the answers -> margins (J, n): the correct one minus the wrong ones."""
        shape = (*logits.shape[:-1], 1)
        right = logits.gather(-1, self.correct[:, None].expand(shape))[..., 0]
        wrong = logits.gather(-1, self.wrong.expand(*logits.shape[:-1], self.wrong.shape[1]))
        if self.wrong.shape[1] == 1:
            return right - wrong[..., 0]
        return right - wrong.masked_fill(self.unused, -torch.inf).logsumexp(-1)


@dataclass(frozen=True, eq=False)
class Record:
    """What one plain pass over a group left behind."""

    margins: Tensor  # (n,)
    sites: list[Tensor]  # per tap (n, T, width)
    hidden: list[Tensor]  # per block its input, then the last one's output, (n, T, d)


def record(
    model: LanguageModel, group: Group, ids: Tensor, taps: Sequence[Tap], passes: Passes, cache: Any = None
) -> Record:
    """One plain pass of the whole network over token ids (n, T), with everything read."""
    sites: list[Tensor] = []
    hidden: list[Tensor] = []
    blocks = model.architecture.blocks
    with ExitStack() as stack, torch.no_grad():
        for tap in taps:
            stack.callback(tap.attach(lambda values: sites.append(values.view(*ids.shape, -1))).remove)
        for block in blocks:
            stack.callback(before(block, lambda values: hidden.append(values)).remove)
        stack.callback(after(blocks[-1], lambda values: hidden.append(values)).remove)
        caching = (
            {"past_key_values": cache, "use_cache": cache is not None} if model.has_head == "causal" else {}
        )
        logits = model.network(input_ids=ids, **caching).logits
    passes.forward += len(ids)
    read = logits[torch.arange(len(ids)), group.read][:, group.tokens]
    return Record(group.margin(read[None])[0], sites, hidden)


def whole_pass(model: LanguageModel, group: Group, passes: Passes, n_variants: int, target: Target) -> Tensor:
    """The target (J, n) of J whole passes over a group, under whatever is attached to the network."""
    ids = group.ids.repeat(n_variants, 1)
    rows, read = torch.arange(len(ids), device=ids.device), group.read.repeat(n_variants)
    caching = {"use_cache": False} if model.has_head == "causal" else {}

    def only_read(module: Any, args: tuple[Any, ...]) -> Any:
        del module
        return (args[0][rows, read][:, None], *args[1:]) if args[0].ndim == 3 else None

    with ExitStack() as stack:
        head = model.network.get_output_embeddings()
        if isinstance(head, torch.nn.Linear):  # the vocabulary is large: answers are read at one place only
            stack.callback(head.register_forward_pre_hook(only_read).remove)
        logits = model.network(input_ids=ids, **caching).logits
    passes.forward += len(ids)
    chosen = logits[:, 0] if logits.shape[1] == 1 else logits[rows, read]
    chosen = chosen[:, group.tokens] if target == "margin" else chosen
    return group.score(chosen.view(n_variants, len(group.ids), -1), target)


def before(block: Any, function: Callable[[Tensor], None]) -> Any:
    """Call ``function`` on the hidden states that enter a block; returns the handle."""

    def hook(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        del module
        function(args[0] if args else kwargs["hidden_states"])

    return block.register_forward_pre_hook(hook, with_kwargs=True)


def after(block: Any, function: Callable[[Tensor], None]) -> Any:
    """Call ``function`` on the hidden states that leave a block; returns the handle."""

    def hook(module: Any, args: Any, output: Any) -> None:
        del module, args
        function(output[0] if isinstance(output, tuple) else output)

    return block.register_forward_hook(hook)
