#!/usr/bin/env bash
# Sweeps: same bytes for any number of threads; finished points are kept after a kill and not run
# again.
. tests/cli/lib/check.bash
x=$folder/x.yaml
cat >"$x" <<'YAML'
experiment: x
kind: replay
trace: "synth:sticky:layers=8,experts=8,top_k=2,tokens=400,sequences=4"
strategy: collab
axes:
  geometry: [none, 8x1, 8x2, 4x4, "global:16"]
  policy: [lru, fifo, opt, random]
  seed: 1..3
YAML
expect 0 "60 points (60 run, 0 reused), SYNTHETIC" \
    "$moelab" sweep "$x" -o "$folder/one.tsv" --jobs 1
expect 0 "60 points (60 run" "$moelab" sweep "$x" -o "$folder/many.tsv" --jobs 7
same "$folder/one.tsv" "$folder/many.tsv"
absent "$folder/one.tsv.journal"
cp "$folder/one.tsv" "$folder/again.tsv"
expect 0 "60 points (0 run, 60 reused)" "$moelab" sweep "$x" -o "$folder/again.tsv"
same "$folder/one.tsv" "$folder/again.tsv"

# A journal cut in the middle of a line, as a kill leaves it: whole lines count, the rest is run.
grep -E '^(# sources|[^#])' "$folder/one.tsv" | head -n 32 >"$folder/cut.tsv.journal"
grep -v '^#' "$folder/one.tsv" | sed -n 32p | head -c 40 >>"$folder/cut.tsv.journal"
expect 0 "60 points (30 run, 30 reused)" "$moelab" sweep "$x" -o "$folder/cut.tsv"
same "$folder/one.tsv" "$folder/cut.tsv"

# One row is that of every point with its identity: of the same grid, drawn twice.
sed 's/^  seed:.*/grids: [{strategy: collab}, {strategy: collab}]/' "$x" >"$folder/twice.yaml"
expect 0 "40 points (40 run, 0 reused)" \
    "$moelab" sweep "$folder/twice.yaml" -o "$folder/twice.tsv"
sed '$d' "$folder/twice.tsv" >"$folder/half.tsv" # the other point still has the row
expect 0 "40 points (0 run, 40 reused)" \
    "$moelab" sweep "$folder/twice.yaml" -o "$folder/half.tsv"
same "$folder/twice.tsv" "$folder/half.tsv"

# A whole line that lacks a column is no finished point.
grep -E '^(# sources|[^#])' "$folder/one.tsv" | head -n 4 |
    sed '4s/\t[^\t]*$//' >"$folder/short.tsv.journal"
expect 0 "60 points (59 run, 1 reused)" "$moelab" sweep "$x" -o "$folder/short.tsv"
same "$folder/one.tsv" "$folder/short.tsv"

# An earlier result or journal that cannot be read is not taken for none, and stays as it is.
head -n 40 "$folder/one.tsv" | gzip >"$folder/zipped"
for name in gz.tsv gz.tsv.journal; do
    cp "$folder/zipped" "$folder/$name"
    expect 1 "points of an earlier run: cannot read '$folder/$name': compressed by gzip" \
        "$moelab" sweep "$x" -o "$folder/gz.tsv"
    one_line "$moelab" sweep "$x" -o "$folder/gz.tsv"
    same "$folder/zipped" "$folder/$name"
    rm "$folder/$name"
    if [ "$(id -u)" != 0 ]; then # root may read everything
        cp "$folder/one.tsv" "$folder/$name"
        chmod 0 "$folder/$name"
        expect 1 "cannot open '$folder/$name': Permission denied" "$moelab" sweep "$x" \
            -o "$folder/gz.tsv"
        chmod 600 "$folder/$name"
        same "$folder/one.tsv" "$folder/$name"
        rm "$folder/$name"
    fi
done
# A device is no earlier result.
ln -s /dev/null "$folder/null.tsv"
expect 0 "60 points (60 run, 0 reused)" "$moelab" sweep "$x" -o "$folder/null.tsv"

