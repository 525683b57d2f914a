"""The files of a model: are they all there and whole, and what is their digest. Needs no torch."""

import hashlib
import json
from pathlib import Path
from typing import Any

from nibench.errors import InputError

TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer.model",
    "vocab.txt",
    "vocab.json",
    "spiece.model",
    "sentencepiece.bpe.model",
)
DIGESTED = ("config.json", "*.safetensors", "tokenizer*", "vocab.*", "merges.txt", "special_tokens_map.json")
FOLDER_HINT = (
    "A model folder has config.json, *.safetensors and tokenizer.json, as save_pretrained writes them."
)


def model_digest(folder: str | Path) -> str:
    """sha256 over the weights, configuration and tokenizer files of a model folder, whatever its path."""
    total = hashlib.sha256()
    files = sorted({file for pattern in DIGESTED for file in Path(folder).glob(pattern) if file.is_file()})
    for file in files:
        with file.open("rb") as stream:
            total.update(f"{file.name} {hashlib.file_digest(stream, 'sha256').hexdigest()}\n".encode())
    return total.hexdigest()


def check_folder(folder: Path) -> dict[str, Any]:
    """The configuration of a model folder whose files are all there and whole; needs no torch.

    Raises
    ------
    InputError
        Naming the file that is missing, unreadable or truncated.
    """
    file = folder / "config.json"
    if not file.is_file():
        raise InputError(f"{folder} has no config.json. {FOLDER_HINT}")
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{file} is not JSON ({error}). {FOLDER_HINT}") from None
    if not isinstance(config, dict) or "model_type" not in config:
        raise InputError(f"{file} names no model_type. {FOLDER_HINT}")
    if config.get("is_encoder_decoder"):
        raise InputError(f"{folder} is an encoder-decoder model; nibench reads encoders and decoders so far.")
    weights = sorted(folder.glob("*.safetensors"))
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        weights = [
            folder / shard for shard in sorted(set(json.loads(index.read_text())["weight_map"].values()))
        ]
    if not weights:
        pickled = any(folder.glob("*.bin"))
        remedy = (
            "There is only a pickle, which nibench does not open: load it with transformers, save_pretrained."
            if pickled
            else FOLDER_HINT
        )
        raise InputError(f"{folder} has no weights (*.safetensors). {remedy}")
    for file in weights:
        _check_safetensors(file)
    if not any((folder / tokenizer).is_file() for tokenizer in TOKENIZER_FILES):
        raise InputError(f"{folder} has no tokenizer ({', '.join(TOKENIZER_FILES[:3])}, ...). {FOLDER_HINT}")
    return config


def _check_safetensors(file: Path) -> None:
    """A header that can be read and a file of the length it promises."""
    if not file.is_file():
        raise InputError(
            f"{file} is missing, but the index of the weights names it. Download the model again."
        )
    size = file.stat().st_size
    with file.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        try:
            if length > size:
                raise ValueError("header cut short")
            header = json.loads(stream.read(length))
            ends = [tensor["data_offsets"][1] for key, tensor in header.items() if key != "__metadata__"]
        except (ValueError, KeyError, TypeError, AttributeError):
            raise InputError(
                f"{file} is no safetensors file ({size} bytes). Download the model again."
            ) from None
    expected = 8 + length + max(ends, default=0)
    if size != expected:
        raise InputError(f"{file} is truncated: {size} bytes of {expected}. Download the model again.")


def locate(name: str | Path, revision: str | None = None) -> Path:
    """The folder of a model: the one that is named, or the local snapshot of a hub id.

    Raises
    ------
    InputError
        If there is no such folder, and no such hub id on this disk or within reach.
    """
    folder = Path(name).expanduser()
    return folder if folder.is_dir() else download(str(name), revision)


def download(name: str, revision: str | None) -> Path:
    """The local snapshot of a hub id.

    Raises
    ------
    InputError
        If the name is a path without a folder, the hub has no such model or cannot be reached.
    """
    remedy = "Expected a folder with config.json, or a hub id such as bert-base-cased."
    if name.startswith((".", "/", "~")) or "\\" in name or name.count("/") > 1 or Path(name).is_file():
        raise InputError(f"No model folder {name!r}. {remedy}")
    from huggingface_hub import constants, snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    patterns = ["*.json", "*.safetensors", "*.txt", "*.model"]
    try:
        return Path(snapshot_download(name, revision=revision, allow_patterns=patterns))
    except HFValidationError:
        raise InputError(f"No model folder {name!r}, and it is no hub id. {remedy}") from None
    except (LocalEntryNotFoundError, OSError, ValueError) as error:
        if isinstance(error, HfHubHTTPError) and not isinstance(error, LocalEntryNotFoundError):
            raise InputError(f"The hub has no model {name!r} ({type(error).__name__}). {remedy}") from None
        why = "HF_HUB_OFFLINE is set" if constants.HF_HUB_OFFLINE else "the hub cannot be reached"
        raise InputError(f"No model {name!r} on this disk, and {why}. {remedy}") from None
