#!/usr/bin/env bash
# Sweeps and tuning over MPI: four ranks give the bytes of one process; a rank is killed with a
# signal; restarts; refusals in one line. Shards and merging them, which need no MPI.
# shellcheck disable=SC2317 # functions are called by expect, holds and one_line
. tests/cli/lib/check.bash
case $moelab in /*) ;; *) moelab=$PWD/$moelab ;; esac
x=$folder/x.yaml
cat >"$x" <<'YAML'
experiment: x
title: a title
kind: replay
trace: "synth:sticky:layers=8,experts=8,top_k=2,tokens=400,sequences=4"
strategy: collab
axes:
  geometry: [none, 8x1, 8x2, 4x4, "global:16", 9x9]
  policy: [lru, fifo, opt, random]
  seed: 1..3
YAML
one=$folder/one.tsv
expect 0 "72 points (72 run" "$moelab" sweep "$x" -o "$one" --jobs 1

# Shards: the same bytes in any order; a shard goes on where it was; one twice does no harm.
for i in 1 2 3; do
    expect 0 "shard $i/3: 24 points (24 run" "$moelab" sweep "$x" --shard $i/3 -o "$folder/s$i.tsv"
done
merged() { "$moelab" sweep merge -o "$folder/m.tsv" "$@"; }
expect 0 "merged 72 points" merged "$folder/s3.tsv" "$folder/s1.tsv" "$folder/s2.tsv"
same "$one" "$folder/m.tsv"
cp "$folder/s1.tsv" "$folder/s1b.tsv"
expect 0 "merged 72 points" merged "$folder"/s1.tsv "$folder"/s1b.tsv "$folder"/s2.tsv \
    "$folder"/s3.tsv
same "$one" "$folder/m.tsv"
expect 0 "(4 run, 20 reused)" "$moelab" sweep "$x" --shard 2/3 -o "$folder/s2.tsv" # no 9x9
same "$folder/s1.tsv" "$folder/s1b.tsv"
expect 0 "72 points (12 run, 60 reused)" "$moelab" sweep "$x" -o "$folder/m.tsv"
same "$one" "$folder/m.tsv"
# A program of other sources, as its hash tells: its shard and its rows are refused.
own=$(sed -n 's/^# sources: //p' "$one")
LC_ALL=C sed "s/$own/0123456789abcdef/g" "$moelab" >"$folder/other"
chmod +x "$folder/other"
expect 0 "24 points (24 run" "$folder/other" sweep "$x" --shard 1/3 -o "$folder/o1.tsv"
expect 1 "are not from the same sweep, their sources differs: run the shards again with the same" \
    merged "$folder/o1.tsv" "$folder/s2.tsv" "$folder/s3.tsv"
expect 0 "rows of '$folder/o1.tsv' are not reused: the program that made them has sources \
0123456789abcdef, this one $own" "$moelab" sweep "$x" --shard 1/3 -o "$folder/o1.tsv"
same "$folder/o1.tsv" "$folder/s1.tsv"
for bad in 0/0 5/4 0/4 x 1/ /4 1/100001; do
    one_line "$moelab" sweep "$x" --shard "$bad" -o "$folder/bad.tsv"
done
expect 2 "has none" "$moelab" sweep "$x" --shard 73/73 -o "$folder/bad.tsv"

# What does not belong together is refused, in a line that says what to run.
rm "$folder/m.tsv"
refused() { # TEXT FILE...
    local text=$1
    shift
    expect 1 "$text" merged "$@"
    one_line merged "$@"
    absent "$folder/m.tsv"
}
s=("$folder/s1.tsv" "$folder/s2.tsv" "$folder/s3.tsv")
refused "run 'moelab sweep $x --shard 2/3'" "${s[0]}" "${s[2]}"
refused "2 of 3 shards missing (1,3): run 'moelab sweep $x --shard 1/3' first" "${s[1]}"
refused "2 of 3 shards missing (1-2): run" "${s[2]}"
head -c -30 "${s[1]}" >"$folder/cut.tsv"
refused "run its shard again" "${s[0]}" "$folder/cut.tsv" "${s[2]}"
sed '$d' "${s[1]}" >"$folder/short.tsv"
refused "has 23 rows, but shard 2/3 of 72 points has 24" "${s[0]}" "$folder/short.tsv" "${s[2]}"
refused "is not a shard" "$one"
refused "none.tsv" "${s[0]}" "$folder/none.tsv"
# A digit of a row, a title or the checksum itself that is not the one written; running the shard
# again does not take over its rows.
flipped() { # SED: of shard 2
    sed -E "$1" "${s[1]}" >"$folder/flipped.tsv"
    holds "$1 changed nothing" test "$(cmp "$folder/flipped.tsv" "${s[1]}" | wc -l)" = 1
    refused "its rows are not those that were written (checksum" "${s[0]}" "$folder/flipped.tsv" \
        "${s[2]}"
    refused "run shard 2/3 again" "${s[0]}" "$folder/flipped.tsv" "${s[2]}"
}
flipped 's/^(# title: a) /\1n /'
flipped '/^# checksum/s/: .*/: 0123456789abcdef/'
flipped '0,/\tok\t/s/(\tok\t.*)[1-8]/\19/'
expect 0 "(24 run, 0 reused)" "$moelab" sweep "$x" --shard 2/3 -o "$folder/flipped.tsv"
same "${s[1]}" "$folder/flipped.tsv"
sed '/^# checksum/d' "${s[1]}" >"$folder/bare.tsv"
refused "has no line '# checksum" "${s[0]}" "$folder/bare.tsv" "${s[2]}"
sealed() { # FILE: with a checksum of its own, FNV-1a of all other bytes, for what follows
    local hash=0xcbf29ce484222325 byte
    sed -i '/^# checksum/d' "$1"
    for byte in $(od -An -v -tu1 "$1"); do hash=$(((hash ^ byte) * 0x100000001b3)); done
    sed -i "/^# points_hash/a # checksum: $(printf %016x "$hash")" "$1"
}
cp "${s[1]}" "$folder/sealed.tsv"
sealed "$folder/sealed.tsv"
same "${s[1]}" "$folder/sealed.tsv"
sed 's/tokens=400/tokens=401/' "$x" >"$folder/y.yaml"
expect 0 "" "$moelab" sweep "$folder/y.yaml" --shard 2/3 -o "$folder/y.tsv"
refused "their trace differs" "${s[0]}" "$folder/y.tsv" "${s[2]}"
sed 's/global:16/global:17/' "$x" >"$folder/y.yaml"
expect 0 "" "$moelab" sweep "$folder/y.yaml" --shard 2/3 -o "$folder/y.tsv"
refused "their points" "${s[0]}" "$folder/y.tsv" "${s[2]}"
sed 's/^# program: .*/# program: moelab 0.0.1/' "${s[1]}" >"$folder/old.tsv"
sealed "$folder/old.tsv"
refused "their program differs" "${s[0]}" "$folder/old.tsv" "${s[2]}"
expect 0 "" "$moelab" sweep "$x" --shard 2/4 -o "$folder/s24.tsv"
refused "number of shards" "${s[0]}" "$folder/s24.tsv"
awk -F'\t' -v OFS='\t' '!/^#/ && ++n == 5 { $NF = $NF + 1 } { print }' "${s[1]}" \
    >"$folder/other.tsv"