# Rows that other sources made are not reused, and it is said; journals alike.
other_sources() { sed "s/^# sources: .*/# sources: $made/; /^# sources: \$/d" "$folder/one.tsv"; }
for made in 0123456789abcdef ""; do
    other_sources >"$folder/old.tsv"
    expect 0 "rows of '$folder/old.tsv' are not reused: the program that made them has \
sources ${made:-unknown}, this one " "$moelab" sweep "$x" -o "$folder/old.tsv"
    same "$folder/one.tsv" "$folder/old.tsv"
    rm -f "$folder/old.tsv"
    other_sources | grep -E '^(# sources|[^#])' >"$folder/old.tsv.journal"
    expect 0 "60 points (60 run, 0 reused)" "$moelab" sweep "$x" -o "$folder/old.tsv"
    same "$folder/one.tsv" "$folder/old.tsv"
done

# A changed key changes the identity of its points only.
sed 's/1..3/1..4/' "$x" >"$folder/y.yaml"
cp "$folder/one.tsv" "$folder/y.tsv"
expect 0 "80 points (20 run, 60 reused)" "$moelab" sweep "$folder/y.yaml" -o "$folder/y.tsv"

# Killed for real while it runs: the result does not exist, the journal is good, the rest is run.
sed 's/tokens=400/tokens=12000/' "$x" >"$folder/z.yaml"
"$moelab" sweep "$folder/z.yaml" -o "$folder/z.tsv" --jobs 1 >/dev/null 2>&1 &
child=$!
while [ "$({ wc -l <"$folder/z.tsv.journal" || echo 0; } 2>/dev/null)" -lt 4 ] &&
    kill -0 $child 2>/dev/null; do :; done
kill -9 $child 2>/dev/null
wait $child 2>/dev/null
absent "$folder/z.tsv"
expect 0 "60 points (" "$moelab" sweep "$folder/z.yaml" -o "$folder/z.tsv"
"$moelab" sweep "$folder/z.yaml" -o "$folder/fresh.tsv" >/dev/null 2>&1
same "$folder/z.tsv" "$folder/fresh.tsv"

# Errors of any point are found before anything runs; points that cannot run say why.
sed 's/policy: .*/policy: [lru, lruu]/' "$x" >"$folder/bad.yaml"
expect 2 "did you mean 'lru'" "$moelab" sweep "$folder/bad.yaml" -o "$folder/bad.tsv"
absent "$folder/bad.tsv"
absent "$folder/bad.tsv.journal"
sed 's/seed: .*/seeed: 1..3/' "$x" >"$folder/bad.yaml"
expect 2 "did you mean 'seed'" "$moelab" sweep "$folder/bad.yaml" -o "$folder/bad.tsv"
sed 's/4x4, "global:16"/4xx4/' "$x" >"$folder/bad.yaml"
expect 2 "geometry '4xx4': ways: 'x4' is not a whole number" "$moelab" sweep "$folder/bad.yaml" \
    -o "$folder/bad.tsv"
sed 's/global:16/global:16GB2/' "$x" >"$folder/bad.yaml"
expect 2 "geometry 'global:16GB2': " "$moelab" sweep "$folder/bad.yaml" -o "$folder/bad.tsv"
absent "$folder/bad.tsv"
sed 's/seed: .*/seed: 1..99999999/' "$x" >"$folder/bad.yaml"
expect 2 "bad.yaml':8: axis 'seed' has 99999999 values, outside 1..100000" "$moelab" sweep \
    "$folder/bad.yaml" -o "$folder/bad.tsv"
# What is printed and drawn of the result, too.
# refuses LINE TEXT: the experiment with one line more
refuses() {
    { cat "$x" && echo "$1"; } >"$folder/bad.yaml"
    expect 2 "bad.yaml':9: $2" "$moelab" sweep "$folder/bad.yaml" -o "$folder/bad.tsv"
    one_line "$moelab" sweep "$folder/bad.yaml" -o "$folder/bad.tsv"
    absent "$folder/bad.tsv"
    absent "$folder/bad.tsv.journal"
}
refuses "show: policy, hit_rate_percnt" \
    "show: the result has no column 'hit_rate_percnt' (did you mean 'hit_rate_percent'?)"
