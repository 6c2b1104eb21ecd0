"""One method: DMD with a discriminator on the teacher's features."""

import copy
from typing import Any

import torch
from torch import Tensor, nn

SIZE, WIDTH, NUM_LABELS = 6, 8, 3


class Network(nn.Module):
    """Predicts x0, gives its hidden layer as features, or both."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(SIZE + NUM_LABELS + 1, WIDTH)
        self.last = nn.Linear(WIDTH, SIZE)

    def forward(
        self,
        x_t: Tensor,
        t: Tensor,
        condition: Tensor,
        return_features_early: bool = False,
        feature_indices: set[int] | None = None,
        fwd_pred_type: str | None = None,
    ) -> Any:
        hidden = self.first(torch.cat([x_t, condition, t[:, None]], dim=1)).tanh()
        if return_features_early:
            return [hidden]
        x0 = x_t / (1 + t[:, None]) + self.last(hidden)
        return [x0, [hidden]] if feature_indices else x0


class DMD2Model(nn.Module):
    """Roles `net`, `teacher`, `fake_score`; the student's turn is every so many iterations."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.config = copy.copy(config)
        self.teacher = Network().requires_grad_(False).eval()
        self.net, self.fake_score = copy.deepcopy(self.teacher), copy.deepcopy(self.teacher)
        self.net.requires_grad_(True), self.fake_score.requires_grad_(True)
        self.discriminator = nn.Linear(WIDTH, 1)

    def init_optimizers(self) -> None:
        roles = (self.net, self.fake_score, self.discriminator)
        self.optimizers = [torch.optim.Adam(role.parameters(), lr=1e-2) for role in roles]
        self.net_optimizer = self.optimizers[0]

    def is_students_turn(self, iteration: int) -> bool:
        return iteration % self.config.student_update_freq == 0

    def get_optimizers(self, iteration: int) -> list[torch.optim.Optimizer]:
        return self.optimizers[:1] if self.is_students_turn(iteration) else self.optimizers[1:]

    def _compute_teacher_prediction_gan_loss(
        self, perturbed: Tensor, t: Tensor, condition: Tensor
    ) -> tuple[Tensor, Tensor]:
        x0, features = self.teacher(
            perturbed, t, condition=condition, feature_indices={0}, fwd_pred_type="x0"
        )
        return x0.detach(), nn.functional.softplus(-self.discriminator(features[0])).mean()

    def _apply_classifier_free_guidance(
        self, perturbed: Tensor, t: Tensor, x0: Tensor, neg_condition: Tensor
    ) -> Tensor:
        with torch.no_grad():
            negative = self.teacher(perturbed, t, condition=neg_condition, fwd_pred_type="x0")
        return x0 + (self.config.guidance_scale - 1) * (x0 - negative)

    def _student_update_step(
        self, noise: Tensor, t: Tensor, eps: Tensor, condition: Tensor
    ) -> dict[str, Tensor]:
        x0 = self.net(noise, torch.full_like(t, 9.0), condition=condition, fwd_pred_type="x0")
        perturbed = x0 + t[:, None] * eps
        with torch.no_grad():
            fake = self.fake_score(perturbed, t, condition=condition, fwd_pred_type="x0")
        real, gan_loss = self._compute_teacher_prediction_gan_loss(perturbed, t, condition)
        if self.config.guidance_scale is not None:
            nothing = torch.zeros_like(condition)
            real = self._apply_classifier_free_guidance(perturbed, t, real, nothing)
        loss = (x0 * (fake - real)).mean()
        return {"total_loss": loss + 0.1 * gan_loss, "vsd_loss": loss, "gan_loss_gen": gan_loss}

    def _fake_score_update_step(
        self, noise: Tensor, t: Tensor, eps: Tensor, condition: Tensor, data: Tensor
    ) -> dict[str, Tensor]:
        with torch.no_grad():
            x0 = self.net(noise, torch.full_like(t, 9.0), condition=condition, fwd_pred_type="x0")
            asked = {"return_features_early": True, "feature_indices": {0}}
            both = [
                self.teacher(picture + t[:, None] * eps, t, condition=condition, **asked)[0]
                for picture in (x0, data)
            ]
        predicted = self.fake_score(x0 + t[:, None] * eps, t, condition, fwd_pred_type="x0")
        fake, real = (self.discriminator(features) for features in both)
        loss = (predicted - x0).square().mean()
        gan_loss = (nn.functional.softplus(fake) + nn.functional.softplus(-real)).mean()
        return {"total_loss": loss + gan_loss, "fake_score_loss": loss, "gan_loss_disc": gan_loss}

    def forward(self, data: dict[str, Tensor], iteration: int) -> dict[str, Tensor]:
        real, condition = data["real"], data["condition"]
        noise, eps = 9 * torch.randn_like(real), torch.randn_like(real)
        t = 3 * torch.rand(len(real)) + 0.1
        turn = self.is_students_turn(iteration)
        for role in (self.fake_score, self.discriminator):
            role.requires_grad_(not turn)
        if turn:
            return self._student_update_step(noise, t, eps, condition)
        return self._fake_score_update_step(noise, t, eps, condition, real)

    @property
    def model_dict(self) -> dict[str, nn.Module]:
        """What is saved; the teacher is not."""
        return {name: getattr(self, name) for name in ("net", "fake_score", "discriminator")}
