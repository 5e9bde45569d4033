# Share of (token, layer) events with at least one hit (solid) and with all hits (dashed), by
# geometry and policy (the layout of Fig. 6 of arXiv 2512.16473).
width = 900
load plots.'/style.gp'
pivot(column) = "{g=$c[\"geometry\"]; p=$c[\"policy\"]; if(!(g in G)){G[g]=1;gs[++ng]=g} if(!(p in P)){P[p]=1;ps[++np]=p} v[g,p]=$c[\"".column."\"]} END{printf \"geometry\"; for(j=1;j<=np;j++) printf \"\\t%s\",(length(ps[j])>24?substr(ps[j],1,23) \"…\":ps[j]); print \"\"; for(i=1;i<=ng;i++){printf \"%s\",(length(gs[i])>16?substr(gs[i],1,15) \"…\":gs[i]); for(j=1;j<=np;j++) printf \"\\t%s\",v[gs[i],ps[j]]; print \"\"}}"
any = pivot('any_hit_percent')
all = pivot('all_hit_percent')
shape = system(substr(awk(any), 3, strlen(awk(any)))." | awk -F'\t' 'NR==1{n=NF; next} {if(length($1)>m) m=length($1)} END{print n+0, NR-1, m+0}'")
columns = word(shape, 1) + 0
geometries = word(shape, 2) + 0
longest = word(shape, 3) + 0
height = 150 + 22 * columns < 480 ? 480 : 150 + 22 * columns
set datafile separator tab
set ylabel 'events (%)'
set xlabel 'geometry (indexes x ways)'
set yrange [0:102]
set xrange [-0.4:geometries - 0.6]
# Slanted if the names do not fit side by side.
askew = geometries * (longest + 1) * 9 > width - 250
if (askew) { set xtics noenhanced rotate by -40 left } else { set xtics noenhanced }
# Policies differ in the shape of their points as well as in colour.
mark(i, hit) = word(hit ? '7 5 9 11 13' : '6 4 8 10 12', (i - 2) % 5 + 1) + 0
do for [form in forms] {
    eval begin(form)
    small = form eq 'svg' ? 0.6 : 1 # SVG draws points larger
    plot for [i = 2:columns] awk(any) using i:xtic(1) with linespoints lw 2 pt mark(i, 1) ps 1.1 * small lc rgb colour(i - 1) title columnhead(i), \
         for [i = 2:columns] awk(all) skip 1 using i:xtic(1) with linespoints lw 2 dt 2 pt mark(i, 0) ps 1.1 * small lc rgb colour(i - 1) notitle, \
         NaN with lines lw 2 lc rgb grey title 'at least one hit', \
         NaN with lines lw 2 dt 2 lc rgb grey title 'all hits'
    eval done
}
