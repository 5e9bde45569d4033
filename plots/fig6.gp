# Share of (token, layer) events with at least one hit (solid) and with all hits (dashed), by
# geometry and policy, a panel for each model. Static random is drawn as simulated and by its closed
# form (the layout of Fig. 6 of arXiv 2512.16473).
width = 860
height = 480
load plots.'/style.gp'
head = "/^#/{next} !n{for(i=1;i<=NF;i++)c[$i]=i;n=1;next} "
rows(model, policy) = awk("$c[\"model\"]==\"".model."\" && $c[\"policy\"]==\"".policy."\"{print $c[\"geometry\"] \"\\t\" $c[\"any_hit_percent\"] \"\\t\" $c[\"all_hit_percent\"]}")
models = system(substr(awk("{if(!($c[\"model\"] in m)){m[$c[\"model\"]]=1; print $c[\"model\"]}}"), 3, 4000))
policies = "lru fifo opt 'static random'"
said = "LRU FIFO 'OPT (knows the future)' 'static random'"
name(model) = model eq 'mixtral' ? 'Mixtral-8x7B' : 'Phi-3.5-MoE (medium locality)'
mark(p, hit) = word(hit ? '7 5 9 11' : '6 4 8 10', p) + 0 # in grey print colours do not tell policies apart
set datafile separator tab
set ylabel 'events (%)'
set xlabel 'geometry (indexes x ways)'
set yrange [0:105]
set offsets 0.2, 0.2, 0, 0
set xtics nomirror noenhanced font ',10'
set ytics nomirror
set label 900 ''
do for [form in forms] {
    eval begin(form)
    small = form eq 'svg' ? 0.6 : 1 # SVG draws points larger
    set xtics nomirror noenhanced font ',10'; set ytics nomirror
    set multiplot title over_panels(synthetic) noenhanced font title_font(over_panels(synthetic), 14)
    i = 0
    do for [model in models] {
        set origin 0.5 * i, 0.14
        set size 0.5, 0.81
        set title name(model) noenhanced font ',12'
        unset key
        plot for [p = 1:4] rows(model, word(policies, p)) using 0:2:xtic(1) with linespoints lw 2 pt mark(p, 1) ps 1.1 * small lc rgb colour(p) notitle, \
             for [p = 1:4] rows(model, word(policies, p)) using 0:3 with linespoints lw 2 dt 2 pt mark(p, 0) ps 1.1 * small lc rgb colour(p) notitle, \
             rows(model, 'static random, closed form') using 0:2 with points pt 2 ps 1.4 * small lw 2 lc rgb '#000000' notitle, \
             '' using 0:3 with points pt 2 ps 1.4 * small lw 2 lc rgb '#000000' notitle
        i = i + 1
    }
    set origin 0, 0
    set size 1, 0.15
    unset title; unset xlabel; unset ylabel; unset tics; unset border; unset grid
    set xrange [0:1]
    set key center center horizontal maxcols 4 samplen 2 width -2 font ',11'
    plot for [p = 1:4] NaN with linespoints lw 2 pt mark(p, 1) ps 1.1 * small lc rgb colour(p) title word(said, p), \
         NaN with points pt 2 ps 1.4 * small lw 2 lc rgb '#000000' title 'closed form', \
         NaN with lines lw 2 lc rgb grey title 'at least one hit', \
         NaN with lines lw 2 dt 2 lc rgb grey title 'all hits'
    unset multiplot
    eval done
    set xlabel 'geometry (indexes x ways)'; set ylabel 'events (%)'
    set tics nomirror out textcolor rgb '#333333'; set border 3 lc rgb '#555555'
    set grid ytics lc rgb '#dddddd' lw 1
    set xtics nomirror noenhanced font ',10'
    set ytics nomirror
    set xrange [*:*]
}
