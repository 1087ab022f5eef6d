#!/bin/bash
# A run of several processes by torchrun; start it on each machine, with the name of the first machine:
#
#   HOST=machine1 NODES=2 PROCESSES=4 bash torchrun.sh spread --run.name x
#
# On several machines whose own names lead to loopback addresses, set GLOO_SOCKET_IFNAME to the network, such as eth0.
export TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1 # else restarted processes get old addresses (pytorch issue 135712)
export OMP_NUM_THREADS=1
exec torchrun --nnodes "${NODES:-1}" --nproc-per-node "${PROCESSES:-2}" --max-restarts 3 \
  --rdzv-backend c10d --rdzv-endpoint "${HOST:-localhost}:${PORT:-29400}" --rdzv-id mappo --rdzv-conf join_timeout=120 \
  -m mappo train "$@" --run.exists resume
