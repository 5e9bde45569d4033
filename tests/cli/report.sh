#!/usr/bin/env bash
# Reports: words on the page, same bytes, no script of the data runs and nothing is loaded,
# refusals. How a browser shows it: report_browser.sh.
. tests/cli/lib/check.bash
. tests/cli/lib/results.bash
moelab=$(realpath "$moelab")
d=$folder/results
page=$folder/page.html
make_results "$d"
expect 0 "tables 4, plots 2, timelines 1, texts 1, left out 0" "$moelab" report "$d" -o "$page"

# says TEXT: a line of the page contains it.
says() { if grep -qF -e "$1" "$page"; then passed; else failed "the page does not say: $1"; fi; }
never() {
    if grep -qiE -e "$1" "$page"; then
        failed "the page has: $(grep -iEm1 -e "$1" "$page")"
    else
        passed
    fi
}

# The words at the top, from the numbers below.
says 'Fastest: <b>100.1</b>&nbsp;tokens/s with geometry 7x8, threads 24.'
says 'That is <b>50.06&nbsp;%</b> of the bound of 200&nbsp;tokens/s'
says 'A token takes 9.988&nbsp;ms on average. All 4: 2.5 to 100.1 tokens/s, median 9.875.'
says '5 runs of <b>m&lt;b&gt;x&lt;/b&gt;</b> on <b>p</b>. What varies: geometry (7x8, 14x4, 29x2), '
says '<b>1 of them could not run</b>'
says '<strong>SYNTHETIC routing</strong> in 1 of 4 tables (speeds.tsv)'
says '>simulated</span>'
says '>measured</span>'
says '<b>3.5</b>&nbsp;tokens/s'
says '<td class="n bar best" style="--share:100.0%" data-v="100.123456">'
says '<dt>title</dt><dd>Speeds &lt;script&gt;hurt(1)&lt;/script&gt;</dd>'
says '3 operations in 2.000&nbsp;ms'
says '<td class="n">2</td><td class="n">1.400</td><td class="n">70.0</td>'
says 'data:image/png;base64,iVBORw0KGgo'
says '<circle id="p0-c"'
says '<use href="#p0-c"'
holds "one picture: the other has a drawing" test "$(grep -c '<img src="data:' "$page")" = 1

# Folders inside, texts; what no machine can have is not the fastest.
says '<a href="#table-1">more/future</a>'
says '<b>4</b>&nbsp;tokens/s with policy lru, geometry 14x4. Knowing the future: <b>4.5</b> with '
says '<summary class="file">more/in &lt;i&gt;/README.md</summary>'
says '# How &lt;b&gt;it&lt;/b&gt; was run'
says '&lt;script&gt;hurt(5)&lt;/script&gt; wide'