refuses "show: tokens_per_s" "show: the result has no column 'tokens_per_s'"
refuses "rank: hits, misses" "rank: the result has no column 'hits, misses'"
refuses "plot: hitrate" "no plot script 'hitrate' in '"
refuses "plot: [hit-rate, legue]" "no plot script 'legue' in '"
expect 2 "(did you mean 'league'?)" "$moelab" sweep "$folder/bad.yaml" -o "$folder/bad.tsv"
expect 0 "60 points (60 run" "$moelab" sweep "$folder/bad.yaml" -o "$folder/bad.tsv" --no-plot
{ cat "$x" && printf 'show: policy,seed,  hits\nrank: hits\n'; } >"$folder/shown.yaml"
expect 0 "policy  seed  hits" "$moelab" sweep "$folder/shown.yaml" -o "$folder/one.tsv"
expect 1 "" "$moelab" sweep "$x" -o "$folder/no/such/x.tsv"
expect 1 "none.yaml" "$moelab" sweep "$folder/none.yaml"
sed 's/none, 8x1/9x9, 8x1/' "$x" >"$folder/part.yaml"
expect 0 "12 of 60 points could not run, the first: " "$moelab" sweep "$folder/part.yaml" \
    -o "$folder/part.tsv"
reason=$(awk -F'\t' '/9x9/ && !/^#/ { print $2; exit }' "$folder/part.tsv")
expect 0 "the first: $reason; see" "$moelab" sweep "$folder/part.yaml" -o "$folder/part.tsv"
expect 0 "60 points (12 run, 48 reused)" "$moelab" sweep "$folder/part.yaml" \
    -o "$folder/part.tsv"
# None that can run: an error with the first one's reason, and the reasons' table.
sed 's/geometry: .*/geometry: [9x9, 10x9]/' "$x" >"$folder/none-runs.yaml"
none=("$moelab" sweep "$folder/none-runs.yaml" -o "$folder/none.tsv")
expect 1 "none of 24 points could run, the first: $reason" "${none[@]}"
one_line "${none[@]}"
expect 0 "10x9" cat "$folder/none.tsv"
# A shard of which none can run is a whole one still: other shards' points may run.
expect 0 "12 of 12 points could not run, the first: $reason" "${none[@]}" --shard 1/2

# A model by its folder of weights, as \`sim --model FOLDER\` takes it; found from where we are.
tiny=$PWD/experiments/models/tiny-mixtral
trace="synth:sticky:layers=8,experts=8,top_k=2,tokens=16"
cat >"$folder/model.yaml" <<YAML
experiment: model
trace: "$trace"
platform: paper-4090
strategy: collab
set: {geometry: 8x2}
axes:
  model: [tiny-mixtral, "$tiny", experiments/models/tiny-phimoe]
YAML
# shellcheck disable=SC2317 # called by expect
by_folder() { "$moelab" sweep "$folder/model.yaml" -o "$folder/model.tsv"; }
expect 0 "3 points (3 run, 0 reused)" by_folder
expect 0 "3 points (1 run, 2 reused)" by_folder # what could not run is tried again
# cell FILE ROW COLUMN
cell() {
    awk -F'\t' -v row="$2" -v name="$3" '/^#/ { next }
        !n { for (n = NF; n && $n != name;) n--; next }
        ++at == row { print $n }' "$1"
}
"$moelab" sim "$trace" --model "$tiny" --geometry 8x2 -o "$folder/sim.tsv"
for column in model tokens_per_s bound_ms_per_token cache_gb; do
    expect 0 "$(cell "$folder/sim.tsv" 1 $column)" cell "$folder/model.tsv" 2 $column
done
holds "another shape than the description's" \
    [ "$(cell "$folder/model.tsv" 1 point)" != "$(cell "$folder/model.tsv" 2 point)" ]
expect 0 "but model 'tiny-phimoe' has 8, 16, 2" cell "$folder/model.tsv" 3 status
sed "s|model: .*|model: ['$folder']|" "$folder/model.yaml" >"$folder/empty.yaml"
expect 1 "cannot open '$folder/config.json'" "$moelab" sweep "$folder/empty.yaml" \
    -o "$folder/empty.tsv"