sealed "$folder/other.tsv"
refused "both shard 2/3, but differ in row 4" "${s[@]}" "$folder/other.tsv"
sed "s/^$(tail -n 1 "${s[1]}" | cut -c 1-16)/0123456789abcdef/" "${s[1]}" >"$folder/other.tsv"
sealed "$folder/other.tsv"
refused "are not the points of that sweep" "${s[0]}" "$folder/other.tsv" "${s[2]}"
one_line "$moelab" sweep merge "${s[@]}"

# The Slurm script, with an sbatch that runs jobs at once, save the part in $BROKEN, and what waits
# for its success.
mkdir "$folder/bin"
cat >"$folder/bin/sbatch" <<'SBATCH'
#!/usr/bin/env bash
first=1 last=1 job=()
for word in "$@"; do
    case $word in
    --dependency=afterok:*) [[ -z ${BROKEN:-} ]] || exit 0 ;;
    --array=*) first=${word#--array=} last=${first#*-} first=${first%-*} ;;
    --*) ;;
    *) job+=("$word") ;;
    esac
done
echo "$*" >>"${BASH_SOURCE%/*}/jobs"
for ((i = first; i <= last; i++)); do
    [[ $i != "${BROKEN:-}" ]] || continue
    SLURM_CPUS_PER_TASK=1 SLURM_ARRAY_TASK_ID=$i "${job[@]}" >&2 || exit
