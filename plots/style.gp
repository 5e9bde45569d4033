# One style for every plot: Okabe-Ito colours (distinguishable by colour-blind readers), units on
# the axes, legible at column width. A script draws inside three passes: SVG, PNG and PDF.
#     load plots.'/style.gp'
#     do for [form in forms] { eval begin(form); plot ...; eval done }
forms = 'svg png pdf'
width = exists('width') ? width : 900
height = exists('height') ? height : 480
set encoding utf8
# A PDF is as wide as the text of a page; its fonts are scaled from those of the PNG.
begin(form) = form eq 'pdf' ? \
    sprintf("set terminal pdfcairo size %f,%f font 'DejaVu Sans,11' background rgb 'white'; set output '%s.pdf'", width / 100.0, height / 100.0, out) : \
    form eq 'svg' ? \
    sprintf("set terminal svg size %d,%d font 'DejaVu Sans,14' background rgb 'white'; set output '%s.svg'", width, height, out) : \
    sprintf("set terminal pngcairo size %d,%d font 'DejaVu Sans,12' background rgb 'white'; set output '%s.png'", width, height, out)
done = 'unset output'

colour(i) = word('#0072B2 #E69F00 #009E73 #CC79A7 #56B4E9 #D55E00 #F0E442 #999999 #000000', (i - 1) % 9 + 1)
grey = '#777777'
set grid ytics lt 1 lc rgb '#dddddd' lw 1
set border 3 lc rgb '#555555'
set tics nomirror out textcolor rgb '#333333'
set key outside right top vertical samplen 2 spacing 1.15 textcolor rgb '#333333'
set style fill solid 0.9 noborder

# Awk programs that read the TSV by column name; the first line without '#' holds the names.
head = "/^#/{next} !n{for(i=1;i<=NF;i++)c[$i]=i;n=1;next} $c[\"status\"]!=\"ok\"{next} "
awk(program) = sprintf("< awk -F'\\t' '%s%s' '%s'", head, program, tsv)
# 1 if some row of the file is of a synthetic trace; plots then say so.
synthetic = system(sprintf("grep -q '^# synthetic: yes' '%s' && echo 1 || echo 0", tsv)) + 0
# 1 if the file may contain lossy results; plots then say so.
lossy = system(sprintf("grep -q '^# lossy: yes' '%s' && echo 1 || echo 0", tsv)) + 0

# Makes a title fit: with smaller letters, then by leaving out its end.
fitting(text, size) = strlen(text) * size <= 1.25 * width ? size : strlen(text) * 9 >= 1.25 * width ? 9 : int(1.25 * width / strlen(text))
cut(text, most) = strlen(text) <= most ? text : substr(text, 1, most - 1).'…'
title_font(text, size) = sprintf(',%d', fitting(text, size))
title_text(text) = cut(text, int(1.25 * width / 9))
# One title over several panels; the mark of synthetic routing is never cut off.
over_panels(mark) = mark ? cut(title, int(1.25 * width / 9) - 20).' (SYNTHETIC routing)' : title_text(title)
set title title_text(title) noenhanced font title_font(title, 15) offset 0,0.3
if (!strlen(title)) set tmargin 2.5 # room for the marks above a plot
if (lossy) set label 901 'some strategies are LOSSY' at graph 0, graph 1 offset 0, 0.7 left font ',11' textcolor rgb '#D55E00' noenhanced
if (synthetic) set label 900 'SYNTHETIC routing' at graph 1, graph 1 offset 0, 0.7 right font ',11' textcolor rgb '#D55E00' noenhanced

# Groups of bars: a plot as wide as they need, a key below with as many rows as its names need, and
# colours that are repeated in lighter shades. The script sets n_bars, n_groups, n_names (all names
# in the key) and cpu_bar, the number of the grey bar (0: none).
shade(k) = k <= 9 ? 0.9 : k <= 18 ? 0.45 : 0.2
bar_rank(k) = cpu_bar && k > cpu_bar ? k - 1 : k
bar_colour(k) = k == cpu_bar ? grey : colour(bar_rank(k))
bar_fill(k) = k == cpu_bar ? 0.9 : shade(bar_rank(k))
bars_layout = "width = n_groups * (n_bars + 3) * 5 + 110; width = width < 800 ? 800 : width > 2400 ? 2400 : width; per_row = int(width / 260); key_rows = (n_names + per_row - 1) / per_row; height = 472 + 24 * key_rows; set bmargin 5.1 + 1.2 * key_rows"
