# Sourced by the launch scripts of DMD2: what every run needs, and how it is started.
set -euo pipefail
: "${DMD2:?set DMD2 to the patched checkout (disback dmd2 apply)}"
: "${CHECKPOINT_PATH:?set CHECKPOINT_PATH to the folder with the weights and data of DMD2}"
: "${OUT:?set OUT to the folder for checkpoints, logs and the path}"
: "${WANDB_ENTITY:?set WANDB_ENTITY (any word with WANDB_MODE=offline)}"
: "${WANDB_PROJECT:?set WANDB_PROJECT (any word with WANDB_MODE=offline)}"
DISBACK_PATH="${DISBACK_PATH:-$OUT/path}"

absolute() { # the command runs in $DMD2
  local name
  for name in "$@"; do
    [[ "${!name}" == /* ]] || printf -v "$name" '%s' "$PWD/${!name}"
  done
}
absolute DMD2 CHECKPOINT_PATH OUT DISBACK_PATH

launch() { # DRY_RUN=1 (anything but 0) prints the command instead
  if [[ "${DRY_RUN:-0}" != 0 ]]; then
    printf '%q ' "$@"
    echo
    return
  fi
  if [[ ! -d "$DMD2/.disback" ]]; then
    echo "$DMD2 is not patched (it has no .disback): run disback dmd2 apply $DMD2" >&2
    exit 1
  fi
  mkdir -p "$OUT"
  cd "$DMD2"
  PYTHONPATH="$DMD2${PYTHONPATH:+:$PYTHONPATH}" exec "$@"
}