done
echo "7;cluster"
SBATCH
chmod +x "$folder/bin/sbatch"
slurm() { env PATH="$folder/bin:$PATH" MOELAB="$moelab" experiments/sweep.slurm "$@"; }
expect 0 "parts: job 7, merge: job 7" slurm submit 3 "$x" "$folder/slurm.tsv"
same "$one" "$folder/slurm.tsv"
same "$folder/s1b.tsv" "$folder/slurm.shard-1-of-3.tsv"
absent "$folder/part.tsv"
BROKEN=2 expect 1 "1 of 3 shards missing (2)" slurm submit 3 "$x" "$folder/part.tsv" --time=5
holds "options for both jobs" test "$(grep -c -- '^--parsable --time=5 ' "$folder/bin/jobs")" = 2
absent "$folder/part.tsv"
again() { # PARTS: only those
    env PATH="$folder/bin:$PATH" MOELAB="$moelab" sbatch --array="$1" experiments/sweep.slurm \
        part 3 "$x" "$folder/part.tsv"
}
expect 0 "shard 2/3: 24 points (24 run" again 2
expect 0 "merged 72 points" slurm merge 3 "$x" "$folder/part.tsv"
same "$one" "$folder/part.tsv"
expect 2 "no part of 3 is there" slurm merge 3 "$x" "$folder/none.tsv"
for bad in "submit 0" "submit x" submit part sweep ""; do
    # shellcheck disable=SC2086 # words of their own
    expect 2 "" slurm $bad "$x"
done

# A build without MPI, or a launcher of another one: each process would take itself for the first.
alone() { # RANK
    env OMPI_COMM_WORLD_SIZE=4 OMPI_COMM_WORLD_RANK="$1" "$moelab" sweep "$x" -o "$folder/a.tsv"
}
if "$moelab" version | grep -q '^MPI none'; then
    expect 1 "this build has no MPI" alone 0
    one_line alone 0
    expect 0 "" alone 1
    absent "$folder/a.tsv"
    echo "skipped the rest: this build has no MPI"
    [ "$n_failed" = 0 ] || finish
    exit 77
fi
# The launcher that belongs to the MPI it was built with; both call themselves mpirun.
launcher() { command -v mpirun >/dev/null && mpirun --version 2>&1 | grep -q "$1"; }
if "$moelab" version | grep -q '^MPI Open MPI' && launcher "Open MPI"; then
    mpi=(mpirun --oversubscribe)
    if mpirun --quiet --version >/dev/null 2>&1; then # Open MPI 5 has no such option
        mpi+=(--quiet)
    fi
    rank_is=OMPI_COMM_WORLD_RANK
elif "$moelab" version | grep -q '^MPI MPICH' && launcher HYDRA; then
    mpi=(mpirun)
    rank_is=PMI_RANK
else
    echo "skipped the rest: no mpirun of the MPI that moelab was built with (Open MPI, MPICH)"
    [ "$n_failed" = 0 ] || finish
    exit 77
