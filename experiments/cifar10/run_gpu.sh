#!/usr/bin/env bash
# CIFAR-10 on one GPU, from the data to curves worth keeping. Called again it goes on. See README.md.
#   [BUDGET=seconds] [SEEDS=3] experiments/cifar10/run_gpu.sh ddpm|edm cifar10-train-jpeg.npz [key=value ...]
set -euo pipefail
setting=$1 data=$2
shift 2
out=${OUT:-runs/cifar10-$setting}
lmdb=runs/cifar10-lmdb-$(basename "$data" .npz)
curves=${CURVES:-experiments/cifar10/curves/$setting}
deadline=$((SECONDS + ${BUDGET:-1500}))
export TORCHINDUCTOR_CACHE_DIR=${TORCHINDUCTOR_CACHE_DIR:-$PWD/runs/inductor-cache}

# Ctrl-C when the time is up: the run under way writes a checkpoint
within() { timeout --signal=INT --kill-after=60 $((deadline > SECONDS ? deadline - SECONDS : 1)) "$@"; }

keep_curves() {
  mkdir -p "$curves"
  { nvidia-smi --query-gpu=name --format=csv,noheader || echo CPU; } >"$curves/device.txt" 2>/dev/null
  cp "$out/teacher/reference.json" "$curves/teacher.json" 2>/dev/null || true
  for run in "$out"/runs/*/ "$out-adaptive"/runs/*/; do
    [[ -f $run/metrics.jsonl ]] || continue
    arm=$(basename "$run")
    [[ $run == "$out-adaptive"* ]] && arm=adaptive-${arm#disback-}
    grep -E '"kind": "(eval|recording|node|switch|mismatch)"' "$run/metrics.jsonl" >"$curves/$arm.jsonl" || true
  done
}
trap keep_curves EXIT

[[ -f $lmdb/data.mdb ]] || disback data lmdb "$data" "$lmdb"
run=(within disback run "experiments/cifar10/$setting.yaml" "problem.lmdb=$lmdb" "$@")
"${run[@]}" --seeds "${SEEDS:-3}" --out "$out" --resume
# the same teacher, recording and walking by what is measured
"${run[@]}" "teacher=run:$out" 'disback.record={num_steps: 8, auto: {}}' \
  'disback.schedule={name: adaptive, cap: 10}' --arm disback --seeds "${SEEDS:-3}" --out "$out-adaptive" --resume
