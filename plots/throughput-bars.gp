# Tokens per second: a group for each number of CPU threads, a bar for each cache geometry, lines
# for strategies that do not depend on the geometry (the layout of Fig. 5 of arXiv 2512.16473).
width = 800
load plots.'/style.gp'
bars = "{s=$c[\"strategy\"]; if (s==\"on-demand\") next; t=$c[\"threads\"]; g=$c[\"geometry\"]; if (g==\"none\") g=\"CPU only\"; if(!(t in T)){T[t]=1;ts[++nt]=t} if(!(g in G)){G[g]=1;gs[++ng]=g} v[t,g]=$c[\"tokens_per_s\"]} END{printf \"threads\"; for(j=1;j<=ng;j++) printf \"\\t%s\",(length(gs[j])>20?substr(gs[j],1,19) \"…\":gs[j]); print \"\"; for(i=1;i<=nt;i++){printf \"%s\",ts[i]; for(j=1;j<=ng;j++) printf \"\\t%s\",(ts[i],gs[j]) in v ? v[ts[i],gs[j]] : \"nan\"; print \"\"}}"
lines = "{s=$c[\"strategy\"]; if (s==\"on-demand\") {x=$c[\"tokens_per_s\"]; n1++}} END{if(n1) print x}"
shape = system(substr(awk(bars), 3, strlen(awk(bars)))." | awk -F'\t' 'NR==1{n=NF-1; for(i=2;i<=NF;i++) if($i==\"CPU only\") at=i-1} END{print n+0, NR-1, at+0}'")
on_demand = system(substr(awk(lines), 3, strlen(awk(lines))))
n_bars = word(shape, 1) + 0
n_groups = word(shape, 2) + 0
cpu_bar = word(shape, 3) + 0
n_names = n_bars + (strlen(on_demand) > 0)
eval bars_layout
set datafile separator tab
set style data histograms
set style histogram clustered gap 1
set boxwidth 0.95
set ylabel 'decode throughput (tokens/s)'
set xlabel 'CPU threads for experts'
set key at screen 0.53, screen 0.01 bottom center horizontal maxcols per_row samplen 1.5 width 1 font ',11' title 'bars: indexes x ways' noenhanced
set yrange [0:*]
do for [form in forms] {
    eval begin(form)
    if (strlen(on_demand)) {
        plot for [i = 1:n_bars] awk(bars) using i + 1:xtic(1) title columnhead(i + 1) lc rgb bar_colour(i) fs solid bar_fill(i), \
            on_demand + 0 with lines lw 2 dt 2 lc rgb '#000000' title 'on-demand copies'
    } else {
        plot for [i = 1:n_bars] awk(bars) using i + 1:xtic(1) title columnhead(i + 1) lc rgb bar_colour(i) fs solid bar_fill(i)
    }
    eval done
}