fi
foreign() { env PMI_SIZE=4 PMI_RANK=0 "$moelab" sweep "$x" -o "$folder/a.tsv"; }
expect 1 "but MPI knows of 1" foreign
absent "$folder/a.tsv"

# Tests run as root in containers, on fewer processors than ranks, beside other tests.
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
export OMPI_MCA_btl=self,vader OMPI_MCA_hwloc_base_binding_policy=none
export OMPI_MCA_orte_tmpdir_base=$folder
export ASAN_OPTIONS=${ASAN_OPTIONS:-}:detect_leaks=0 # MPI's own; ours: tests/unit/test_team.c
ranks() { "${mpi[@]}" -n 4 "$moelab" "$@"; }

for _ in 1 2 3 4 5; do # rank 0 may have run everything before another one has asked
    rm -f "$folder/four.tsv"
    out=$(ranks sweep "$x" -o "$folder/four.tsv" --plan 48 2>&1)
    [[ $out == *"too few points were run"* ]] || break
done
threads=$(($(nproc) < 8 ? 1 : $(nproc) / 4))
for word in "72 points (72 run, 0 reused)" "plan   simulated from 72" efficiency_percent \
    " $threads threads\? a process" limited_by "^ *1 .* 100 " "^ *32 " "^ *48 "; do
    holds "no '$word' in $out" grep -q -- "$word" <<<"$out"
done
same "$one" "$folder/four.tsv"
absent "$folder/four.tsv.journal"
expect 0 "72 points (12 run, 60 reused)" ranks sweep "$x" -o "$folder/four.tsv"
same "$one" "$folder/four.tsv"
expect 2 "--plan needs measured messages" "$moelab" sweep "$x" -o "$folder/four.tsv" --plan 64

# Errors: one line of ours, the code of one process.
expect 2 "did you mean '--jobs'" ranks sweep "$x" --jbs 2
expect 1 "none.yaml" ranks sweep "$folder/none.yaml"
sed 's/random]/randomm]/' "$x" >"$folder/bad.yaml"
expect 1 "cannot create" ranks sweep "$x" -o "$folder/no/such/x.tsv"
out=$(ranks sweep "$folder/bad.yaml" -o "$folder/bad.tsv" 2>&1)
holds "usage, exit code $?" test $? = 2
holds "one line of ours: $out" test "$(grep -c '^moelab:' <<<"$out")" = 1
holds "which names the nearest" grep -qF "did you mean 'random'" <<<"$out"
absent "$folder/bad.tsv"
absent "$folder/bad.tsv.journal"

# A rank killed while a sweep runs that is too long to end before. The launcher ends the job, and a
# restart (of less) goes on; where the launcher lets the job live, the others run what it had.
z=$folder/z.yaml
cat >"$z" <<'YAML'
experiment: x
kind: replay
trace: "synth:sticky:layers=8,experts=8,top_k=2,tokens=3000,sequences=4"
strategy: collab
axes:
  seed: 1..2
  geometry: [none, 8x1, 8x2, 4x4, "global:16"]
  policy: [lru, fifo, opt, random]
