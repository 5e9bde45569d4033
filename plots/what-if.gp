# Tokens per second against one part of the machine at a time, a panel for each part: the strategy
# with its cache fitted to each value, the CPU alone, on-demand copies, and the bound. Further right
# is a better machine; the machine's own value is marked. Hollow points: more cores than were
# measured.
width = 760
height = 600
load plots.'/style.gp'
set datafile separator tab
ask(program) = system(substr(awk(program), 3, strlen(awk(program))))
ours = "$c[\"line\"]==\"strategy\" && $c[\"axis\"]==\"%s\""
axes = ask("!($c[\"axis\"] in a){a[$c[\"axis\"]]=1; print $c[\"axis\"]}")
axis_title(a) = ask(sprintf("$c[\"axis\"]==\"%s\"{print $c[\"title\"]; exit}", a))
name = ask("$c[\"line\"]==\"strategy\"{print $c[\"strategy\"]; exit}")
line(a, l) = awk(sprintf("$c[\"axis\"]==\"%s\" && $c[\"line\"]==\"%s\"{print $c[\"x\"] \"\\t\" $c[\"tokens_per_s\"] \"\\t\" ($c[\"beyond_measured_cores\"]==\"yes\")}", a, l))
bound(a) = awk(sprintf(ours." && $c[\"bound_ms_per_token\"]+0>0{print $c[\"x\"] \"\\t\" 1000/$c[\"bound_ms_per_token\"]}", a))
own(a) = awk(sprintf(ours." && $c[\"own\"]==\"yes\"{print $c[\"x\"] \"\\t\" $c[\"tokens_per_s\"] \"\\t\" $c[\"value\"]}", a))
# Every value has a place on the axis, even one that cannot run. Labels are set where there is room,
# the machine's own value first.
every = "/^#/{next} !n{for(i=1;i<=NF;i++)c[$i]=i;n=1;next} $c[\"axis\"]==\"%s\" && $c[\"line\"]==\"strategy\""
place = "{k++; x[k]=$c[\"x\"]+0; t[k]=$c[\"value\"]; if($c[\"own\"]==\"yes\")o=k} "
far = "function far(i, j, d){d=log(x[i]/x[j]); return (d<0?-d:d) > (0.045+0.025*(length(t[i])+length(t[j])))*s} "
room = "END{s=log(x[k]/x[1]); if(s<0)s=-s; last=0; for(i=1;i<=k;i++){ok=i==o || ((!last || far(i,last)) && (i>o || far(i,o))); if(ok)last=i; printf \"%s\\\"%s\\\" %s\", i==1 ? \"\" : \", \", ok ? t[i] : \"\", x[i]}}"
ticks(a) = system("awk -F'\\t' '".far.sprintf(every, a).place.room.sprintf("' '%s'", tsv))
range(a) = system(sprintf("awk -F'\\t' '/^#/{next} !n{for(i=1;i<=NF;i++)c[$i]=i;n=1;next} $c[\"axis\"]==\"%s\"{x=$c[\"x\"]; if(!k++ || x<lo)lo=x; if(x>hi)hi=x} END{print lo/1.15, hi*1.15}' '%s'", a, tsv))
# All panels have the same vertical axis.
top = ask("{b=$c[\"bound_ms_per_token\"]+0; v=$c[\"tokens_per_s\"]+0; if(b>0 && 1000/b>v) v=1000/b; if(v>m)m=v} END{print m}") + 0
low = ask("{v=$c[\"tokens_per_s\"]+0; if(v>0 && (!m || v<m)) m=v} END{print m}") + 0
# 1, 2, 5, 10, ...
steps = ''
do for [e = floor(log10(low / 1.25)):ceil(log10(top * 1.25))] { do for [m in '1 2 5'] {
    steps = steps.(strlen(steps) ? ', ' : '').sprintf('%g', m * 10.0**e)
} }
set lmargin 8
set rmargin 1
bounds = strlen(ask("$c[\"line\"]==\"strategy\" && $c[\"bound_ms_per_token\"]+0>0{print 1; exit}"))
more_cores = strlen(ask("$c[\"beyond_measured_cores\"]==\"yes\"{print 1; exit}"))
set logscale xy
set yrange [low / 1.25:top * 1.25]
unset key
unset label # the shared title already says it
# Lines without any point are left out, as gnuplot warns of them.
some(data) = strlen(system(substr(data, 3, strlen(data)).' | head -c 1')) > 0
of(kind, a) = kind eq 'bound' ? bound(a) : kind eq 'own' ? own(a) : line(a, kind)
kinds = 'bound on-demand cpu-only strategy own'
look(kind) = kind eq 'bound' ? "with lines lw 2 dt 2 lc rgb '#000000'" : \
    kind eq 'on-demand' ? "with linespoints lw 2 pt 9 ps 0.7 lc rgb colour(2)" : \
    kind eq 'cpu-only' ? "with linespoints lw 2 pt 5 ps 0.6 lc rgb colour(3)" : \
    kind eq 'own' ? "with points pt 6 lw 2 ps 1.8 lc rgb colour(6)" : \
    "with lines lw 3 lc rgb colour(1), '' using 1:($3 == 0 ? $2 : NaN) with points pt 7 ps 0.9 lc rgb colour(1), '' using 1:($3 == 1 ? $2 : NaN) with points pt 6 lw 2 ps 0.9 lc rgb colour(1)"
