# Tokens per second with every expert on the CPU, by cores. The line is for copying every expert to
# the GPU (the layout of Fig. 3 of arXiv 2512.16473).
width = 760
height = 400
load plots.'/style.gp'
bars = "{if($c[\"geometry\"]==\"none\" && $c[\"strategy\"]==\"cpu-only\") print $c[\"threads\"] \"\\t\" $c[\"tokens_per_s\"]}"
line = "{if($c[\"strategy\"]==\"on-demand\") print $c[\"tokens_per_s\"]}"
on_demand = system(substr(awk(line), 3, strlen(awk(line))))
has_line = strlen(on_demand) > 0
level = has_line ? on_demand + 0 : NaN
rows = system(substr(awk(bars), 3, strlen(awk(bars))).' | wc -l') + 0
width = rows > 14 ? 54 * rows < 2400 ? 54 * rows : 2400 : 760
set datafile separator tab
set style data histograms
set boxwidth 0.7
set yrange [0:*]
set offsets 0, 0, graph 0.12, 0
set ylabel 'decode throughput (tokens/s)'
set xlabel 'CPU threads for experts'
set key top left inside
if (!rows) {
    set label 1 'no row of strategy cpu-only without a cache' at graph 0.5, graph 0.5 center
    set xrange [0:1]
    set yrange [0:1]
}
do for [form in forms] {
    eval begin(form)
    if (rows) {
        plot awk(bars) using 2:xtic(1) lc rgb colour(1) title 'experts on the CPU', \
             '' using 0:2:(sprintf('%.2f', $2)) with labels offset 0,0.7 font ',11' notitle, \
             level with lines lw 2 dt 2 lc rgb '#000000' title (has_line ? 'experts copied to the GPU on demand' : '')
    } else {
        plot NaN notitle
    }
    eval done
}
