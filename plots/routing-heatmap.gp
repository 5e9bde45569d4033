# Popularity of the experts of each layer: share of the layer's routed experts. The scale ends at
# the largest share, but at most at four times chance. Light is rare and dark popular, also in
# print.
width = 900
load plots.'/style.gp'
head = "/^#/{next} !n{for(i=1;i<=NF;i++)c[$i]=i;n=1;next} "
limits = "{e=$c[\"expert\"]; l=$c[\"layer\"]; if(e>E)E=e; if(l>L)L=l; if($c[\"share_percent\"]>M)M=$c[\"share_percent\"]} END{print E+1, L+1, M}"
shape = system(substr(awk(limits), 3, strlen(awk(limits))))
experts = word(shape, 1) + 0
layers = word(shape, 2) + 0
largest = word(shape, 3) + 0.0
chance = 100.0 / experts
top = largest > 4 * chance ? 4 * chance : largest > chance ? largest : chance
height = layers > 40 ? 620 : layers < 6 ? 300 + 30 * layers : 480
set datafile separator tab
unset grid
set border 15 lc rgb '#bbbbbb'
set xlabel sprintf("expert\ncolour: share of the layer's routed experts (chance: %.3g %%)", chance)
set ylabel 'layer'
set xrange [-0.5:experts - 0.5]
set yrange [layers - 0.5:-0.5]
set cbrange [0:top]
set palette defined (0 '#ffffff', 0.25 '#fee0a6', 0.5 '#f98e52', 0.75 '#b5325e', 1 '#2d0a45')
# Tics at whole numbers even if there are few. A tic's text is a format, so %% prints as %. The last
# one says '≥' if some shares are above the end of the scale.
if (experts <= 32) set xtics 0, experts <= 16 ? 1 : 4
if (layers <= 10) set ytics 0, 1
percent(share) = sprintf('%.3g %%%%', share)
set cbtics (percent(0) 0, percent(top / 4) top / 4, percent(top / 2) top / 2, percent(top * 3 / 4) top * 3 / 4, (largest > top ? '≥ ' : '').percent(top) top)
set rmargin screen 0.83
unset key
do for [form in forms] {
    eval begin(form)
    # An image needs two rows and two columns.
    if (layers > 1 && experts > 1) {
        plot awk("{print $c[\"expert\"] \"\t\" $c[\"layer\"] \"\t\" $c[\"share_percent\"]}") using 1:2:3 with image pixels
    } else {
        plot awk("{print $c[\"expert\"] \"\t\" $c[\"layer\"] \"\t\" $c[\"share_percent\"]}") using 1:2:(0.5):(0.5):3 with boxxyerror fs solid noborder lc palette
    }
    eval done
}
