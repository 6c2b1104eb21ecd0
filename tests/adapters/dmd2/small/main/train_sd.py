"""Small host of our own with DMD2's role names and the places that the patches look for."""

import os
import shutil
import time

import torch
import wandb
from accelerate import Accelerator
from accelerate.utils import set_seed
from main.common import (
    load_weights,
    make_dataset,
    make_loader,
    make_parser,
    name_folders,
    step_of,
)
from main.sd_unified_model import SDUniModel
from main.utils import cycle, draw_probability_histogram
from torch.distributed.fsdp import (
    FullStateDictConfig,
    FullyShardedDataParallel,
    StateDictType,
)

SMALL_HOST = True


class Trainer:
    def __init__(self, args):
        self.args, self.step, self.previous_time = args, 0, None
        accelerator = Accelerator(mixed_precision="no", dispatch_batches=False)
        set_seed(args.seed + accelerator.process_index)
        if accelerator.is_main_process:
            name_folders(self, args)
            os.makedirs(self.cache_dir)
            wandb.init(config=vars(args), dir=args.output_path, **{"mode": "online"})
        self.model = SDUniModel(args, accelerator)
        if args.ckpt_only_path is not None:
            self.step = load_weights(self.model, args.ckpt_only_path)
        dataset = make_dataset()
        self.dataloader = cycle(accelerator.prepare(make_loader(dataset)))
        self.fsdp = args.fsdp
        if self.fsdp:
            for name in ("feedforward_model", "guidance_model"):
                setattr(self.model, name, accelerator.prepare(getattr(self.model, name)))
        self._optimizers()
        prepared = [self.optimizer_generator, self.optimizer_guidance]
        prepared += [self.scheduler_generator, self.scheduler_guidance]
        if self.fsdp:
            prepared = accelerator.prepare(*prepared)
        else:
            networks = (self.model.feedforward_model, self.model.guidance_model)
            first, second, *prepared = accelerator.prepare(*networks, *prepared)
            self.model.feedforward_model, self.model.guidance_model = first, second
        self.optimizer_generator, self.optimizer_guidance, *prepared = prepared
        self.scheduler_generator, self.scheduler_guidance = prepared
        self.accelerator = accelerator
        if args.checkpoint_path is not None:
            self.load(args.checkpoint_path)

    def _optimizers(self):
        def adam(module, rate):
            trained = [value for value in module.parameters() if value.requires_grad]
            return torch.optim.AdamW(trained, lr=rate)

        self.optimizer_generator = adam(self.model.feedforward_model, self.args.generator_lr)
        self.optimizer_guidance = adam(self.model.guidance_model, self.args.guidance_lr)
        self.scheduler_generator, self.scheduler_guidance = (
            torch.optim.lr_scheduler.LambdaLR(optimizer, lambda done: min(1.0, (done + 1) / 4))
            for optimizer in (self.optimizer_generator, self.optimizer_guidance)
        )

    def fsdp_state_dict(self, model):
        policy = FullStateDictConfig(offload_to_cpu=True, rank0_only=True)
        full = StateDictType.FULL_STATE_DICT
        with FullyShardedDataParallel.state_dict_type(model, full, policy):
            return model.state_dict()

    def load(self, checkpoint_path):
        self.step = step_of(checkpoint_path)
        self.accelerator.load_state(checkpoint_path)
        self.accelerator.print(f"Resumed at step {self.step}")

    def save(self):
        if self.fsdp:
            generator = self.fsdp_state_dict(self.model.feedforward_model)
            guidance = self.fsdp_state_dict(self.model.guidance_model)
        if self.accelerator.is_main_process:
            name = f"checkpoint_model_{self.step:06d}"
            output_path = os.path.join(self.output_path, name)
            os.makedirs(output_path, exist_ok=True)
            if self.fsdp:
                torch.save(generator, os.path.join(output_path, "pytorch_model.bin"))
                torch.save(guidance, os.path.join(output_path, "pytorch_model_1.bin"))
            else:
                self.accelerator.save_state(output_path)
            shutil.copytree(output_path, os.path.join(self.cache_dir, name))

    def _forget_gradients(self):
        for optimizer in (self.optimizer_generator, self.optimizer_guidance):
            optimizer.zero_grad()

    def train_one_step(self):
        text = next(self.dataloader)["text_input_ids_one"].squeeze(1)
        noise = torch.randn(len(text), 4, 1, 1, device=text.device)
        visual = self.step % self.args.wandb_iters == 0
        COMPUTE_GENERATOR_GRADIENT = self.step % self.args.dfake_gen_update_ratio == 0  # noqa: N806
        loss, log = self.model(
            noise,
            text,
            compute_generator_gradient=COMPUTE_GENERATOR_GRADIENT,
            generator_turn=True,
        )
        made = log["guidance_data_dict"]
        if COMPUTE_GENERATOR_GRADIENT:
            self.accelerator.backward(loss)
            self.optimizer_generator.step()
            self._forget_gradients()
        self.scheduler_generator.step()
        fake_loss, _ = self.model(noise, text, made=made)
        self.accelerator.backward(fake_loss)
        self.optimizer_guidance.step()
        self.scheduler_guidance.step()
        self._forget_gradients()
        if self.accelerator.is_main_process and not visual:
            wandb_loss_dict = {"loss_fake_mean": fake_loss.item()}
            wandb.log(wandb_loss_dict, step=self.step)
        if self.accelerator.is_main_process and visual:
            picture = draw_probability_histogram(made["image"].float().numpy())
            data_dict = {"loss_dm": loss.item(), "histogram": wandb.Image(picture)}
            wandb.log(data_dict, step=self.step)

    def train(self):
        for _ in range(self.step, self.args.train_iters):
            self.train_one_step()
            if self.step % self.args.log_iters == 0:
                self.save()
            self.accelerator.wait_for_everyone()
            if self.accelerator.is_main_process:
                now = time.time()
                if self.previous_time is not None:
                    spent = now - self.previous_time
                    wandb.log({"per iteration time": spent}, step=self.step)
                self.previous_time = now
            self.step += 1


def parse_args():
    parser = make_parser("use_fp16", "fsdp", "gan_alone", "no_save")
    args = parser.parse_args()
    return args  # noqa: RET504
