"""What a problem is made from."""

from dataclasses import dataclass
from typing import Any

from disback_plugin.diffusion import Description


@dataclass(frozen=True, kw_only=True)
class TeacherSource:
    """fingerprint: one hex SHA-256 over all tensors of the loaded teacher."""

    spec: str
    options: dict[str, Any]
    fingerprint: str
    description: Description
