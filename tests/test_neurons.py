"""Neuron names and flat ids."""

import pytest

from nibench import InputError
from nibench.neurons import EMBEDDING_LAYER, Block, Neurons

RESIDUAL = Neurons(
    (Block("embed", EMBEDDING_LAYER, 2), Block("L0.residual", 0, 2), Block("L1.residual", 1, 3))
)


def test_a_flat_id_is_the_position_of_the_name():
    assert list(RESIDUAL) == [
        "embed.0",
        "embed.1",
        "L0.residual.0",
        "L0.residual.1",
        "L1.residual.0",
        "L1.residual.1",
        "L1.residual.2",
    ]
    assert [RESIDUAL.index(name) for name in RESIDUAL] == list(range(7))


def test_layers_offsets_and_slices():
    assert len(RESIDUAL) == 7
    assert RESIDUAL.layers.tolist() == [-1, -1, 0, 0, 1, 1, 1]
    assert RESIDUAL.offsets.tolist() == [0, 2, 4, 7]
    assert RESIDUAL[-1] == "L1.residual.2"
    assert RESIDUAL[1:3] == ["embed.1", "L0.residual.0"]
    with pytest.raises(IndexError):
        RESIDUAL[7]


@pytest.mark.parametrize(
    "name", ["L2.residual.0", "L1.residual.3", "L1.residual.-1", "L1.residual.x", "", "3"]
)
def test_a_wrong_name_lists_what_there_is(name):
    with pytest.raises(InputError, match=r"there are embed\.0\.\.1, L0\.residual\.0\.\.1"):
        RESIDUAL.index(name)


def test_arrays_without_a_model_have_plain_names():
    assert list(Neurons.anonymous(2)) == ["neuron.0", "neuron.1"]
