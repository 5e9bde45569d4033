# Hit rate against the number of slots (and their GiB, if the experts' size is known): one pool for
# each layer and one pool for all, LRU and OPT, beside a random choice of as many experts. Shows the
# decode phase if there is one; error bars are bands. The two kinds of pool differ in line width as
# well as in colour, so that both can be seen where curves coincide, and in grey.
load plots.'/style.gp'
head = "/^#/{next} !n{for(i=1;i<=NF;i++)c[$i]=i;n=1;next} "
ask(program) = system(substr(awk(program), 3, strlen(awk(program))))
has(column) = ask(sprintf("END{print (\"%s\" in c) + 0}", column)) + 0
opt = has('opt_hit_percent')
bands = has('lru_low_percent')
gib = has('gib')
phase = ask("{p[$c[\"phase\"]]=1} END{print (\"decode\" in p) ? \"decode\" : (\"prefill\" in p) ? \"prefill\" : \"both\"}")
layers = has('layer') ? "&& $c[\"layer\"]==\"all\"" : ""
last = ask("{split($c[\"geometry\"], g, \"x\"); if (g[1]+0>N) N=g[1]+0} END{print N}")
# 1: one pool for each layer (without rows that have fewer indexes than layers); 2: one pool.
rows(pool) = sprintf("$c[\"phase\"]==\"%s\" %s && $c[\"geometry\"] ~ /^%s/", phase, layers, pool == 1 ? last.'x' : 'global:')
curve(pool, column) = awk(rows(pool).sprintf("{print $c[\"slots\"] \"\\t\" $c[\"%s\"]}", column))
band(pool, policy) = awk(rows(pool).sprintf(" && $c[\"%s_low_percent\"] != \"nan\" {print $c[\"slots\"] \"\\t\" $c[\"%s_low_percent\"] \"\\t\" $c[\"%s_high_percent\"]}", policy, policy, policy))
global = ask(rows(2)."{k=1} END{print k+0}") + 0
slots = ask(rows(1)."{if($c[\"slots\"]>S)S=$c[\"slots\"]} END{print S}") + 0
set datafile separator tab
set ylabel sprintf('hits (%% of looked-up experts, %s)', phase)
set xlabel 'slots for experts'
set xrange [0:slots]
set yrange [0:100]
if (gib) {
    size = ask(rows(1)."{if($c[\"gib\"]>S)S=$c[\"gib\"]} END{print S}") + 0
    set x2range [0:size]
    set x2tics nomirror out textcolor rgb '#333333'
    set x2label 'their size (GiB)' offset 0,-0.4
    set border 7
    set title offset 0,0.8
    if (synthetic) { set label 900 'SYNTHETIC routing' at graph 1, graph 1 right offset 0,2.2 font ',11' textcolor rgb '#D55E00' }
}
set style fill transparent solid 0.2 noborder
set key inside bottom right spacing 1.1 samplen 4
# A curve with a single size is drawn as a point.
drawn = slots > 1 ? 'lines' : 'linespoints pt 6 ps (p == 1 ? 2 : 1)'
pool_colour(p) = p == 1 ? colour(5) : '#a03000'
# gnuplot runs an empty iteration once, with a warning, so absent parts are left out of the command.
of_band(policy) = sprintf('for [p = 1:1 + global] band(p, "%s") using 1:2:3 with filledcurves lc rgb colour(p == 1 ? 5 : 6) notitle, ', policy)
of_curve(column, name, dash) = sprintf('for [p = 1:1 + global] curve(p, "%s") using 1:2 with %s lw (p == 1 ? 5 : 2) dt %d lc rgb pool_colour(p) title p == 1 ? "%s, a pool for each layer" : "%s, one pool", ', column, drawn, dash, name, name)
parts = bands ? of_band('lru') : ''
parts = parts.(bands && opt ? of_band('opt') : '')
parts = parts.of_curve('lru_hit_percent', 'LRU', 1)
parts = parts.(opt ? of_curve('opt_hit_percent', 'OPT', 2) : '')
do for [form in forms] {
    eval begin(form)
    eval 'plot '.parts.'curve(1, "chance_percent") using 1:2 with lines lw 1.5 lc rgb grey title "chance"'
    eval done
}
