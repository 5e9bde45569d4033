# Share of (token, layer) events with at least one hit and with all hits, by geometry and policy (the
# layout of Fig. 6 of arXiv 2512.16473).
load plots.'/style.gp'
pivot(column) = "{g=$c[\"geometry\"]; p=$c[\"policy\"]; if(!(g in G)){G[g]=1;gs[++ng]=g} if(!(p in P)){P[p]=1;ps[++np]=p} v[g,p]=$c[\"".column."\"]} END{printf \"geometry\"; for(j=1;j<=np;j++) printf \"\\t%s\",ps[j]; print \"\"; for(i=1;i<=ng;i++){printf \"%s\",gs[i]; for(j=1;j<=np;j++) printf \"\\t%s\",v[gs[i],ps[j]]; print \"\"}}"
any = pivot('any_hit_percent')
all = pivot('all_hit_percent')
columns = system(substr(awk(any), 3, strlen(awk(any)))." | head -1 | awk -F'\\t' '{print NF}'") + 0
set datafile separator tab
set ylabel 'events (%)'
set xlabel 'geometry (indexes x ways)'
set yrange [0:100]
set xtics noenhanced
do for [form in forms] {
    eval begin(form)
    plot for [i = 2:columns] awk(any) using i:xtic(1) with linespoints lw 2 pt 7 ps 0.9 lc rgb colour(i - 1) title columnhead(i).', at least one hit', \
         for [i = 2:columns] awk(all) using i:xtic(1) with linespoints lw 2 dt 2 pt 6 ps 0.9 lc rgb colour(i - 1) title columnhead(i).', all hits'
    eval done
}
