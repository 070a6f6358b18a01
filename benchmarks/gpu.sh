#!/bin/bash
# The benchmark on a machine with a GPU and nothing but numpy, scipy, pyarrow, torch and Lightning.
#
#   benchmarks/gpu.sh train     trains the committee `gpu`; stops after 8.5 minutes
#   benchmarks/gpu.sh score     scores calib and the set by all members, combines, writes the result
#
# Say `train` until it says that all is trained, then `score`: 25 minutes in all. Either goes on from
# where it was stopped, an epoch at most being lost. Variables:
#
#   SET=val       or test, which is logged and is scored once
#   MINUTES=3.2   of training for each of the five members
#   WORK=...      workplace: trainings and scores; it has to outlast the commands
#   OUT=...       where results, log and training records are copied, if it is set
#   LIMIT=510     seconds after which a command stops
#   DRY=1         on the CPU, at a size that says nothing but whether it runs
set -u
cd "$(dirname "$0")/.." || exit 1
export PYTHONPATH=src${PYTHONPATH:+:$PYTHONPATH} PYTHONUNBUFFERED=1

recipe=(--recipe "${RECIPE:-gpu}" --seed "${SEED:-1}")
if [ "${DRY:-}" ]; then
  work=${WORK:-runs/gpu-dry}
  how=(--variant tiny --stamps "${STAMPS:-256}" --device cpu)
else
  work=${WORK:-runs/gpu}
  how=(--minutes "${MINUTES:-3.2}" --device cuda)
fi
case ${1:-} in
  train) step=(--train-only) ;;
  score) step=(--set "${SET:-val}" --results "$work/results") ;;
  *) sed -n '2,/^set/p' "$0" | sed '$d; s/^# \{0,1\}//'; exit 2 ;;
esac

timeout "${LIMIT:-510}" "${PYTHON:-python3}" -m darkhaloscope.bench benchmark \
  "${recipe[@]}" "${how[@]}" --out "$work" "${step[@]}"
status=$?
if [ "${OUT:-}" ]; then
  mkdir -p "$OUT/results" "$OUT/training"
  cp "$work"/results/* "$OUT/results/" 2>/dev/null
  for folder in "$work"/training/*/; do
    cp "$folder/history.csv" "$OUT/training/$(basename "$folder").csv" 2>/dev/null
  done
fi
if [ $status = 124 ]; then
  echo "stopped after ${LIMIT:-510} s; what was finished is kept: say \`$0 $1\` again"
elif [ $status = 0 ] && [ "$1" = train ]; then
  echo "all is trained: \`$0 score\` comes next"
fi
exit $status
