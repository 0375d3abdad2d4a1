#!/usr/bin/env bash
# One prompt on the GPUs of one or several nodes:   sbatch docs/slurm.sh "a red chair" [options of fit]
# When its time ends or it is preempted, the job saves, requeues itself and later continues from there.
#SBATCH --job-name=dreamfusion
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=4
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=8
#SBATCH --time=02:00:00
#SBATCH --signal=USR1@120
#SBATCH --requeue
#SBATCH --open-mode=append
set -u
prompt=$1
shift
runs=${RUNS:-runs}
run=$runs/job_$SLURM_JOB_ID # a requeued job keeps its number
words=(--trainer.num_nodes "${SLURM_JOB_NUM_NODES:-1}" --trainer.devices "${SLURM_NTASKS_PER_NODE:-1}")
if [ "${SLURM_NTASKS:-1}" -gt 1 ]; then
  words+=(--trainer.strategy ddp)
fi
if compgen -G "$run/checkpoints/*.ckpt" > /dev/null; then
  words+=(--resume "$run")
else
  logger=--trainer.logger.init_args
  words+=("--prompt=$prompt" "$logger.save_dir=$runs" "$logger.name=" "$logger.version=job_$SLURM_JOB_ID" "$@")
fi

status=0
srun --kill-on-bad-exit=1 python -m dreamfusion_pl fit "${words[@]}" || status=$?
case $status in
  138 | 143) scontrol requeue "$SLURM_JOB_ID" ;; # stopped by SIGUSR1 or SIGTERM, and saved
esac
exit "$status"
