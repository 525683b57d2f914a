"""Loading, naming and refusing models."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from nibench.errors import InputError
from nibench.model import LanguageModel, load_model, model_digest
from tests.tiny import network, piece_tokenizer, tiny, word_tokenizer

KINDS = ["bert", "distilbert", "gpt2", "gpt_neox", "llama"]
IDS = [2, 4, 5, 9, 7]


def read(model: LanguageModel, site: str, layer: int) -> np.ndarray:
    """What the model's taps see of one layer, (T, width)."""
    seen = []
    (tap,) = model.taps(site, "embed" if layer < 0 else layer)  # type: ignore[arg-type]
    handle = tap.attach(lambda values: seen.append(values[0].numpy().copy()))
    model.run([IDS])
    handle.remove()
    return seen[0]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A GPT-2 as save_pretrained writes it."""
    network("gpt2").save_pretrained(tmp_path / "model")
    word_tokenizer().save_pretrained(tmp_path / "model")
    return tmp_path / "model"


@pytest.mark.parametrize("kind", KINDS)
def test_sites_are_named_by_layer_and_unit(kind: str) -> None:
    model = tiny(kind)
    assert model.n_layers == 3
    widths = {"residual": 16, "mlp_post": 24, "mlp_pre": 24, "attn_out": 16}
    for site, width in widths.items():
        neurons = model.neurons(site)  # type: ignore[arg-type]
        assert neurons[-1] == f"L2.{site}.{width - 1}"
        assert neurons[0] == ("embed.0" if site == "residual" else f"L0.{site}.0")
        assert len(neurons) == (4 if site == "residual" else 3) * width


@pytest.mark.parametrize("kind", KINDS)
def test_residual_is_what_transformers_calls_hidden_states(kind: str) -> None:
    model = tiny(kind)
    hidden = model.architecture.base(torch.tensor([IDS]), output_hidden_states=True).hidden_states
    np.testing.assert_allclose(read(model, "residual", -1), hidden[0][0].numpy(), atol=1e-6)
    np.testing.assert_allclose(read(model, "residual", 0), hidden[1][0].numpy(), atol=1e-6)
    np.testing.assert_allclose(read(model, "residual", 1), hidden[2][0].numpy(), atol=1e-6)
    norm = model.architecture.final_norm()  # the last of them comes after the final norm, where there is one
    last = torch.from_numpy(read(model, "residual", 2))
    np.testing.assert_allclose((norm(last) if norm else last).numpy(), hidden[3][0].numpy(), atol=1e-5)


@pytest.mark.parametrize("kind", ["bert", "distilbert", "gpt2", "gpt_neox"])
def test_mlp_post_is_the_non_linearity_of_mlp_pre(kind: str) -> None:
    model = tiny(kind)
    before = torch.from_numpy(read(model, "mlp_pre", 1))
    gelu = torch.nn.functional.gelu(before, approximate="tanh" if kind == "gpt2" else "none")
    np.testing.assert_allclose(read(model, "mlp_post", 1), gelu.numpy(), atol=1e-5)


def test_mlp_post_of_a_gated_network_is_the_product() -> None:
    model = tiny("llama")
    mlp, seen = model.network.model.layers[1].mlp, []
    handle = mlp.register_forward_hook(lambda module, args, output: seen.append(args[0]))
    gate, product = read(model, "mlp_pre", 1), None
    product = read(model, "mlp_post", 1)
    handle.remove()
    np.testing.assert_allclose(gate, mlp.gate_proj(seen[0])[0].numpy(), atol=1e-6)
    up = mlp.up_proj(seen[0])[0].numpy()
    np.testing.assert_allclose(
        product, torch.nn.functional.silu(torch.from_numpy(gate)).numpy() * up, atol=1e-5
    )


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_the_blocks_parts_add_up(kind: str) -> None:
    model = tiny(kind)
    tap = model.taps("mlp_post", 1)[0]
    ffn = tap.module(torch.from_numpy(read(model, "mlp_post", 1))).numpy()
    stream = read(model, "residual", 0) + read(model, "attn_out", 1) + ffn
    np.testing.assert_allclose(read(model, "residual", 1), stream, atol=1e-5)


def test_layers_are_chosen_in_many_ways_and_kept_in_order() -> None:
    model = tiny("gpt2")

    def names(layers: object) -> list[str]:
        return [block.name for block in model.neurons("mlp_post", layers).blocks]  # type: ignore[arg-type]

    assert names("-2:") == ["L1.mlp_post", "L2.mlp_post"]
    assert names("2,0") == names([0, 2]) == ["L0.mlp_post", "L2.mlp_post"]
    assert names(slice(1, 2)) == names("1") == names(1) == names("1:2") == ["L1.mlp_post"]
    assert names("-1") == ["L2.mlp_post"]
    assert [b.name for b in model.neurons("residual", "embed,1").blocks] == ["embed", "L1.residual"]


def test_layers_that_do_not_exist_are_refused() -> None:
    model = tiny("gpt2")
    for layers, message in [
        ("7", "No layer 7 in a model of 3 layers"),
        ("a:b", "Cannot read layers='a:b'"),
        ("first", "Cannot read layers='first'; expected layers 0 to 2"),
        ("5:", "chooses no layer"),
        ("embed", "Cannot read layers='embed'"),
    ]:
        with pytest.raises(InputError, match=message):
            model.neurons("mlp_post", layers)
    with pytest.raises(InputError, match=r"No site named 'mlp_pots'. Did you mean 'mlp_post'\?"):
        model.neurons("mlp_pots")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("kind", "head"),
    [
        ("gpt2", "causal"),
        ("llama", "causal"),
        ("bert_mlm", "masked"),
        ("distilbert", "masked"),
        ("bert", None),
    ],
)
def test_a_saved_model_comes_back_with_its_head(kind: str, head: str | None, tmp_path: Path) -> None:
    before = network(kind)
    before.save_pretrained(tmp_path)
    word_tokenizer().save_pretrained(tmp_path)
    model = load_model(tmp_path, device="cpu")
    assert (model.has_head, model.folder, model.name) == (head, tmp_path, str(tmp_path))
    same = LanguageModel.from_network(before, word_tokenizer())
    np.testing.assert_allclose(read(model, "residual", 2), read(same, "residual", 2), atol=1e-6)
    assert not model.network.training
    assert not any(parameter.requires_grad for parameter in model.network.parameters())
    assert model.network.dtype == torch.float32


def test_half_precision_weights_are_read_as_float32(tmp_path: Path) -> None:
    network("gpt2").half().save_pretrained(tmp_path)
    word_tokenizer().save_pretrained(tmp_path)
    assert load_model(tmp_path).network.dtype == torch.float32


def test_the_digest_goes_by_content_not_by_place(folder: Path, tmp_path: Path) -> None:
    digest = model_digest(folder)
    shutil.copytree(folder, tmp_path / "copy")
    (tmp_path / "copy" / "README.md").write_text("notes are no part of it")
    assert model_digest(tmp_path / "copy") == digest == load_model(folder).digest
    network("gpt_neox").save_pretrained(tmp_path / "copy")
    assert model_digest(tmp_path / "copy") != digest


def test_models_in_memory_differ_by_their_weights() -> None:
    changed = network("gpt2")
    with torch.no_grad():
        changed.transformer.h[0].mlp.c_fc.bias[0] += 1
    digests = {tiny("gpt2").digest, LanguageModel.from_network(changed, word_tokenizer()).digest}
    assert len(digests) == 2
    assert tiny("gpt2").digest in digests


def test_the_digest_needs_neither_torch_nor_transformers(folder: Path) -> None:
    code = (
        "import sys; from nibench.model import model_digest; print(model_digest(sys.argv[1]));"
        "assert not {'torch', 'transformers'} & set(sys.modules)"
    )
    root = Path(__file__).parent.parent
    done = subprocess.run(
        [sys.executable, "-c", code, folder], cwd=root, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == model_digest(folder)


def test_loading_prints_nothing(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    load_model(folder)
    assert capfd.readouterr() == ("", "")


def test_a_folder_without_its_files_says_which(folder: Path) -> None:
    def refuses(message: str) -> None:
        with pytest.raises(InputError, match=message) as caught:
            load_model(folder)
        assert "\n" not in str(caught.value)

    weights = folder / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-100])
    refuses(rf"model.safetensors is truncated: {len(whole) - 100} bytes of {len(whole)}")
    weights.write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    refuses("model.safetensors is no safetensors file")
    weights.unlink()
    refuses(r"has no weights \(\*.safetensors\). A model folder has config.json")
    (folder / "pytorch_model.bin").write_bytes(b"pickle")
    refuses("only a pickle, which nibench does not open")
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": "one.safetensors"}}))
    refuses("one.safetensors is missing, but the index of the weights names it")
    (folder / "model.safetensors.index.json").unlink()
    weights.write_bytes(whole)
    (folder / "tokenizer.json").rename(folder / "elsewhere")
    refuses("has no tokenizer")
    (folder / "elsewhere").rename(folder / "tokenizer.json")
    (folder / "config.json").write_text("{")
    refuses("config.json is not JSON")
    (folder / "config.json").write_text("{}")
    refuses("names no model_type")
    (folder / "config.json").unlink()
    refuses("has no config.json")


def test_weights_that_lack_a_part_are_not_made_up(folder: Path) -> None:
    from safetensors.torch import load_file, save_file

    weights = load_file(folder / "model.safetensors")
    weights.pop("transformer.h.1.mlp.c_fc.weight")
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(InputError, match=r"the weights lack transformer.h.1.mlp.c_fc.weight"):
        load_model(folder)


def test_a_broken_tokenizer_is_one_clear_line(folder: Path) -> None:
    (folder / "tokenizer.json").write_text("{")
    with pytest.raises(InputError, match="transformers cannot open it") as caught:
        load_model(folder)
    assert "\n" not in str(caught.value)


def test_unknown_model_types_are_refused(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "model_type": "homemade"}))
    with pytest.raises(InputError, match=r"transformers cannot open it .*homemade"):
        load_model(folder)


def test_encoder_decoders_are_refused_for_now(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "is_encoder_decoder": True}))
    with pytest.raises(InputError, match="is an encoder-decoder model"):
        load_model(folder)


def test_names_that_are_neither_folder_nor_on_this_disk(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"No model 'no-such/model' on this disk, and HF_HUB_OFFLINE is set"):
        load_model("no-such/model")
    with pytest.raises(InputError, match="No model folder"):
        load_model(tmp_path / "nowhere")
    with pytest.raises(InputError, match=r"No model folder '\./nowhere'"):
        load_model("./nowhere")


def test_a_device_that_is_not_there(folder: Path) -> None:
    with pytest.raises(InputError, match=r"No device 'abacus' here. Expected auto, cpu"):
        load_model(folder, device="abacus")


def test_an_architecture_outside_the_table_is_refused_by_name() -> None:
    from transformers import AlbertConfig, AlbertModel

    config = AlbertConfig(
        vocab_size=62,
        hidden_size=8,
        embedding_size=8,
        num_attention_heads=2,
        intermediate_size=8,
        num_hidden_layers=3,
    )
    model = LanguageModel.from_network(AlbertModel(config), piece_tokenizer())
    with pytest.raises(
        InputError, match="No transformer blocks found in a model of type 'albert': expected 3 modules"
    ):
        model.neurons("mlp_post")


def test_a_site_that_a_block_lacks_is_refused_by_name() -> None:
    model = tiny("gpt2")
    model.network.transformer.h[1].attn.c_proj = torch.nn.Identity()
    with pytest.raises(
        InputError, match=r"L1.attn_out \(attn.c_proj\) is a Identity; expected a plain linear"
    ):
        model.neurons("attn_out")
    del model.network.transformer.h[1].attn
    with pytest.raises(InputError, match="A model of type 'gpt2' has no 'attn_out' that is known: block 1"):
        model.neurons("attn_out")


def test_special_tokens_are_those_that_stand_for_no_text() -> None:
    model = tiny("llama")
    assert model.special_ids == {1, 2}  # padding and BOS; not <unk>, not <mask>
    assert model.frame == ((2,), ())
    encoder = LanguageModel.from_network(network("bert", 64), piece_tokenizer())
    assert encoder.frame == ((2,), (3,))
    assert encoder.window == 32


def test_real_models_open(shared: Path, minilm: Path) -> None:
    stories, encoder = load_model(shared / "models" / "stories260K"), load_model(minilm)
    assert (stories.has_head, stories.n_layers, len(stories.neurons("mlp_post"))) == ("causal", 5, 860)
    assert (encoder.has_head, encoder.n_layers, len(encoder.neurons("residual"))) == (None, 6, 7 * 384)
    assert stories.neurons("mlp_post")[2 * 172 + 15] == "L2.mlp_post.15"