# What a generator does not tell of its shape is each point's model's, as with \`sim --model\`.
sed "s|^trace: .*|trace: 'synth:zipf:tokens=16'|; s|set: .*|set: {geometry: 8x2}|
    s|model: \[.*|model: [tiny-mixtral, tiny-phimoe]|" "$folder/model.yaml" >"$folder/shape.yaml"
expect 0 "2 points (2 run, 0 reused)" "$moelab" sweep "$folder/shape.yaml" \
    -o "$folder/shape.tsv"
for row in 1 2; do
    name=$(cell "$folder/shape.tsv" $row model)
    "$moelab" sim synth:zipf:tokens=16 --model "$name" --geometry 8x2 -o "$folder/sim.tsv"
    for column in status tokens_per_s hits; do
        expect 0 "$(cell "$folder/sim.tsv" 1 $column)" cell "$folder/shape.tsv" $row $column
    done
done
expect 0 "# trace: synth:zipf:tokens=16 (SYNTHETIC, tiny-phimoe, " cat "$folder/shape.tsv"

# The league of strategies on another trace, model and platform, from one command.
# shellcheck disable=SC2317 # called by expect
league() {
    "$moelab" sweep experiments/league.yaml -o "$folder/league.tsv" --set trace="$trace" \
        --set model=tiny-mixtral --set platform=laptop-4060 --set geometry=4x3 --no-plot "$@"
}
expect 0 "2 of 19 points could not run" league # lists of hot experts of another model
"$moelab" trace stats "$trace" --hot-list "$folder/hot.txt" >"$folder/out"
expect 0 "19 points (2 run, 17 reused)" league --set policy.list="$folder/hot.txt"
expect 0 "# title: league: trace=$(basename "$trace"), model=tiny-mixtral, platform=laptop" \
    cat "$folder/league.tsv"
"$moelab" sim "$trace" --model tiny-mixtral --platform laptop-4060 --strategy fiddler \
    --geometry 4x3 --set policy.list="$folder/hot.txt" -o "$folder/sim.tsv"
row=$(awk -F'\t' '!/^#/ && n++ && $7 == "fiddler" { print n - 1 }' "$folder/league.tsv")
for column in status tokens_per_s hits; do
    expect 0 "$(cell "$folder/sim.tsv" 1 $column)" cell "$folder/league.tsv" "$row" $column
done
# What has no slots keeps having none.
# shellcheck disable=SC2016 # the quoted text is awk's
for strategy in fiddler:4x3 ncmoe:4x3 cpu-only:none on-demand:none; do
    expect 0 "${strategy#*:}" awk -F'\t' -v name="${strategy%:*}" '/^#/ { next }
        !n { for (n = NF; n && $n != "geometry";) n--; next }
        $7 == name { print $n }' "$folder/league.tsv"
done
expect 2 "--set needs -o X.tsv" "$moelab" sweep experiments/league.yaml --set geometry=4x3
expect 2 "experiment 'league' varies 'strategy' itself" league --set strategy=collab
expect 2 "unknown strategy key 'polcy' (did you mean 'policy'?)" league --set polcy=lru

# A name that promises another format.
for name in r.json r.csv r.CSV .x.json; do
    expect 2 "is not what '--output' writes: result, x.tsv" "$moelab" sweep "$x" -o "$folder/$name"
    one_line "$moelab" sweep "$x" -o "$folder/$name"
    expect 2 "is not what '--output' writes: result, x.tsv" "$moelab" sweep merge \
        "$folder/one.tsv" -o "$folder/$name"
    absent "$folder/$name"
    absent "$folder/$name.journal"
done

# Where the folder of results cannot be.
mkdir "$folder/taken"
echo >"$folder/taken/results"
here=$PWD
cd "$folder/taken" || exit 1
expect 1 "without -o the result is 'results/fig5-mixtral.tsv': cannot make folder 'results'" \
    "$moelab" sweep "$here/experiments/fig5-mixtral.yaml"
cd "$here" || exit 1
# A full disk: neither the folder of results nor anything in it. (clang's OpenMP does not start
# there: it needs shared memory.)
if ! ldd "$moelab" | grep -q libomp; then
    mkdir "$folder/here"
    said=$(
        trap '' XFSZ
        ulimit -f 0
        cd "$folder/here" && "$moelab" sweep "$x" 2>&1
    )
    holds "a full disk: exit code $?, '$said'" [ $? = 1 ]
    absent "$folder/here/results"
fi
finish
