#!/usr/bin/env bash
# Who may include whom, and which library's headers are allowed where. $1: root of the tree.
# shellcheck disable=SC2016 # the quoted text is awk's, not the shell's
set -euo pipefail
cd "${1:-.}"
folders=()
for d in base traces policies sim exec cli tests; do
    [[ ! -d $d ]] || folders+=("$d")
done
find "${folders[@]}" -type f \( -name '*.[ch]' -o -name '*.cc' -o -name '*.cu' -o -name '*.cuh' \) \
    -print0 |
    LC_ALL=C sort -z | xargs -0 awk '
BEGIN {
    may["base"] = " base "
    may["traces"] = " base traces "
    may["policies"] = " base traces policies "
    may["sim"] = " base traces policies sim "
    may["exec"] = " base traces policies exec "
    may["cli"] = " base traces policies sim exec cli "
    may["tests"] = " base traces policies sim exec cli tests "
    # A header of a library, and the files that may include it.
    n = split("hdf5 yaml jansson omp check cuda mpi zlib sentencepiece", libraries, " ")
    header["hdf5"] = "^(hdf5|H5[A-Za-z]*)\\.h$"
    where["hdf5"] = "^(traces/hdf5_[a-z0-9_]*\\.[ch]|tests/.*)$"
    header["yaml"] = "^yaml\\.h$"
    where["yaml"] = "^base/.*\\.c$"
    header["jansson"] = "^jansson\\.h$"
    where["jansson"] = "^(traces|exec|tests)/.*\\.[ch]$"
    header["omp"] = "^omp\\.h$"
    where["omp"] = "^(policies|sim|exec|tests)/.*\\.c$"
    header["check"] = "^check\\.h$"
    where["check"] = "^tests/(unit|cuda)/.*\\.[ch]$"
    header["cuda"] = "^(cuda|cublas|nvml|cufft|curand|nvtx)[A-Za-z0-9_\\/]*\\.(h|cuh)$"
    where["cuda"] = "^(exec/cuda/.*\\.(cu|cuh)|tests/cuda/.*)$"
    header["mpi"] = "^mpi\\.h$"
    where["mpi"] = "^sim/team_mpi\\.c$"
    header["zlib"] = "^zlib\\.h$"
    header["sentencepiece"] = "^sentencepiece_.*\\.h$"
    where["sentencepiece"] = "^exec/sentencepiece\\.cc$"
    where["zlib"] = "^traces/zip\\.c$"
}
function fail(why) { print FILENAME ":" FNR ": " why; bad = 1 }
FNR == 1 { folder = FILENAME; sub(/\/.*/, "", folder) }
/^[ \t]*#[ \t]*include[ \t]*"/ {
    split($0, part, "\"")
    path = part[2]
    target = path
    if (folder == "tests" && path !~ /\//)
        next # a helper in the folder of the test
    if (path ~ /\.\./ || !sub(/\/.*/, "", target)) {
        fail("\"" path "\" is not written as \"folder/file.h\" from the root")
        next
    }
    if (index(may[folder], " " target " ") == 0)
        fail(folder " may not include \"" path "\"")
}
/^[ \t]*#[ \t]*include[ \t]*</ {
    path = $0
    sub(/^[^<]*</, "", path)
    sub(/>.*/, "", path)
    for (i = 1; i <= n; i++)
        if (path ~ header[libraries[i]] && FILENAME !~ where[libraries[i]])
            fail("<" path "> belongs to other files (" libraries[i] ")")
}
END { exit bad }
'
