# What runs when: a panel for each run with a lane for each resource (the layout of Fig. 4 (b) of
# arXiv 2512.16473). Boxes are operations; the number above a dense part is its layer. If there are
# several runs, the last one is drawn again at the bottom on a scale of its own.
load plots.'/style.gp'
head = "/^#/{next} !n{for(i=1;i<=NF;i++)c[$i]=i;n=1;next} "
runs = system(substr(awk("{if(!($c[\"run\"] in r)){r[$c[\"run\"]]=1; print $c[\"run\"]}}"), 3, 4000))
n = words(runs)
width = 800
height = n > 1 ? 150 * (n + 1) + 110 : 310
end_of(run) = system(substr(awk("$c[\"run\"]==\"".run."\" && $c[\"end_ms\"]>m{m=$c[\"end_ms\"]} END{print m}"), 3, 4000)) + 0
longest = 0
do for [run in runs] { if (end_of(run) > longest) { longest = end_of(run) } }
# Lanes from top to bottom, and the kinds of operations with their colours.
lane = "y=$c[\"lane\"]==\"GPU\"?3:$c[\"lane\"]==\"CPU\"?2:$c[\"lane\"]==\"state\"?1:0; "
kind = "o=$c[\"operation\"]; k=o~/attend|combine|head/?1:o~/GPU/?2:o~/CPU/?3:o~/state/?4:$c[\"cause\"]==\"prefetch\"?6:5; "
boxes(run, k) = awk("$c[\"run\"]==\"".run."\"{".lane.kind."if(k==".k.") print $c[\"start_ms\"],$c[\"end_ms\"],y-0.38,y+0.38}")
present(run) = system(substr(awk("$c[\"run\"]==\"".run."\"{".lane.kind."if(!(k in K)){K[k]=1; print k}}"), 3, 4000))
layers(run) = awk("$c[\"run\"]==\"".run."\" && $c[\"operation\"]==\"attend\"{print $c[\"start_ms\"], 3.72, $c[\"layer\"]}")
kinds = "'dense part (its layer)' 'expert on the GPU' 'expert on the CPU' 'activations' 'copy of an expert' 'copy ahead of time'"
tint = '#BBBBBB #007A59 #E69F00 #CC79A7 #0072B2 #56B4E9'
set datafile separator whitespace
set yrange [-0.55:4.1]
set ytics nomirror ('GPU' 3, 'CPU' 2, 'activations' 1, 'copies' 0) font ',10'
set style fill solid 0.9 border lc rgb '#ffffff'
unset grid
set grid xtics lc rgb '#dddddd'
unset key
set lmargin 13
set rmargin 3
set label 900 ''
draw(run) = sprintf("plot for [k in present('%s')] boxes('%s', k) using 1:3:1:2:3:4 with boxxyerror lc rgb word(tint, k + 0) notitle, layers('%s') using 1:2:3 with labels left offset 0.2,0 font ',10' textcolor rgb '#555555' notitle", run, run, run)
bare(run) = sprintf("plot for [k in present('%s')] boxes('%s', k) using 1:3:1:2:3:4 with boxxyerror lc rgb word(tint, k + 0) notitle", run, run)
names(run) = run eq 'on-demand' ? 'on demand: copy, then compute' : run eq 'pre-gated' ? 'prefetch: copies one layer ahead, one after another' : run eq 'collab' ? 'collaborative: misses on the CPU, copied in the background' : 'collaborative, measured on the host device (threads; the link is throttled)'
do for [form in forms] {
    eval begin(form)
    set multiplot title over_panels(synthetic) noenhanced font title_font(over_panels(synthetic), 14)
    panels = n > 1 ? n + 1 : 1
    top = n > 1 ? 0.94 : 0.86
    each = (top - (n > 1 ? 0.08 : 0.16)) / (panels + (n > 1 ? 0.4 : 0))
    do for [i = 1:panels] {
        run = word(runs, i > n ? n : i)
        last = n > 1 && i == panels ? 1.4 * each : each
        set origin 0, top - (i - 1) * each - last
        set size 1, last
        set xrange [0:(i > n ? end_of(run) : longest)]
        set bmargin (i == panels ? 3 : 2.4)
        set tmargin 1.6
        set title names(run).(i > n ? ' (larger)' : '') noenhanced font ',12' offset 0,-0.5
        if (i == panels) { set xlabel 'time (ms)' offset 0,0.4 } else { unset xlabel }
        eval (n > 1 && i == n) ? bare(run) : draw(run)
    }
    unset xlabel
    set origin 0, 0
    set size 1, (n > 1 ? 0.08 : 0.16)
    unset title
    unset border
    unset tics
    set lmargin 1
    set rmargin 1
    set tmargin 0
    set bmargin 0
    set yrange [0:1]
    set xrange [0:1]
    set key center center horizontal maxrows 1 samplen 1.5 width 1 font ',11'
    plot for [k = 1:6] NaN with boxes lc rgb word(tint, k) title word(kinds, k)
    unset multiplot
    eval done
    set border 3 lc rgb '#555555'
    set tics nomirror out textcolor rgb '#333333'
    set ytics nomirror ('GPU' 3, 'CPU' 2, 'activations' 1, 'copies' 0) font ',10'
    set xtics nomirror auto
    set yrange [-0.55:4.1]
    set lmargin 13
    set rmargin 3
    unset key
}
