#!/usr/bin/env bash
# SD1.5, one step, no GAN loss: DMD2 from scratch.
# DRY_RUN=1 (anything but 0) prints the command; further arguments are passed on. See README.md.
set -euo pipefail
: "${DMD2:?set DMD2 to the patched checkout (disback dmd2 apply)}"
: "${CHECKPOINT_PATH:?set CHECKPOINT_PATH to the folder with the weights and data of DMD2}"
: "${OUT:?set OUT to the folder for checkpoints, logs and the path}"
: "${WANDB_ENTITY:?set WANDB_ENTITY (any word with WANDB_MODE=offline)}"
: "${WANDB_PROJECT:?set WANDB_PROJECT (any word with WANDB_MODE=offline)}"
: "${NUM_GPUS:?set NUM_GPUS to the number of GPUs on this node}"
: "${NUM_NODES:?set NUM_NODES to the number of nodes (DMD2 used 8)}"
: "${MASTER_IP:?set MASTER_IP to the address of node 0}"
DISBACK_PATH="${DISBACK_PATH:-$OUT/path}"
for name in DMD2 CHECKPOINT_PATH OUT DISBACK_PATH; do # the command runs in $DMD2
  [[ "${!name}" == /* ]] || printf -v "$name" '%s' "$PWD/${!name}"
done

command=(
  torchrun --nnodes "$NUM_NODES" --nproc_per_node "$NUM_GPUS" --rdzv_id 2345
  --rdzv_backend c10d --rdzv_endpoint "$MASTER_IP" main/train_sd.py
  --model_id runwayml/stable-diffusion-v1-5 --use_fp16 --gradient_checkpointing --initialie_generator
  --generator_lr 1e-5 --guidance_lr 1e-5 --train_iters 100000000 --seed 10
  --batch_size 32 --grid_size 2 --resolution 512 --latent_resolution 64 --max_grad_norm 10.0
  --real_guidance_scale 1.75 --fake_guidance_scale 1.0 --dfake_gen_update_ratio 10
  --train_prompt_path "$CHECKPOINT_PATH/captions_laion_score6.25.pkl"
  --real_image_path "$CHECKPOINT_PATH/sd_vae_latents_laion_500k_lmdb/"
  --output_path "$OUT/checkpoints" --cache_dir "$OUT/cache" --log_path "$OUT/logs" --log_iters 1000 --wandb_iters 50 --log_loss
  --wandb_entity "$WANDB_ENTITY" --wandb_project "$WANDB_PROJECT" --wandb_name disback_sd15_one_step
  --disback --disback_path "$DISBACK_PATH"
  --disback_record_iters 1000 --disback_record_every 100 --disback_interval 1000
  "$@"
)
if [[ "${DRY_RUN:-0}" != 0 ]]; then
  printf '%q ' "${command[@]}"
  echo
else
  if [[ ! -d "$DMD2/.disback" ]]; then
    echo "$DMD2 is not patched (it has no .disback): run disback dmd2 apply $DMD2" >&2
    exit 1
  fi
  mkdir -p "$OUT"
  cd "$DMD2"
  PYTHONPATH="$DMD2${PYTHONPATH:+:$PYTHONPATH}" exec "${command[@]}"
fi
