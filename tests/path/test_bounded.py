"""The codec `bounded`: how small a node is, that its error stays below the bound, what is exact."""

import pytest
import torch

from disback_plugin import DegradationPath
from disback_plugin.errors import PathError
from disback_plugin.path import get_codec, groups, measure_precision, rounding
from disback_plugin.real_score.copying import Casting
from disback_plugin.real_score.pieces import whole_pieces
from disback_plugin.real_score.staging import stage_node
from tests.path.folders import edit
from tests.toy import same

CODEC = get_codec("bounded")
SHAPES = {"w": (96, 64, 3, 3), "b": (96,), "odd": (7, 101)}


@pytest.fixture
def teacher():
    torch.manual_seed(0)
    return {name: 0.05 * torch.randn(shape) for name, shape in SHAPES.items()}


@pytest.fixture
def node(teacher):
    torch.manual_seed(1)
    return {name: value + 1e-5 * torch.randn(value.shape) for name, value in teacher.items()}


@pytest.fixture(params=[("dtype", torch.bfloat16), ("device", "meta")])
def defaults(request, teacher, node):
    kind, value = request.param
    before = torch.get_default_dtype() if kind == "dtype" else "cpu"
    change = torch.set_default_dtype if kind == "dtype" else torch.set_default_device
    rounding._table.cache_clear()
    change(value)
    yield
    change(None if kind == "device" else before)


def error(decoded, node, teacher):
    return float((decoded - node).norm() / (node - teacher).norm())


def test_a_node_is_under_three_tenths_of_bfloat16_at_a_tenth_of_its_change(teacher, node):
    stored = CODEC.encode(node, teacher)
    num = sum(value.numel() for value in node.values())
    assert sum(value.nbytes for value in stored.values()) <= 0.30 * 2 * num
    decoded = CODEC.decode(stored, teacher)
    assert [decoded[name].shape for name in SHAPES] == list(SHAPES.values())
    assert all(0.05 < error(decoded[name], node[name], teacher[name]) <= 0.1 for name in SHAPES)


def test_a_host_may_have_other_defaults_of_torch(teacher, node, defaults):
    stored = CODEC.encode(node, teacher)
    decoded = CODEC.decode(stored, teacher)
    assert all(error(decoded[name], node[name], teacher[name]) <= 0.1 for name in SHAPES)
    assert 0.0 < measure_precision(node, teacher).distance < 1e-3
    half = rounding.cast(node["w"], torch.bfloat16, "stochastic", "seed")
    assert float((half.float() - node["w"]).abs().max()) < 2e-3
    pieces = whole_pieces({"w": torch.zeros(SHAPES["w"], dtype=torch.bfloat16, device="cpu")})
    assert torch.equal(
        stage_node(pieces, {"w": node["w"]}, Casting(), lambda: None).values["w"],
        node["w"].flatten().bfloat16(),
    )


def test_what_did_not_change_and_what_is_no_float_comes_back_bit_for_bit(teacher):
    teacher |= {
        "mask": torch.full((8, 8), -torch.inf).triu(1),
        "count": torch.arange(40),
        "flags": torch.arange(64) % 3 == 0,
        "bytes": torch.arange(18, dtype=torch.uint8).view(1, 18),  # as wide as a row
        "wide": torch.randn(64, dtype=torch.float64),
        "phase": torch.randn(64, dtype=torch.complex64),
        "scale": torch.tensor(3.7),
    }
    node = {**teacher, "wide": teacher["wide"] + 1e-12, "phase": teacher["phase"] * 1.001}
    node |= {"count": teacher["count"] + 1, "scale": torch.tensor(3.8)}
    node["b"] = teacher["b"].clone()
    node["b"][40] += 1e-3  # one value of three groups
    decoded = CODEC.decode(CODEC.encode(node, teacher), teacher)
    assert decoded["b"][40] == pytest.approx(float(node["b"][40]), abs=1e-5)
    decoded["b"][40] = node["b"][40]
    assert same(decoded, node)


@pytest.mark.parametrize(
    ("change", "bits"),
    [
        (lambda shape: torch.randn(shape), 4),
        (lambda shape: torch.randn(shape).pow(3), 8),  # few large values among small ones
        (lambda shape: torch.full(shape, torch.inf), None),
    ],
)
def test_a_tensor_beyond_the_bound_takes_more_bits_or_stays_as_it_is(teacher, change, bits):
    node = {"w": teacher["w"] + 1e-5 * change(SHAPES["w"])}
    stored = CODEC.encode(node, teacher)
    if bits is None:
        assert same(stored, node)
    else:
        assert stored["w"].shape == (teacher["w"].numel() // groups.GROUP, groups.WIDTHS[bits])
        assert error(CODEC.decode(stored, teacher)["w"], node["w"], teacher["w"]) <= 0.1


def test_a_change_that_float32_cannot_add_is_never_lost_silently():
    teacher = {"w": torch.full((64,), 1.0)}
    node = {"w": torch.full((64,), 1.0 + 2**-23)}  # one unit in the last place
    assert same(CODEC.decode(CODEC.encode(node, teacher), teacher), node)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_bytes_are_the_same_by_chunks_and_every_range_reads_its_rows_alone(
    dtype, teacher, node, monkeypatch
):
    base, value = teacher["w"].to(dtype), node["w"]
    whole = CODEC.encode_tensor(value, base)
    monkeypatch.setattr(groups, "CHUNK", 4 * groups.GROUP)
    assert torch.equal(CODEC.encode_tensor(value, base), whole)
    flat = CODEC.decode({"w": whole}, {"w": base})["w"].view(-1)
    for begin, end in ((0, 5), (31, 33), (100, 1000), (value.numel() - 3, value.numel())):
        low, high = CODEC.stored_range(whole, base, begin, end)
        hidden = torch.full_like(whole, 255)  # NaN as a scale
        hidden.view(-1)[low:high] = whole.view(-1)[low:high]
        assert torch.equal(CODEC.decode_range(hidden, base, begin, end), flat[begin:end])


def test_decoding_is_one_rounding_of_an_exact_product(teacher, node):
    """So that a machine with fused multiply-add, or none, gives the same bits."""
    stored = CODEC.encode_tensor(node["w"], teacher["w"])
    scale = stored[:, :2].contiguous().view(torch.bfloat16).double()
    low, high = stored[:, 2:].int() & 15, stored[:, 2:].int() >> 4
    integers = torch.cat((low, high), 1)
    integers = torch.where(integers > 7, integers - 16, integers)
    due = teacher["w"].double().view(-1) + (integers * scale).view(-1)
    assert torch.equal(CODEC.decode_range(stored, teacher["w"], 0, due.numel()), due.float())


def test_a_stored_tensor_of_another_shape_is_refused(tmp_path, teacher, node):
    path = DegradationPath.create(tmp_path / "path", teacher, codec="bounded")
    path.append(node, step=1)
    edit(path.folder, lambda data: data["tensors"]["w"].update(shape=[96, 64, 3, 4]))
    with pytest.raises(PathError, match=r"node_0001.safetensors does not fit the manifest: 'w'"):
        DegradationPath.open(path.folder, teacher).read(1)


def test_the_codec_of_another_release_is_named_and_no_node_is_dropped_for_it(path):
    edit(path.folder, lambda data: data.update(codec="zip"))
    unknown = DegradationPath.open(path.folder)
    for attempt in (unknown.verify, unknown.repair, lambda: unknown.read(1)):
        with pytest.raises(PathError, match=r"path.json: unknown codec 'zip'"):
            attempt()
    assert len(DegradationPath.open(path.folder)) == 3
