"""What a network's arguments may be: types and ceilings, so that no file asks for the absurd."""

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Field

Size = Annotated[int, Field(ge=1, le=2**16)]  # pixels, channels
Labels = Annotated[int, Field(ge=0, le=2**20)]  # 0: none
Multiplier = Annotated[int, Field(ge=1, le=64)]
Multipliers = Annotated[Sequence[Multiplier], Field(min_length=1, max_length=12)]
Blocks = Annotated[int, Field(ge=1, le=64)]
Resolutions = Annotated[Sequence[int], Field(max_length=64)]
Probability = Annotated[float, Field(ge=0, lt=1)]
Timesteps = Annotated[int, Field(ge=2, le=10_000)]
Sigma = Annotated[float, Field(ge=0)]
Positive = Annotated[float, Field(gt=0)]
Tap = Annotated[float, Field(ge=1e-6, le=1e6)]
Filter = Annotated[Sequence[Tap], Field(min_length=1, max_length=64)]
Precision = Literal["fp16", "bf16"] | None
