"""Which of OpenAI's modules becomes which of diffusers' UNet2DModel."""

from typing import NamedTuple

from disback_plugin.pretrained.consistency.architecture import Architecture

RESIDUAL = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}


class Source(NamedTuple):
    """A module of the checkpoint; `third` is the part of a fused query-key-value, else None."""

    module: str
    third: int | None = None


def sources(architecture: Architecture) -> dict[str, Source]:
    """Module of UNet2DModel -> module of the checkpoint.

    A residual block's `conv_shortcut` is listed for every block, though only some have one.
    """
    found = {
        "time_embedding.linear_1": Source("time_embed.0"),
        "time_embedding.linear_2": Source("time_embed.2"),
        "class_embedding": Source("label_emb"),
        "conv_in": Source("input_blocks.0.0"),
        "conv_norm_out": Source("out.0"),
        "conv_out": Source("out.2"),
        **_residual("mid_block.resnets.0", "middle_block.0"),
        **_attention("mid_block.attentions.0", "middle_block.1"),
        **_residual("mid_block.resnets.1", "middle_block.2"),
    }
    num_levels, num_blocks = len(architecture.channels), architecture.num_res_blocks
    per_level = num_blocks + 1
    for level in range(num_levels):
        start, target = 1 + level * per_level, f"down_blocks.{level}"
        found |= _blocks(target, "input_blocks", start, num_blocks, architecture.attention[level])
        if level < num_levels - 1:
            found |= _resampler(
                f"{target}.downsamplers.0",
                f"input_blocks.{start + num_blocks}.0",
                "op" if architecture.resampling == "conv" else None,
            )
        attends = architecture.attention[num_levels - 1 - level]  # upwards: the coarsest first
        start, target = level * per_level, f"up_blocks.{level}"
        found |= _blocks(target, "output_blocks", start, per_level, attends)
        if level < num_levels - 1:
            found |= _resampler(
                f"{target}.upsamplers.0",
                f"output_blocks.{start + num_blocks}.{2 if attends else 1}",
                "conv" if architecture.resampling == "conv" else None,
            )
    return found


def _blocks(target: str, group: str, start: int, num: int, attends: bool) -> dict[str, Source]:
    found: dict[str, Source] = {}
    for index in range(num):
        block = f"{group}.{start + index}"
        found |= _residual(f"{target}.resnets.{index}", f"{block}.0")
        if attends:
            found |= _attention(f"{target}.attentions.{index}", f"{block}.1")
    return found


def _residual(target: str, source: str) -> dict[str, Source]:
    return {f"{target}.{mine}": Source(f"{source}.{theirs}") for mine, theirs in RESIDUAL.items()}


def _attention(target: str, source: str) -> dict[str, Source]:
    """The fused projection's rows are (query, key, value), each (head, channel)."""
    return {
        f"{target}.group_norm": Source(f"{source}.norm"),
        **{
            f"{target}.{mine}": Source(f"{source}.qkv", third)
            for third, mine in enumerate(("to_q", "to_k", "to_v"))
        },
        f"{target}.to_out.0": Source(f"{source}.proj_out"),
    }


def _resampler(target: str, source: str, convolution: str | None) -> dict[str, Source]:
    if convolution is None:
        return _residual(target, source)
    return {f"{target}.conv": Source(f"{source}.{convolution}")}
