#!/bin/bash
#SBATCH --job-name=avar-train
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=64
#SBATCH --time=48:00:00
#SBATCH --requeue
# sbatch slurm_16gpu.sh sft avar_sft_qwen2_5_vl_7b [--key value ...]
# CONFIG=zero3_16gpu sbatch slurm_16gpu.sh grpo avar_grpo_qwen2_5_vl_7b [--key value ...]
# A requeued job goes on from its last complete checkpoint. CONFIG: an accelerate configuration beside this script, or
# the path of another one.
set -euo pipefail
config=${CONFIG:-fsdp2_16gpu}
if [[ ! -f $config ]]; then  # of the installed package: Slurm runs a copy of this script, somewhere else
  config=$(python -c 'import avar_eval.recipes; print(avar_eval.recipes.__path__[0])')/launch/${config%.yaml}.yaml
fi
head_node=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
export SRUN_CPUS_PER_TASK=$SLURM_CPUS_PER_TASK  # since Slurm 22.05 srun gives one otherwise
# shellcheck disable=SC2016 # each task's own variables, not this script's
srun --kill-on-bad-exit=1 bash -c '
  accelerate launch --config_file "$0" --machine_rank "$SLURM_NODEID" \
    --main_process_ip "$1" --main_process_port 29500 -m avar_eval.recipes.cli "${@:2}"
' "$config" "$head_node" "$@"
