# How often a layer's experts are used again by the next layer (top) and by the next token (bottom),
# for each layer of one trace, beside chance (the layout of Fig. 2 of arXiv 2512.16473).
width = 760
height = 600
load plots.'/style.gp'
head = "/^#/{next} !n{for(i=1;i<=NF;i++)c[$i]=i;n=1;next} !t{t=$c[\"trace\"]} $c[\"trace\"]!=t{next} "
trace = system(substr(awk("{print t; exit}"), 3, strlen(awk("{print t; exit}"))))
series(what) = awk("{print $c[\"layer\"] \"\\t\" $c[\"".what."_percent\"]}")
set datafile separator tab
set ylabel 'share (%)'
set yrange [0:100]
layers = system(substr(awk("{if($c[\"layer\"]>m) m=$c[\"layer\"]} END{print m}"), 3, 4000)) + 0
set xrange [-0.6:layers + 0.6]
panel(what, name) = sprintf("set title '%s' noenhanced; plot series('%s_any') using 1:2 with boxes lc rgb colour(1) fs solid 1 title 'at least one expert', series('%s_expert') using 1:2 with boxes lc rgb colour(2) fs solid 0.95 title 'each expert', series('chance_any') using 1:2 with lines lw 2 dt 2 lc rgb '#000000' title 'chance, at least one', series('chance_expert') using 1:2 with lines lw 2 dt 3 lc rgb '#000000' title 'chance, each'", name, what, what)
set boxwidth 0.8
do for [form in forms] {
    eval begin(form)
    set multiplot layout 2,1 title title_text(trace) noenhanced font title_font(trace, 14) margins char 9, char 3, char 6, char 5 spacing char 8
    set xlabel 'layer'
    unset label 900
    unset key
    eval panel('next_layer', 'Consecutive layers: also chosen by the next layer, same token')
    if (synthetic) { set label 900 'SYNTHETIC routing' at graph 1, graph 1.06 right font ',11' textcolor rgb '#D55E00' noenhanced }
    set key at screen 0.53, screen 0.01 bottom center horizontal maxcols 4 samplen 1.5 width -2 font ',11'
    eval panel('next_token', 'Consecutive tokens: also chosen for the next token, same layer')
    unset multiplot
    eval done
}
