"""Where the neurons sit in a transformer's modules: its blocks, and the four sites of each block.

The one place that knows module names. A model outside the table is refused by name, never guessed.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor, nn

from nibench.errors import InputError
from nibench.neurons import EMBEDDING_LAYER, Block
from nibench.task import Site

End = Literal["input", "output"]

# Paths inside a block, tried in this order. BERT's own names (`output.dense`) come after the longer ones.
MODULE_PATHS: dict[Site, tuple[str, ...]] = {
    "mlp_post": (  # the FFN's output projection: its input is the site
        "mlp.c_proj",  # GPT-2
        "mlp.down_proj",  # Llama, Mistral, Qwen, Gemma
        "mlp.dense_4h_to_h",  # GPT-NeoX, Falcon, BLOOM
        "mlp.fc_out",  # GPT-J, GPT-Neo
        "mlp.fc2",  # Phi
        "fc2",  # OPT
        "ffn.lin2",  # DistilBERT
        "output.dense",  # BERT, RoBERTa, ELECTRA
    ),
    "mlp_pre": (  # the projection into the non-linearity (gated: the gate): its output is the site
        "mlp.c_fc",
        "mlp.gate_proj",
        "mlp.dense_h_to_4h",
        "mlp.fc_in",
        "mlp.fc1",
        "fc1",
        "ffn.lin1",
        "intermediate.dense",
    ),
    "attn_out": (  # the attention's output projection: its output is the site
        "attn.c_proj",
        "self_attn.o_proj",
        "self_attn.out_proj",
        "self_attn.dense",
        "attention.dense",
        "self_attention.dense",
        "attn.attention.out_proj",
        "attn.out_proj",
        "attention.out_lin",
        "attention.output.dense",
    ),
}
UP_PATHS = {"mlp.gate_proj": "mlp.up_proj"}  # gated FFNs: what the gate's non-linearity multiplies
ACTIVATION_KEYS = ("hidden_activation", "hidden_act", "activation_function", "activation")
FINAL_NORMS = ("ln_f", "norm", "final_layer_norm", "final_layernorm", "decoder.final_layer_norm")


def submodule(parent: nn.Module, path: str) -> nn.Module | None:
    """The module at a dotted path, or None."""
    for name in path.split("."):
        child = getattr(parent, name, None)
        if not isinstance(child, nn.Module):
            return None
        parent = child
    return parent


@dataclass(frozen=True, eq=False)
class Tap:
    """One place where the neurons of a block can be read and replaced."""

    block: Block
    module: nn.Module
    end: End

    def attach(self, function: Callable[[Tensor], Tensor | None]) -> Any:
        """Call ``function`` on the site's tensor in every pass; a returned tensor replaces it.

        The tensor is (batch, tokens, width), in some models flattened to (batch * tokens, width).

        Returns the handle; ``handle.remove()`` detaches.
        """

        def before(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            del module
            if args:
                changed = function(args[0])
                return None if changed is None else ((changed, *args[1:]), kwargs)
            changed = function(kwargs["hidden_states"])
            return None if changed is None else (args, {**kwargs, "hidden_states": changed})

        def after(module: nn.Module, args: Any, output: Any) -> Any:
            del module, args
            if isinstance(output, tuple):
                changed = function(output[0])
                return None if changed is None else (changed, *output[1:])
            return function(output)

        if self.end == "input":
            return self.module.register_forward_pre_hook(before, with_kwargs=True)
        return self.module.register_forward_hook(after)


@dataclass(frozen=True, eq=False)
class Architecture:
    """The blocks of one model and how to reach their sites."""

    model_type: str
    base: nn.Module  # the transformer without its head
    blocks: tuple[nn.Module, ...]
    width: int  # of the residual stream

    @classmethod
    def of(cls, network: Any) -> "Architecture":
        """Find the blocks: the list of ``num_hidden_layers`` modules that have an FFN we know.

        Raises
        ------
        InputError
            If there is none; the message names the model type and the module paths that are known.
        """
        config = network.config.get_text_config()
        base = network.base_model
        for module in base.modules():
            if isinstance(module, nn.ModuleList) and len(module) == config.num_hidden_layers and len(module):
                blocks = tuple(module)
                if any(submodule(blocks[0], path) is not None for path in MODULE_PATHS["mlp_post"]):
                    return cls(config.model_type, base, blocks, config.hidden_size)
        raise InputError(
            f"No transformer blocks found in a model of type {config.model_type!r}: expected "
            f"{config.num_hidden_layers} modules with one of {', '.join(MODULE_PATHS['mlp_post'])}."
        )

    def tap(self, site: Site, layer: int) -> Tap:
        """Where ``L{layer}.{site}`` is read (layer -1, residual: the input of the first block).

        Raises
        ------
        InputError
            If the block has no module that this site is known by.
        """
        if layer == EMBEDDING_LAYER:
            return Tap(Block("embed", EMBEDDING_LAYER, self.width), self.blocks[0], "input")
        name = f"L{layer}.{site}"
        if site == "residual":
            return Tap(Block(name, layer, self.width), self.blocks[layer], "output")
        for path in MODULE_PATHS[site]:
            module = submodule(self.blocks[layer], path)
            if module is not None:
                n_in, n_out = projection(module, f"{name} ({path})").shape
                if site == "mlp_post":
                    return Tap(Block(name, layer, n_in), module, "input")
                return Tap(Block(name, layer, n_out), module, "output")
        raise InputError(
            f"A model of type {self.model_type!r} has no {site!r} that is known: block {layer} has none of "
            f"{', '.join(MODULE_PATHS[site])}. Try another site: residual, mlp_post, mlp_pre, attn_out."
        )

    @property
    def activation(self) -> str:
        """The FFN's non-linearity as the configuration names it; empty where it names none."""
        config: Any = self.base.config
        text = config.get_text_config()
        return next((str(name) for key in ACTIVATION_KEYS if (name := getattr(text, key, None))), "")

    def ffn_modules(self, layer: int) -> tuple[tuple[nn.Module, ...], nn.Module]:
        """The input projections of a block's FFN (one, or the gate's and up), and its output projection.

        Raises
        ------
        InputError
            Naming the module, if a projection is not known or no plain linear layer (fused, quantised, adapted).
        """
        if not 0 <= layer < len(self.blocks):
            raise InputError(f"No block {layer}; expected 0 to {len(self.blocks) - 1}.")
        block = self.blocks[layer]
        inner, outer = (
            next((path for path in MODULE_PATHS[site] if submodule(block, path) is not None), "")
            for site in ("mlp_pre", "mlp_post")
        )
        parent = submodule(block, outer.rpartition(".")[0]) or block
        paths = (inner, *((UP_PATHS[inner],) if inner in UP_PATHS else ()), outer)
        modules = [submodule(block, path) for path in paths]
        shapes = []
        for path, module in zip(paths, modules, strict=True):
            if not path or module is None:
                there = ", ".join(name for name, _ in parent.named_children())
                raise InputError(
                    f"The FFN of block {layer} ({self.model_type}) has the modules {there}: no known input projection "
                    f"goes with {outer!r}. Expected one of {', '.join(MODULE_PATHS['mlp_pre'])}."
                )
            shapes.append(projection(module, f"L{layer} {path}").shape)
            if shapes[-1][1 if path != outer else 0] != shapes[0][1]:
                raise InputError(
                    f"L{layer} {path} is {shapes[-1][0]} x {shapes[-1][1]}, {inner} {shapes[0][0]} x {shapes[0][1]}; "
                    "expected projections of one FFN, as wide as each other (fused ones are not supported)."
                )
        return tuple(modules[:-1]), modules[-1]  # type: ignore[return-value]

    def final_norm(self) -> nn.Module | None:
        """The norm between the last block and the head, where there is one."""
        return next((norm for path in FINAL_NORMS if (norm := submodule(self.base, path)) is not None), None)


def projection(module: nn.Module, name: str = "a projection") -> Tensor:
    """The weight (n_in, n_out) of a linear map, whichever way its class stores it.

    Raises
    ------
    InputError
        For a module that is no linear map (quantised, low-rank adapted, fused).
    """
    weight = getattr(module, "weight", None)
    if isinstance(module, nn.Linear) and module.weight.is_floating_point():
        return module.weight.T
    if type(module).__name__ == "Conv1D" and isinstance(weight, Tensor):
        return weight
    raise InputError(f"{name} is a {type(module).__name__}; expected a plain linear layer.")
