# Tokens per second: a group for each number of CPU threads, a bar for each cache geometry, lines
# for strategies that depend on neither (the layout of Fig. 5 of arXiv 2512.16473). Beside each
# group: the published best and the range of its predictions (from compare-fig5.tsv in the folder of
# the data).
width = 800
load plots.'/style.gp'
compare = system(sprintf("dirname '%s'", tsv)).'/compare-fig5.tsv'
run(program) = system(substr(awk(program), 3, strlen(awk(program))))
# If there are several traces, the middle one is drawn.
head = "/^#/{next} !n{for(i=1;i<=NF;i++)c[$i]=i;n=1;next} $c[\"status\"]!=\"ok\"{next} "
middle = run("{t=(\"trace\" in c)?$c[\"trace\"]:\"\"; if($c[\"strategy\"]==\"collab\" && !(t in T)){T[t]=1;ts[++nt]=t}} END{print ts[int((nt+1)/2)]}")
here = "(!(\"trace\" in c) || $c[\"trace\"]==\"".middle."\")"
bars = "$c[\"strategy\"]==\"collab\" && ".here."{t=$c[\"threads\"]; g=$c[\"geometry\"]; if (g==\"none\") g=\"CPU only\"; if(!(t in T)){T[t]=1;ts[++nt]=t} if(!(g in G)){G[g]=1;gs[++ng]=g} v[t,g]=$c[\"tokens_per_s\"]} END{printf \"threads\"; for(j=1;j<=ng;j++) printf \"\\t%s\",(length(gs[j])>20?substr(gs[j],1,19) \"…\":gs[j]); print \"\"; for(i=1;i<=nt;i++){printf \"%s\",ts[i]; for(j=1;j<=ng;j++) printf \"\\t%s\",v[ts[i],gs[j]]; print \"\"}}"
shape = system(substr(awk(bars), 3, strlen(awk(bars)))." | awk -F'\t' 'NR==1{n=NF-1; for(i=2;i<=NF;i++) if($i==\"CPU only\") at=i-1} END{print n+0, NR-1, at+0}'")
n_bars = word(shape, 1) + 0
n_groups = word(shape, 2) + 0
cpu_bar = word(shape, 3) + 0
n_names = n_bars + 4
eval bars_layout
speed(strategy) = run("$c[\"strategy\"]==\"".strategy."\"{if($c[\"tokens_per_s\"]>m) m=$c[\"tokens_per_s\"]} END{if(m) print m}")
fiddler = awk("$c[\"strategy\"]==\"fiddler\"{print k++ \"\\t\" $c[\"tokens_per_s\"]}")
model = run("{split($c[\"model\"],p,\"-\"); print p[1]; exit}")
best = sprintf("< awk -F'\\t' '/^#/{next} !n{for(i=1;i<=NF;i++)c[$i]=i;n=1;next} $c[\"id\"]~/^fig5\\.%s\\.best\\./{d=$c[\"id\"]; if(!(d in k)){k[d]=m++; p[d]=$c[\"published\"]; a[d]=b[d]=$c[\"obtained\"]} o=$c[\"obtained\"]; if(o<a[d])a[d]=o; if(o>b[d])b[d]=o} END{for(d in k) print k[d] \"\\t\" p[d] \"\\t\" a[d] \"\\t\" b[d]}' '%s'", model, compare)
has_best = system(sprintf("test -s '%s' && echo 1 || echo 0", compare)) + 0
has_fiddler = strlen(run("$c[\"strategy\"]==\"fiddler\"{print 1; exit}")) > 0
strategies = 'on-demand pre-gated-ideal'
said = "'on demand' 'Pre-gated (ideal)'"
set datafile separator tab
set style data histograms
set style histogram clustered gap 3
set boxwidth 0.95
set ylabel 'decode throughput (tokens/s)'
set xlabel 'CPU threads for experts'
set key at screen 0.53, screen 0.01 bottom center horizontal maxcols per_row samplen 1.5 width -3 font ',11' title 'bars: indexes x ways' noenhanced
set yrange [0:*]
side(i) = i + 0.43
none = awk("END{print \"nan\\tnan\\tnan\\tnan\"}")
rule = has_fiddler ? fiddler : none
pub = has_best ? best : none
level(i) = strlen(speed(word(strategies, i))) ? speed(word(strategies, i)) + 0 : NaN
level_said(i) = strlen(speed(word(strategies, i))) ? word(said, i) : ''
level_1 = level(1)
level_2 = level(2)
said_1 = level_said(1)
said_2 = level_said(2)
do for [form in forms] {
    eval begin(form)
    small = form eq 'svg' ? 0.6 : 1 # SVG draws points larger
    plot for [i = 1:n_bars] awk(bars) using i + 1:xtic(1) title columnhead(i + 1) lc rgb bar_colour(i) fs solid bar_fill(i), \
        level_1 with lines lw 2 dt 2 lc rgb '#000000' title said_1, \
        level_2 with lines lw 2 dt 3 lc rgb '#000000' title said_2, \
        rule using (column(1) - 0.41):2 with points pt 9 ps 1.2 * small lc rgb '#D55E00' title (has_fiddler ? 'Fiddler (its rule)' : ''), \
        pub using (side(column(1))):2:3:4 with yerrorbars pt 13 ps 1.5 * small lw 2 lc rgb '#000000' title (has_best ? 'published, predicted range' : '')
    eval done
}
