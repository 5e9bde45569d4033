# Tokens per second in groups of CPU threads, one bar a cache geometry (the layout of Fig. 5 of
# arXiv 2512.16473); strategies that do not depend on the geometry are lines.
width = 800
height = 520
load plots.'/style.gp'
bars = "{s=$c[\"strategy\"]; if (s==\"on-demand\") next; t=$c[\"threads\"]; g=$c[\"geometry\"]; if (g==\"none\") g=\"CPU only\"; if(!(t in T)){T[t]=1;ts[++nt]=t} if(!(g in G)){G[g]=1;gs[++ng]=g} v[t,g]=$c[\"tokens_per_s\"]} END{printf \"threads\"; for(j=1;j<=ng;j++) printf \"\\t%s\",gs[j]; print \"\"; for(i=1;i<=nt;i++){printf \"%s\",ts[i]; for(j=1;j<=ng;j++) printf \"\\t%s\",(ts[i],gs[j]) in v ? v[ts[i],gs[j]] : \"nan\"; print \"\"}}"
lines = "{s=$c[\"strategy\"]; if (s==\"on-demand\") {x=$c[\"tokens_per_s\"]; n1++}} END{if(n1) print x}"
columns = system(substr(awk(bars), 3, strlen(awk(bars)))." | head -1 | awk -F'\\t' '{print NF}'") + 0
on_demand = system(substr(awk(lines), 3, strlen(awk(lines))))
set datafile separator tab
set style data histograms
set style histogram clustered gap 1
set boxwidth 0.95
set ylabel 'decode throughput (tokens/s)'
set xlabel 'CPU threads for experts'
set bmargin 9
set key at screen 0.53, screen 0.01 bottom center horizontal maxcols 4 samplen 1.5 width -2 font ',11' title 'bars: indexes x ways' noenhanced
set yrange [0:*]
bar(i) = i == 2 ? grey : colour(i - 2)
do for [form in forms] {
    eval begin(form)
    if (strlen(on_demand)) {
        plot for [i = 2:columns] awk(bars) using i:xtic(1) title columnhead(i) lc rgb bar(i), \
            on_demand + 0 with lines lw 2 dt 2 lc rgb '#000000' title 'on-demand copies'
    } else {
        plot for [i = 2:columns] awk(bars) using i:xtic(1) title columnhead(i) lc rgb bar(i)
    }
    eval done
}
