#!/bin/bash
# A Ray cluster inside one Slurm allocation, and one harmoview command on it.
#
#   sbatch --nodes 8 --gpus-per-node 8 deploy/slurm.sh synthesize /data/videos --out /data/run …
#
# from a folder with the environment in .venv, on storage that all nodes see. A job that hits its
# time limit or loses a node is queued again, and goes on where it was.
#SBATCH --job-name=harmoview
#SBATCH --ntasks-per-node=1
#SBATCH --exclusive
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --signal=B:TERM@120
set -euo pipefail

(($#)) || { echo "usage: sbatch … deploy/slurm.sh COMMAND …" >&2; exit 2; }
bin=${HARMOVIEW_BIN:-$PWD/.venv/bin}
[[ -x $bin/harmoview ]] || { echo "$bin/harmoview is missing: run make setup-gpu" >&2; exit 1; }

mapfile -t nodes < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
head=${nodes[0]}
# another port for each job: --exclusive may be overruled
port=$((20000 + SLURM_JOB_ID % 20000))
export RAY_AUTH_MODE=token RAY_AUTH_TOKEN
RAY_AUTH_TOKEN=$(head -c 32 /dev/urandom | od -An -tx1 | tr -d ' \n')

ray=("$bin/ray" start --block --disable-usage-stats --object-store-memory=1000000000)
ray+=(--num-cpus="${SLURM_CPUS_ON_NODE:-1}" --num-gpus="${SLURM_GPUS_ON_NODE:-0}")
log="ray-$SLURM_JOB_ID-%N.log"
srun --overlap --nodes=1 --ntasks=1 --nodelist="$head" --output="$log" \
    "${ray[@]}" --head --node-ip-address="$head" --port="$port" --include-dashboard=false &
until (: <"/dev/tcp/$head/$port") 2>/dev/null; do
    kill -0 $! || { echo "Ray's head did not start; see ${log/\%N/$head}" >&2; exit 1; }
    sleep 1
done
if ((${#nodes[@]} > 1)); then
    others=$(IFS=,; echo "${nodes[*]:1}")
    srun --overlap --nodes=$((${#nodes[@]} - 1)) --ntasks=$((${#nodes[@]} - 1)) \
        --nodelist="$others" --output="$log" "${ray[@]}" --address="$head:$port" &
fi

# The command runs in the background, so that the shell hears Slurm's signal: the time is nearly up.
RAY_ADDRESS="$head:$port" "$bin/harmoview" "$@" &
command=$!
trap 'kill -TERM $command 2>/dev/null; wait $command || true; scontrol requeue "$SLURM_JOB_ID"' TERM
status=0
wait "$command" || status=$?
exit "$status"
