"""LanguageModel: load an encoder or a decoder from a folder or the hub, and name its neurons.

Importing this module imports neither torch nor transformers, so that `model_digest` stays cheap.
"""

import hashlib
import inspect
import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from nibench.errors import InputError, unknown
from nibench.modelfiles import FOLDER_HINT, check_folder, locate, model_digest
from nibench.neurons import EMBEDDING_LAYER, Neurons
from nibench.task import SITES, Site

if TYPE_CHECKING:
    import torch

    from nibench.architecture import Architecture, Tap

Head = Literal["causal", "masked", "readout"]
Layers = str | int | slice | Sequence[int] | None

__all__ = ["LanguageModel", "Layers", "Passes", "choose_layers", "load_model", "model_digest"]


@dataclass
class Passes:
    """Passes through the model, in whole-item equivalents; backward ones count apart."""

    forward: float = 0.0
    backward: float = 0.0

    def reset(self) -> None:
        """Start counting again."""
        self.forward = self.backward = 0.0


@dataclass(frozen=True, eq=False)
class LanguageModel:
    """A language model in eval mode, float32, without gradients by default.

    Attributes
    ----------
    name : str
        As the user gave it.
    folder : Path or None
        Where its files are; None for a model made in memory.
    digest : str
        sha256 over weights, configuration and tokenizer.
    has_head : "causal", "masked", "readout" or None
        Which words it can be asked for; for classes (see `nibench.readout`); None for a bare encoder.
    passes : Passes
        How many sentences went through it.
    """

    name: str
    folder: Path | None
    digest: str
    has_head: Head | None
    network: Any  # transformers.PreTrainedModel
    tokenizer: Any  # transformers.PreTrainedTokenizerBase, fast
    passes: Passes = field(default_factory=Passes)

    @classmethod
    def from_network(cls, network: Any, tokenizer: Any, name: str = "in memory") -> "LanguageModel":
        """Wrap a transformers model and a fast tokenizer that are already in memory."""
        if network.config.is_encoder_decoder:
            raise InputError(
                f"{name} is an encoder-decoder model; nibench reads encoders and decoders so far."
            )
        if not tokenizer.is_fast:
            raise InputError(f"{name} has a slow tokenizer; expected a fast one (tokenizer.json).")
        network = network.eval().float().requires_grad_(False)
        seen = hashlib.sha256(json.dumps(network.config.to_dict(), sort_keys=True, default=str).encode())
        for key, value in sorted(network.state_dict().items()):
            seen.update(key.encode())
            seen.update(np.ascontiguousarray(value.cpu().numpy()).data)
        seen.update(tokenizer.backend_tokenizer.to_str().encode())
        return cls(name, None, seen.hexdigest(), _head_of(type(network).__name__), network, tokenizer)

    def reinitialised(self, seed: int = 0) -> "LanguageModel":
        """The same architecture and tokenizer with the weights that its class starts training from."""
        import torch

        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network = type(self.network)(self.network.config)
        network = network.to(self.device).eval().float().requires_grad_(False)
        digest = hashlib.sha256(f"{self.digest} reinitialised {seed}".encode()).hexdigest()
        return replace(self, digest=digest, network=network, passes=Passes())

    @cached_property
    def architecture(self) -> "Architecture":
        """Its blocks and sites."""
        from nibench.architecture import Architecture

        return Architecture.of(self.network)

    @property
    def n_layers(self) -> int:
        """The number of blocks."""
        return len(self.architecture.blocks)

    @property
    def device(self) -> "torch.device":
        """Where the weights are."""
        return self.network.device

    @cached_property
    def window(self) -> int:
        """How many tokens one pass can take, special tokens included."""
        config = self.network.config.get_text_config()
        limit = (
            getattr(config, "max_position_embeddings", None) or getattr(config, "n_positions", None) or 10**9
        )
        if "roberta" in config.model_type or config.model_type == "camembert":
            limit -= (config.pad_token_id or 0) + 1  # their positions start after the padding id
        return int(min(limit, self.tokenizer.model_max_length))

    @cached_property
    def special_ids(self) -> frozenset[int]:
        """Ids of tokens that stand for no text: BOS, EOS, CLS, SEP, padding; not unknown words, not masks."""
        words = {self.tokenizer.unk_token_id, self.tokenizer.mask_token_id}
        return frozenset(set(self.tokenizer.all_special_ids) - words)

    @cached_property
    def frame(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """The special tokens that the tokenizer puts before and after a text."""
        encoded = self.tokenizer("a", return_special_tokens_mask=True)
        ids, special = encoded["input_ids"], encoded["special_tokens_mask"]
        text = [i for i, flag in enumerate(special) if not flag]
        return tuple(ids[: text[0]]), tuple(ids[text[-1] + 1 :])

    @cached_property
    def _no_cache(self) -> dict[str, bool]:
        parameters = inspect.signature(self.architecture.base.forward).parameters
        return {"use_cache": False} if "use_cache" in parameters else {}

    def run(self, sequences: Sequence[Sequence[int]]) -> Any:
        """One pass of the transformer, without its head, over token ids padded to the longest sequence.

        Attached functions (`taps`) see the values; the padded positions come last in every row.
        """
        import torch

        lengths = np.array([len(sequence) for sequence in sequences])
        ids = np.full((len(sequences), lengths.max()), self.tokenizer.pad_token_id or 0)
        for row, sequence in zip(ids, sequences, strict=True):
            row[: len(sequence)] = sequence
        mask = None
        if lengths.min() < lengths.max():
            mask = torch.from_numpy((np.arange(lengths.max()) < lengths[:, None]).astype(np.int64)).to(
                self.device
            )
        self.passes.forward += len(sequences)
        with torch.inference_mode():
            return self.architecture.base(
                input_ids=torch.from_numpy(ids).to(self.device), attention_mask=mask, **self._no_cache
            )

    def taps(self, site: Site, layers: Layers = None) -> list["Tap"]:
        """Where the neurons of a site are read, in the order of `neurons`."""
        if site not in SITES:
            raise unknown("site", site, SITES, f"There are {', '.join(SITES)}.")
        return [self.architecture.tap(site, layer) for layer in choose_layers(layers, self.n_layers, site)]

    def neurons(self, site: Site, layers: Layers = None) -> Neurons:
        """The names of the neurons of a site.

        Parameters
        ----------
        site : Site
            ``residual`` starts with the embedding output, ``embed.{unit}``.
        layers : str, int, slice, list of int, optional
            Which blocks: ``"-4:"``, ``"1,3"``, ``"embed,0"``, ``[0, 1]``, ``slice(2, None)``. Default: all.
        """
        return Neurons(tuple(tap.block for tap in self.taps(site, layers)))


def choose_layers(layers: Layers, n_layers: int, site: Site) -> list[int]:
    """Layer numbers in ascending order; -1 is the embedding output (residual only).

    Raises
    ------
    InputError
        For a layer that does not exist or a choice that cannot be read.
    """
    every = list(range(n_layers))
    if layers is None:
        return [EMBEDDING_LAYER, *every] if site == "residual" else every
    expected = f"expected layers 0 to {n_layers - 1} such as '-4:', '1,3' or [0, 1]"
    chosen: set[int] = set()
    parts = (
        layers.split(",")
        if isinstance(layers, str)
        else [layers]
        if isinstance(layers, int | slice)
        else layers
    )
    for part in parts:
        if isinstance(part, slice):
            chosen.update(every[part])
        elif isinstance(part, str) and part.strip() == "embed" and site == "residual":
            chosen.add(EMBEDDING_LAYER)
        elif isinstance(part, str) and ":" in part:
            start, _, stop = part.partition(":")
            try:
                chosen.update(every[slice(int(start) if start else None, int(stop) if stop else None)])
            except ValueError:
                raise InputError(f"Cannot read layers={layers!r}; {expected}.") from None
        else:
            try:
                number = int(part)
            except (TypeError, ValueError):
                raise InputError(f"Cannot read layers={layers!r}; {expected}.") from None
            if not -n_layers <= number < n_layers:
                raise InputError(f"No layer {number} in a model of {n_layers} layers; {expected}.")
            chosen.add(number % n_layers)
    if not chosen:
        raise InputError(f"layers={layers!r} chooses no layer; {expected}.")
    return sorted(chosen)


def load_model(name: str | Path, *, device: str = "auto", revision: str | None = None) -> LanguageModel:
    """Load a language model from a folder or, where the user names one, by its hub id.

    Parameters
    ----------
    name : str or Path
        A folder as ``save_pretrained`` writes it, or a hub id such as ``bert-base-cased``. A folder never
        touches the network. Weights must be safetensors; code that comes with a model is never run.
    device : str
        ``auto`` (a GPU if there is one), ``cpu``, ``cuda``, ``cuda:1``, ...
    revision : str, optional
        Branch, tag or commit of a hub id.

    Raises
    ------
    InputError
        If there is no such model, a file is missing, truncated or unreadable, or the kind is not supported.
    """
    folder = locate(name, revision)
    config = check_folder(folder)
    architectures = config.get("architectures") or [""]
    head = _head_of(str(architectures[0]))

    import torch
    from transformers import AutoModel, AutoModelForCausalLM, AutoModelForMaskedLM, AutoTokenizer
    from transformers.utils import logging

    place = torch.device(
        ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else _device(device)
    )
    auto = {"causal": AutoModelForCausalLM, "masked": AutoModelForMaskedLM, None: AutoModel}[head]
    verbosity, bar = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        network, info = auto.from_pretrained(
            folder,
            dtype=torch.float32,
            local_files_only=True,
            use_safetensors=True,
            trust_remote_code=False,
            output_loading_info=True,
        )
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except (ValueError, OSError, RuntimeError, KeyError, ImportError) as error:
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise InputError(f"{name}: transformers cannot open it ({reason}). {FOLDER_HINT}") from error
    finally:
        logging.set_verbosity(verbosity)
        if bar:
            logging.enable_progress_bar()
    missing = sorted(key for key in info["missing_keys"] if "pooler" not in key and "position_ids" not in key)
    if missing:
        raise InputError(
            f"{name}: the weights lack {missing[0]}{f' and {len(missing) - 1} more' if missing[1:] else ''}, "
            f"which {type(network).__name__} needs. Save the whole model with save_pretrained."
        )
    if not tokenizer.is_fast:
        raise InputError(f"{name} has a slow tokenizer; expected a fast one (tokenizer.json).")
    network = network.to(place).eval().requires_grad_(False)
    return LanguageModel(str(name), folder, model_digest(folder), head, network, tokenizer)


def _head_of(architecture: str) -> Head | None:
    """Which head the model class named in a configuration has."""
    if architecture.endswith(("ForCausalLM", "LMHeadModel")):
        return "causal"
    if architecture.endswith(("ForMaskedLM", "ForPreTraining")):
        return "masked"
    return None


def _device(name: str) -> str:
    import torch

    kind = name.partition(":")[0]
    there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not there.get(kind, False):
        raise InputError(
            f"No device {name!r} here. Expected auto, {', '.join(k for k, ok in there.items() if ok)}."
        )
    return name