do for [form in forms] {
    eval begin(form)
    set multiplot title over_panels(synthetic) noenhanced font title_font(over_panels(synthetic), 14)
    i = 0
    do for [a in axes] {
        set origin (i % 3) / 3.0, i < 3 ? 0.47 : 0.01
        set size 1 / 3.0, 0.47
        r = range(a)
        if (a eq 'weights') { set xrange [word(r, 2) + 0:word(r, 1) + 0] } else { set xrange [word(r, 1) + 0:word(r, 2) + 0] }
        eval 'set xtics nomirror noenhanced font ",12" offset 0,0.3 ('.ticks(a).')'
        eval 'set ytics nomirror ('.steps.')'
        set xlabel axis_title(a) noenhanced font ",12" offset 0,0.5
        set ylabel (i % 3 == 0 ? 'tokens/s' : '') offset 1.2,0
        unset title
        panel = 'plot NaN'
        do for [k in kinds] { panel = panel.(some(of(k, a)) ? sprintf(", of('%s', a) using 1:2 ", k).look(k) : '') }
        eval panel
        i = i + 1
    }
    set lmargin 0; set rmargin 0
    set origin 0.67, 0.06
    set size 0.33, 0.38
    unset xlabel; unset ylabel; unset tics; unset border; unset grid; unset logscale
    set xrange [0:1]; set yrange [0:1]
    set key center center Left reverse samplen 3 spacing 1.4 font ',11' noenhanced
    said = "plot NaN with linespoints lw 3 pt 7 lc rgb colour(1) title cut(name, 20).', cache fitted'"
    said = said.", NaN with linespoints lw 2 pt 5 lc rgb colour(3) title 'CPU only'"
    said = said.", NaN with linespoints lw 2 pt 9 lc rgb colour(2) title 'on-demand copies'"
    said = said.(bounds ? ", NaN with lines lw 2 dt 2 lc rgb '#000000' title 'bound'" : '')
    said = said.", NaN with points pt 6 lw 2 ps 1.8 lc rgb colour(6) title 'the machine as it is'"
    said = said.(more_cores ? ", NaN with points pt 6 lw 2 ps 0.9 lc rgb colour(1) title 'more cores than measured'" : '')
    eval said
    unset multiplot
    eval done
    set tics nomirror out textcolor rgb '#333333'; set border 3 lc rgb '#555555'
    set grid ytics lc rgb '#dddddd' lw 1
    set logscale xy; set lmargin 8; set rmargin 1
    set yrange [low / 1.25:top * 1.25]
    unset key
}
