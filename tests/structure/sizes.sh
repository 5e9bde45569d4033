#!/usr/bin/env bash
# Files of at most 600 lines, lines of at most 100 bytes, functions of at most 80 lines (kernels,
# CPU and CUDA, 120), no tabs or blanks at line ends. $1: root of the tree.
# shellcheck disable=SC2016 # the quoted text is awk's, not the shell's
set -euo pipefail
cd "${1:-.}"
folders=()
for d in base traces policies sim exec cli tests; do
    [[ ! -d $d ]] || folders+=("$d")
done
# A body begins with "{" and ends with "}" in the first column: that is the format of .clang-format.
find "${folders[@]}" -type f \
    \( -name '*.[ch]' -o -name '*.cc' -o -name '*.cu' -o -name '*.cuh' -o -name '*.sh' \) -print0 |
    LC_ALL=C sort -z | LC_ALL=C xargs -0 awk '
function fail(line, why) { print FILENAME ":" line ": " why; bad = 1 }
FNR == 1 { body = 0; cap = FILENAME ~ /\.cuh?$|\/kernels_/ ? 120 : 80 }
FNR == 601 { fail(FNR, "file longer than 600 lines") }
length($0) > 100 { fail(FNR, "line of " length($0) " bytes, limit 100") }
/\t/ && FILENAME !~ /\.sh$/ { fail(FNR, "tab") }
/[ \t]$/ { fail(FNR, "blank at the end of the line") }
/^{$/ { body = FNR }
/^}/ {
    if (body && FNR - body + 1 > cap)
        fail(body, "function of " FNR - body + 1 " lines, limit " cap)
    body = 0
}
END { exit bad }
'
