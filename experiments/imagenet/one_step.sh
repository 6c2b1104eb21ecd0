#!/usr/bin/env bash
# ImageNet-64 from EDM, one step, no GAN loss.
# DRY_RUN=1 (anything but 0) prints the command; further arguments are passed on. See README.md.
set -euo pipefail
: "${DMD2:?set DMD2 to the patched checkout (disback dmd2 apply)}"
: "${CHECKPOINT_PATH:?set CHECKPOINT_PATH to the folder with the weights and data of DMD2}"
: "${OUT:?set OUT to the folder for checkpoints, logs and the path}"
: "${WANDB_ENTITY:?set WANDB_ENTITY (any word with WANDB_MODE=offline)}"
: "${WANDB_PROJECT:?set WANDB_PROJECT (any word with WANDB_MODE=offline)}"
: "${NUM_GPUS:?set NUM_GPUS to the number of GPUs on this node}"
DISBACK_PATH="${DISBACK_PATH:-$OUT/path}"
for name in DMD2 CHECKPOINT_PATH OUT DISBACK_PATH; do # the command runs in $DMD2
  [[ "${!name}" == /* ]] || printf -v "$name" '%s' "$PWD/${!name}"
done

command=(
  torchrun --nnodes 1 --nproc_per_node "$NUM_GPUS" main/edm/train_edm.py
  --model_id "$CHECKPOINT_PATH/edm-imagenet-64x64-cond-adm.pkl" --dataset_name imagenet --use_fp16
  --generator_lr 2e-6 --guidance_lr 2e-6 --train_iters 10000000 --seed 10 --initialie_generator
  --batch_size 40 --resolution 64 --label_dim 1000 --dfake_gen_update_ratio 5
  --real_image_path "$CHECKPOINT_PATH/imagenet-64x64_lmdb"
  --output_path "$OUT/checkpoints" --log_iters 500 --wandb_iters 100 --delete_ckpts --max_checkpoint 200
  --wandb_entity "$WANDB_ENTITY" --wandb_project "$WANDB_PROJECT" --wandb_name disback_imagenet_one_step
  --disback --disback_path "$DISBACK_PATH"
  --disback_record_iters 200 --disback_record_every 50
  --disback_schedule per-node --disback_intervals 1000,1000,10000
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