YAML
sed 's/seed: .*/seed: 1..900/' "$z" >"$folder/long.yaml"
"$moelab" sweep "$z" -o "$folder/fresh.tsv" >/dev/null 2>&1
rank_pid() { # RANK: of the job that writes z.tsv
    local pid
    for pid in $(pgrep -f "^$moelab sweep .* -o $folder/z.tsv"); do
        if tr '\0' '\n' <"/proc/$pid/environ" 2>/dev/null | grep -qx "$rank_is=$1"; then
            echo "$pid"
        fi
    done
}
rows() { { wc -l <"$folder/z.tsv.journal" || echo 0; } 2>/dev/null; }
# killed EXPERIMENT RANK SIGNAL OPTION...: starts a job, and signals that rank after some points.
killed() {
    local file=$1 rank=$2 signal=$3 job
    shift 3
    rm -f "$folder/z.tsv" "$folder/z.tsv.journal"
    "${mpi[@]}" "$@" -n 4 "$moelab" sweep "$file" -o "$folder/z.tsv" \
        --jobs 1 --lost-after 1 >"$folder/out" 2>&1 &
    job=$!
    while [ "$(rows)" -lt 9 ] && kill -0 $job 2>/dev/null; do :; done
    kill "-$signal" "$(rank_pid "$rank")" 2>/dev/null
    wait $job
}
killed "$folder/long.yaml" 0 TERM
holds "interrupted: not a success" test $? != 0
expect 0 "interrupted: " cat "$folder/out"
killed "$folder/long.yaml" 2 KILL
holds "a lost rank ends the job" test $? != 0
absent "$folder/z.tsv"
holds "$(rows) rows in the journal" test "$(rows)" -ge 9
expect 0 "reused" ranks sweep "$z" -o "$folder/z.tsv"
same "$folder/fresh.tsv" "$folder/z.tsv"
if [ $rank_is = OMPI_COMM_WORLD_RANK ]; then # MPICH's launchers have no such mode
    # Long enough that the signal comes before the end: where a process is lost after that, in
    # MPI_Finalize, Open MPI 4.1 lets the others wait there for ever.
    sed 's/seed: .*/seed: 1..100/' "$z" >"$folder/longer.yaml"
    "$moelab" sweep "$folder/longer.yaml" -o "$folder/longer.tsv" >/dev/null 2>&1
    killed "$folder/longer.yaml" 3 KILL --enable-recovery
    holds "with --enable-recovery: $(cat "$folder/out")" test $? = 0
    expect 0 "rank 3 was silent for 1 s: others run its" cat "$folder/out"
    same "$folder/longer.tsv" "$folder/z.tsv"
    absent "$folder/z.tsv.journal"
fi

# The tuner: its table and its file, by one process and by four.
mixtral="model=mixtral-8x7b,layers=32,experts=8,top_k=2"
expect 0 "SYNTHETIC" "$moelab" trace synth "zipf:$mixtral,tokens=96,sequences=12,alpha=1.2" \
    -o "$folder/t.h5"
tuned() { # COMMAND...: as the same command line
    "$@" tune "$folder/t.h5" --platform paper-4090 --max-points 24 --finalists 4 \
        -o "$folder/best.yaml"
}
tuned "$moelab" >"$folder/one.txt" 2>&1
mv "$folder/best.yaml" "$folder/one.yaml"
tuned ranks >"$folder/four.txt" 2>&1
same "$folder/one.txt" "$folder/four.txt"
same "$folder/one.yaml" "$folder/best.yaml"
# The same routes, but no scores, which prefetchers read, on one of the machines.
printf 'Who are you?\nWhat now?\n' >"$folder/p.txt"
for name in all few; do
    without=()
    [ $name = all ] || without=(--no-scores --no-lookahead)
    "$moelab" record --model tiny-mixtral --chat none --prompts "$folder/p.txt" -n 8 \
        "${without[@]}" --out "$folder/$name.h5" >/dev/null 2>&1
done
options=(--model tiny-mixtral --platform laptop-4060 --max-points 12 -o "$folder/best.yaml")
# Not by `-n 1 A : -n 1 B`, with which the mpirun of Open MPI 5.0.7 crashes.
# shellcheck disable=SC2016 # for the rank's shell
by_rank='file=$2; [ "${!1}" = 0 ] || file=$3
    exec "$4" tune "$file" "${@:5}"'
expect 2 "rank 1 has other inputs than rank 0" "${mpi[@]}" -n 2 \
    bash -c "$by_rank" by_rank $rank_is "$folder/all.h5" "$folder/few.h5" "$moelab" "${options[@]}"
expect 2 "no platform" ranks tune "$folder/t.h5"
finish
