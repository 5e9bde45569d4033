# Popularity of the experts of each layer: share of the layer's routed experts, chance level in the
# middle of the colour scale.
width = 900
load plots.'/style.gp'
head = "/^#/{next} !n{for(i=1;i<=NF;i++)c[$i]=i;n=1;next} "
limits = "{e=$c[\"expert\"]; l=$c[\"layer\"]; if(e>E)E=e; if(l>L)L=l; if($c[\"share_percent\"]>M)M=$c[\"share_percent\"]} END{print E+1, L+1, M}"
shape = system(substr(awk(limits), 3, strlen(awk(limits))))
experts = word(shape, 1) + 0
layers = word(shape, 2) + 0
chance = 100.0 / experts
height = layers > 40 ? 620 : 480
set datafile separator tab
unset grid
set border 0
set xlabel 'expert'
set ylabel 'layer'
set cblabel 'share of the layer''s routed experts (%)'
set xrange [-0.5:experts - 0.5]
set yrange [layers - 0.5:-0.5]
set cbrange [0:2 * chance]
set palette defined (0 '#2166ac', 1 '#f7f7f7', 2 '#b2182b')
if (experts <= 32) set xtics 0, experts <= 16 ? 1 : 4
unset key
do for [form in forms] {
    eval begin(form)
    plot awk("{print $c[\"expert\"] \"\\t\" $c[\"layer\"] \"\\t\" $c[\"share_percent\"]}") using 1:2:3 with image pixels
    eval done
}
