"""Denoisers, losses, student gradients and sampling, all in the sigma parametrisation.

x = x0 + sigma eps throughout; x is (B, *data), sigma is (B,); cond is (B,) int64 labels, a
TextCondition or None.
"""

from disback_plugin.diffusion.condition import (
    Condition,
    GuidedNetwork,
    TextCondition,
    class_ids,
    one_hot_labels,
    refuse_mask,
    without_guidance,
)
from disback_plugin.diffusion.conversions import (
    diffuse,
    eps_from_x0,
    flow_from_x0,
    score,
    v_from_x0,
    x0_from_eps,
    x0_from_flow,
    x0_from_score,
    x0_from_v,
)
from disback_plugin.diffusion.denoiser import Denoiser, Description, OneStepStudent
from disback_plugin.diffusion.exact import GaussianMixtureDenoiser
from disback_plugin.diffusion.flow import FlowDenoiser
from disback_plugin.diffusion.losses import (
    STUDENT_GRADIENTS,
    WEIGHTINGS,
    denoising_score_matching,
    diff_instruct,
    dmd,
    get_student_gradient,
    register_student_gradient,
    student_loss,
    vsd,
)
from disback_plugin.diffusion.preconditioned import (
    ConsistencyDenoiser,
    EDMDenoiser,
    PreconditionedDenoiser,
    Scalings,
)
from disback_plugin.diffusion.sampler import heun_sample
from disback_plugin.diffusion.sigmas import (
    KarrasGrid,
    LogNormal,
    ShiftedT,
    SigmaSampler,
    UniformT,
    karras_sigmas,
)
from disback_plugin.diffusion.vp import (
    EpsDenoiser,
    LCMDenoiser,
    VDenoiser,
    VPDenoiser,
    VPSchedule,
    X0Denoiser,
    alphas_cumprod,
    vp_schedule,
)