# Nothing of the files acts, and nothing is loaded.
never '<img src=[^"]|<img src="[^d]|<script>hurt|<b>x</b>|<b>CPU'
never '(src|href)="?(//|https?:[^"]*[^/]"|file:|\.|/)'
never 'url\(["'\'']?[a-z/]|@import|fetch\(|XMLHttpRequest|import\('
holds "scripts: three of the page, one of data" test "$(grep -c '<script' "$page")" = 4
says "default-src 'none'"

# The same folder, the same bytes: again, another way to it, another place.
expect 0 "" "$moelab" report "$d/../results/" -o "$folder/again.html"
same "$page" "$folder/again.html"
(cd "$d" && "$moelab" report . -o - >"$folder/stdout.html") || failed "report . -o -"
same "$page" "$folder/stdout.html"

# What is cut says so.
expect 0 "" "$moelab" report "$d" -o "$page" --max-rows 2 --max-events 1 --title 'Mine & <yours>'
says '<h1>Mine &amp; &lt;yours&gt;</h1>'
says 'speeds.tsv: 2 of 5 rows; the others are in the file'
says 'Fastest: <b>100.1</b>'
says 'the first 1 are drawn'
says '3 operations in 2.000&nbsp;ms'

# Pictures and JSON that do not belong cost themselves only.
printf '<svg><script>hurt(4)</script></svg>' >"$d/speeds-bars.svg"
printf 'no picture' >"$d/text.png"
printf '{"rows": [[1]]}' >"$d/result.json"
expect 0 "plots 2, timelines 1, texts 1, left out 3" "$moelab" report "$d" -o "$page"
says "<li>&#39;speeds-bars.svg&#39;:1: element &#39;script&#39; is not allowed in a plot</li>"
says "<li>&#39;text.png&#39;: not a PNG file</li>"
says "<li>&#39;result.json&#39; is no timeline: it has no &#39;traceEvents&#39;</li>"
holds "the picture in the drawing's place" test "$(grep -c '<img src="data:' "$page")" = 2
never 'hurt\(4\)'

# Rows as good as the best; what has a unit is no label; verdicts, and a status of another kind.
{
    printf 'strategy\tchange_percent\tadmission\ttokens_per_s\n'
    printf 'a\t1.5\t-\t8\nb\t2.5\tquota\t9\nc\t3.5\t-\t9\nd\t4\t-\t9\n'
} >"$d/ties.tsv"
printf 'id\tverdict\n1\twithin\n2\toff\n3\twithin\n' >"$d/verdicts.tsv"
printf 'figure\tstatus\nFig. 5\tpartly <i>\n' >"$d/status.tsv"
expect 0 "tables 7" "$moelab" report "$d" -o "$page"
says '<b>9</b>&nbsp;tokens/s with strategy b, admission quota; 2 other rows are no less.'
says 'What varies: strategy (a, b, c, d), admission (-, quota).'
says '</a>: 3 rows, 2 columns; <b>within (2), off (1)</b>'
says '</a>: 1 row, 2 columns; <b>partly &lt;i&gt;</b>'

# Refusals: one line, nothing left behind.
rm "$page"
one_line_of() { # CODE TEXT FOLDER
    expect "$1" "$2" "$moelab" report "$3" -o "$page"
    "$moelab" report "$3" -o "$page" >/dev/null 2>"$folder/stderr"
    holds "one line: $(cat "$folder/stderr")" test "$(wc -l <"$folder/stderr")" = 1
    absent "$page"
    absent "$page.part"
}
bad=$folder/bad
mkdir "$bad"
one_line_of 1 "cannot open folder '$folder/none': No such file" "$folder/none"
one_line_of 1 "Not a directory" "$d/one.tsv"
one_line_of 1 "has nothing to report" "$bad"
printf 'a\tb\n1\t2\n3\n' >"$bad/x.tsv"
one_line_of 1 "bad/x.tsv':3: line has 1 field, the header has 2" "$bad"
truncate -s 65M "$bad/x.tsv"
one_line_of 1 "more than 67108864 bytes" "$bad"
rm "$bad/x.tsv"
mkdir "$bad/x.tsv"
one_line_of 1 "not a regular file" "$bad"
rmdir "$bad/x.tsv"
printf '{"traceEvents":[{]}' >"$bad/t.json"
one_line_of 1 "'t.json': event 1: not JSON at byte 17" "$bad"
rm "$bad/t.json"
mkdir -p "$bad/1/2/3/4/5/6/7/8/9"
one_line_of 1 "7/8/9' is nested deeper than 8 folders" "$bad"
rmdir -p "$bad/1/2/3/4/5/6/7/8/9" 2>/dev/null
mkdir -p "$bad"
for i in {1..501}; do : >"$bad/$i.png"; done
one_line_of 1 "more than 500 tables, plots, timelines and texts" "$bad"
expect 1 "cannot" "$moelab" report "$d" -o "$folder/no/such/folder/x.html"
expect 1 "No space left" "$moelab" report "$d" -o /dev/full
expect 2 "missing argument" "$moelab" report
expect 2 "did you mean '--max-rows'" "$moelab" report "$d" --max-row 3

# A sweep's own results, and from any folder.
cd "$folder" || exit 1
mkdir swept
cat >x.yaml <<YAML
experiment: x
trace: "synth:uniform:layers=32,experts=8,top_k=2,tokens=16"
model: mixtral-8x7b
platform: paper-4090
strategy: collab
axes: {threads: [1, 24], geometry: [none, 7x8]}
YAML
expect 0 "4 points" "$moelab" sweep x.yaml -o swept/x.tsv --no-plot
expect 0 "tables 1, plots 0" "$moelab" report swept
page=report.html
says '<h1>swept</h1>'
says '4 runs of <b>mixtral-8x7b</b> on <b>paper-4090</b>'
says 'What varies: geometry (none, 7x8), threads (1, 24).'

# A part of a sweep says so: its fastest may not be the fastest.
mkdir parts
expect 0 "2 points" "$moelab" sweep x.yaml --shard 1/2 -o parts/x.tsv --no-plot
expect 0 "tables 1, plots 0" "$moelab" report parts
says '>shard 1/2 only</span>'
finish
