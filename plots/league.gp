# Tokens per second of every strategy of a sweep, best first, and the values that papers state for
# the same model and platform (experiments/data/published-PLATFORM.tsv, if there is one).
width = 900
load plots.'/style.gp'
# rank, tokens per second, strategy, 1 where the CPU computes experts
rows = "{v=$c[\"tokens_per_s\"]; k=++n2; for(; k>1 && V[k-1]<v; k--) {V[k]=V[k-1]; S[k]=S[k-1]; C[k]=C[k-1]} V[k]=v; S[k]=(length($c[\"strategy\"])>40?substr($c[\"strategy\"],1,39) \"…\":$c[\"strategy\"]) ((\"lossy\" in c) && $c[\"lossy\"]!=\"no\" ? \" LOSSY \" $c[\"lossy\"] : \"\"); C[k]=$c[\"cpu_experts_per_token\"]>0} END{for(k=1;k<=n2;k++) printf \"%d\\t%s\\t%s\\t%d\\n\",k,V[k],S[k],C[k]}"
platform = system(substr(awk("{print $c[\"platform\"]; exit}"), 3, strlen(awk("{print $c[\"platform\"]; exit}"))))
model = system(substr(awk("{print $c[\"model\"]; exit}"), 3, strlen(awk("{print $c[\"model\"]; exit}"))))
ranked = substr(awk(rows), 3, strlen(awk(rows)))
published = plots.'/../experiments/data/published-'.platform.'.tsv'
stated = sprintf("< if [ -r '%s' ]; then %s | awk -F'\\t' 'FILENAME==\"-\"{r[$3]=$1;next} /^#/{next} $1==\"%s\" && $3 in r{print r[$3] \"\\t\" $4}' - '%s'; fi; printf '9999\\t-1\\n'", published, ranked, model, published)
n = system(ranked." | wc -l") + 0
has_stated = system('{ '.substr(stated, 3, strlen(stated))."; } | wc -l") > 1
height = 160 + 26 * n < 300 ? 300 : 160 + 26 * n
set datafile separator tab
set yrange [n + 0.6:0.4]
set xrange [0:*]
set xlabel 'decode throughput (tokens/s)'
set ytics noenhanced
# The title is centred over the whole picture: centred over the bars alone it would not fit.
unset title
set tmargin 3
set label 910 title_text(title) at screen 0.5, screen 1 - 20.0 / height center noenhanced font title_font(title, 15)
set grid noytics xtics
set bmargin screen 108.0 / height
set key at screen 0.53, screen 10.0 / height bottom center horizontal maxcols 3 samplen 1.5 width -4 font ',11'
set offsets 0, graph 0.08, 0, 0 # for the numbers behind the bars
# Numbers stand right of the bar, or of the stated value if that is further right.
behind = sprintf("< { { %s; } | sed 's/^/s\t/'; %s | sed 's/^/r\t/'; } | awk -F'\t' '$1==\"s\"{if($3>x[$2]) x[$2]=$3; next} {print $2 \"\\t\" ($2 in x && x[$2]>$3 ? x[$2] : $3) \"\\t\" $3}'", substr(stated, 3, strlen(stated)), ranked)
half = 0.4
# What must not be drawn is placed outside the axes, as gnuplot warns of a plot without points.
at(row, drawn) = drawn ? row : 9999
do for [form in forms] {
    eval begin(form)
    plot awk(rows) using (0):1:(0):2:(at($1, $4 == 1) - half):(at($1, $4 == 1) + half):ytic(3) with boxxyerror lc rgb colour(1) title 'the CPU computes missed experts', \
         awk(rows) using (0):1:(0):2:(at($1, $4 == 0) - half):(at($1, $4 == 0) + half) with boxxyerror lc rgb colour(2) title 'the GPU waits for copies', \
         behind using 2:1:(sprintf('%.2f', $3)) with labels left offset 0.9,0 font ',11' notitle, \
         stated using 2:1 with points pt 13 ps 1.6 lc rgb '#000000' title (has_stated ? 'stated in papers' : '')
    eval done
}
