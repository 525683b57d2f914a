"""Small random models with small tokenizers, one per architecture that is tested."""

import numpy as np
import torch
import transformers
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from nibench.model import LanguageModel

TEXT = "the dog dogs cat cats run runs near big red a man men see sees one two was were in park ball"
WORDS = TEXT.split()
SIZES = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 24}
SPECIAL = ["<unk>", "<pad>", "<s>", "<mask>"]


def word_tokenizer(bos: bool = True) -> PreTrainedTokenizerFast:
    """One token per word; a BOS in front."""
    backend = Tokenizer(models.WordLevel({w: i for i, w in enumerate(SPECIAL + WORDS)}, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    if bos:
        backend.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 2)])
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, unk_token="<unk>", pad_token="<pad>", bos_token="<s>", mask_token="<mask>"
    )


def piece_tokenizer() -> PreTrainedTokenizerFast:
    """WordPiece as BERT's: `[CLS] ... [SEP]`, words cut into pieces, control characters dropped."""
    pieces = [
        "[UNK]",
        "[PAD]",
        "[CLS]",
        "[SEP]",
        "[MASK]",
        "the",
        "dog",
        "##s",
        "cat",
        "run",
        "##ning",
        "a",
        ".",
    ]
    letters = [f"##{c}" for c in "abcdefghijklmnopqrstuvwxyz"] + list("bcdefghijklmnopqrstuvwxyz")
    vocabulary = {piece: i for i, piece in enumerate(pieces + letters)}
    backend = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    backend.normalizer = normalizers.BertNormalizer(lowercase=True)
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        unk_token="[UNK]",
        pad_token="[PAD]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
    )


def byte_tokenizer() -> PreTrainedTokenizerFast:
    """Byte-level BPE as GPT-2's: a space belongs to the token after it, nothing is put in front."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = [("d", "o"), ("do", "g"), ("Ġ", "dog"), ("c", "a"), ("ca", "t"), ("Ġ", "a")]
    vocabulary = {token: i for i, token in enumerate([*alphabet, *(a + b for a, b in merges), "<|end|>"])}
    backend = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<|end|>", eos_token="<|end|>")


def network(
    kind: str, vocab_size: int = len(SPECIAL) + len(WORDS), **changes: object
) -> transformers.PreTrainedModel:
    """A random network of one architecture, with weights large enough for every term to count."""
    t = transformers
    ids = {"bos_token_id": 2, "eos_token_id": 2, "pad_token_id": 1}
    common = {"vocab_size": vocab_size, "max_position_embeddings": 32, **SIZES, **ids, **changes}
    torch.manual_seed(sum(kind.encode()))
    if kind == "gpt2":
        sizes = {"n_positions": 32, "n_embd": 16, "n_layer": 3, "n_head": 2, "n_inner": 24, **changes}
        config = t.GPT2Config(vocab_size=vocab_size, **sizes, **ids)
        model = t.GPT2LMHeadModel(config)
    elif kind.startswith("gpt_neox"):
        model = t.GPTNeoXForCausalLM(t.GPTNeoXConfig(use_parallel_residual=kind == "gpt_neox", **common))
    elif kind == "llama":
        model = t.LlamaForCausalLM(t.LlamaConfig(num_key_value_heads=1, **common))
    elif kind == "gemma2":
        model = t.Gemma2ForCausalLM(
            t.Gemma2Config(num_key_value_heads=1, head_dim=8, sliding_window=4, **common)
        )
    elif kind == "opt_post":
        config = t.OPTConfig(ffn_dim=24, do_layer_norm_before=False, word_embed_proj_dim=16, **common)
        model = t.OPTForCausalLM(config)
    elif kind in ("bert", "bert_mlm"):
        model = (t.BertModel if kind == "bert" else t.BertForMaskedLM)(t.BertConfig(**common))
    elif kind == "distilbert":
        config = t.DistilBertConfig(
            vocab_size=vocab_size,
            max_position_embeddings=32,
            dim=16,
            n_layers=3,
            n_heads=2,
            hidden_dim=24,
            pad_token_id=1,
        )
        model = t.DistilBertForMaskedLM(config)
    else:
        raise ValueError(kind)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():  # larger and no zero biases, so that every term counts
        for parameter in model.parameters():
            parameter += 0.3 * torch.randn(parameter.shape, generator=generator)
    return model.eval()


def tiny(kind: str) -> LanguageModel:
    """A random model over `WORDS`."""
    return LanguageModel.from_network(network(kind), word_tokenizer(), name=f"tiny {kind}")


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)
