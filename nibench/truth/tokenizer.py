"""A word-level tokenizer for the models made here."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from nibench.truth.grammar import BOS, PAD, UNKNOWN

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast


def word_tokenizer(words: Sequence[str]) -> "PreTrainedTokenizerFast":
    """One token a word, its id the place in `words`, among them `<bos>`, `<pad>` and `<unk>`.

    It cuts at white space, puts BOS first and nothing last, and pads on the right.
    """
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    ids = {word: place for place, word in enumerate(words)}
    inner = Tokenizer(models.WordLevel(ids, unk_token=UNKNOWN))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()  # pyright: ignore[reportAttributeAccessIssue]
    inner.post_processor = processors.TemplateProcessing(  # pyright: ignore[reportAttributeAccessIssue]
        single=f"{BOS} $A", special_tokens=[(BOS, ids[BOS])]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=inner,
        bos_token=BOS,
        pad_token=PAD,
        unk_token=UNKNOWN,
        padding_side="right",
        model_input_names=["input_ids", "attention_mask"],
    )
