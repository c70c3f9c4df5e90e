#!/bin/bash
#SBATCH --job-name=avar-train
#SBATCH --nodes=3
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=64
#SBATCH --time=48:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
# sbatch slurm_watched.sh sft avar_sft_qwen2_5_vl_7b --output_dir out/run -- out/run --tasks mathvista,mmmu --backend vllm
# Trains on all nodes but the last one, on which each checkpoint is scored as it appears: words before -- are avar-train's,
# those behind it are those of `avar-eval watch`. A requeued job goes on from its last complete checkpoint, and scores
# none twice. CONFIG: as of slurm_16gpu.sh, here for the nodes that train.
set -euo pipefail
train=()
while (($#)) && [[ $1 != -- ]]; do
  train+=("$1")
  shift
done
if (($# < 2 || ${#train[@]} < 2 || SLURM_NNODES < 2)); then
  echo "usage: sbatch --nodes=N slurm_watched.sh sft|grpo RECIPE ... -- OUTPUT_DIR --tasks TASKS ..., N at least 2" >&2
  exit 2
fi
shift
config=${CONFIG:-fsdp2_16gpu}
if [[ ! -f $config ]]; then # of the installed package: Slurm runs a copy of this script, somewhere else
  config=$(python -c 'import avar_eval.recipes; print(avar_eval.recipes.__path__[0])')/launch/${config%.yaml}.yaml
fi
mapfile -t nodes < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
last=${nodes[-1]}
training=$((SLURM_NNODES - 1))
export SRUN_CPUS_PER_TASK=$SLURM_CPUS_PER_TASK # since Slurm 22.05 srun gives one otherwise

# shellcheck disable=SC2016 # each task's own variables, not this script's
srun --nodes=1 --ntasks=1 --nodelist="$last" bash -c '
  until [[ -e $1/training_run.json ]]; do sleep 5; done # the training says what it is
  exec python -m avar_eval watch "$@"
' watch "$@" &
watch=$!
# shellcheck disable=SC2016
srun --nodes="$training" --ntasks="$training" --exclude="$last" --kill-on-bad-exit=1 bash -c '
  accelerate launch --config_file "$0" --machine_rank "$SLURM_PROCID" \
    --main_process_ip "$1" --main_process_port 29500 -m avar_eval.recipes.cli "${@:2}"
' "$config" "${nodes[0]}" "${train[@]}" || {
  code=$?
  kill "$watch"
  exit "$code"
}
wait "$watch" # until the last checkpoint is scored
