"""Settings of student and fake score as LoRAs on one base, the teacher, which stays as it is."""

from pydantic import Field

from disback_plugin.config_base import StrictModel

# of a U-Net of diffusers, as DMD2 and LCM-LoRA choose them: attention, projections, convolutions
U_NET = (
    *("to_q", "to_k", "to_v", "to_out.0", "proj_in", "proj_out", "ff.net.0.proj", "ff.net.2"),
    *("conv1", "conv2", "conv_shortcut", "downsamplers.0.conv", "upsamplers.0.conv"),
    "time_emb_proj",
)


class LoRASettings(StrictModel):
    """One LoRA each for student and fake score; the real score's nodes are such LoRAs too.

    alpha: what is added to a weight is alpha / rank B A. targets: ends of modules' names. Factors
    are in float32, whatever the base is in.
    """

    rank: int = Field(default=64, gt=0)
    alpha: float = Field(default=8.0, gt=0)
    targets: tuple[str, ...] = Field(default=U_NET, min_length=1)
