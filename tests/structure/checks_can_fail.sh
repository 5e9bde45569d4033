#!/usr/bin/env bash
# Breaks each rule once in a small tree made here and expects its check to fail; the tree without
# the fault has to pass.
# $1: root of the tree; $2: compile command.
# shellcheck disable=SC2016 # backquotes are part of the file map
set -euo pipefail
checks=$(cd "${1:-.}" && pwd)/tests/structure
tree=$(mktemp -d "${TMPDIR:-/tmp}/moelab.structure.XXXXXX")
trap 'rm -rf "$tree"' EXIT
rc=0

plant() { # makes a tree that keeps every rule
    rm -rf "${tree:?}"/*
    mkdir -p "$tree"/{base,traces,policies,sim,exec/cuda,plots,tests/cli}
    printf 'struct a {\n    int x;\n};\n' >"$tree/base/a.h"
    printf '#include "base/a.h"\n\n#include <hdf5.h>\n' >"$tree/traces/hdf5_a.c"
    printf '#include <cuda_runtime.h>\n' >"$tree/exec/cuda/a.cu"
    printf 'text\n\n- `base/` - ground floor\n- `traces/hdf5_a.c` - HDF5\n' >"$tree/FILES.md"
    printf -- '- `exec/cuda/a.cu` - device\n- `sim/a.c` - machine\n' >>"$tree/FILES.md"
    printf '#include "base/a.h"\n\nint f(void)\n{\n    return 1;\n}\n' >"$tree/sim/a.c"
}

# breaks CHECK FILE TEXT: appends TEXT (printf's format) to FILE; CHECK must then fail and name
# FILE.
breaks() {
    local output
    plant
    # shellcheck disable=SC2059
    printf -- "$3" >>"$tree/$2"
    if output=$(bash "$checks/$1.sh" "$tree" "$compile" 2>&1); then
        echo "$1.sh passes although $2 has: $3"
        rc=1
    elif [[ $output != *"$2"* && $1 != filemap ]]; then
        echo "$1.sh fails without naming $2: $output"
        rc=1
    fi
}

compile=${2:-cc}
plant
for check in includes headers sizes banned plots filemap; do
    if ! bash "$checks/$check.sh" "$tree" "$compile"; then
        echo "$check.sh fails on a tree that keeps every rule"
        rc=1
    fi
done

breaks includes base/a.h '#include "traces/b.h"\n'
breaks includes sim/a.c '#include "exec/device.h"\n'
breaks includes exec/x.c '#include "sim/replay.h"\n'
breaks includes sim/a.c '#include "../base/a.h"\n'
breaks includes sim/a.c '  #  include "local.h"\n'
breaks includes traces/csv.c '#include <hdf5.h>\n'
breaks includes exec/device.c '#include <cuda_runtime.h>\n'
breaks includes sim/a.c '#include <jansson.h>\n'
breaks includes traces/a.c '#include <yaml.h>\n'
breaks includes traces/a.c '#include <omp.h>\n'
breaks headers base/b.h 'size_t size(void);\n'
breaks headers base/b.h '#include "base/absent.h"\n'
breaks banned tests/cli/a.sh 'expect 0 "" true\n'
breaks sizes base/b.c "$(printf '\\n%.0s' {1..601})"
breaks sizes base/b.c "$(printf 'x%.0s' {1..101})\n"
breaks sizes base/b.c "void f(void)\n{\n$(printf '    f();\\n%.0s' {1..79})}\n"
breaks sizes base/b.c '\tint x;\n'
breaks sizes base/b.c 'int x; \n'
breaks banned base/b.c '    strcpy(a, b);\n'
breaks banned base/b.c '    n = atoi(text);\n'
breaks banned sim/b.c '    if (getenv("FAST"))\n'
breaks banned sim/b.c '    exit(1);\n'
breaks banned base/b.c '    exit(1);\n'
breaks banned traces/b.c '    printf("x");\n'
breaks banned policies/b.c '    fprintf(stderr, "x");\n'
breaks banned sim/b.c '    p = alloca(n);\n'
breaks banned sim/b.c '/* TODO: more */\n'
breaks plots plots/a.gp "load plots.'/style.gp'\nset label 900 ''\n"
breaks plots plots/a.gp "load plots.'/style.gp'\nplot '-'\n"
breaks plots plots/a.gp 'plot tsv\n'
breaks filemap sim/b.c 'int x;\n'
breaks filemap FILES.md '- `sim/gone.c` - went away\n'
breaks filemap FILES.md '- `sim/a.c` - a second time\n'
breaks filemap FILES.md '- `base/a.h` - its folder has a line\n'
breaks filemap FILES.md '- `sim/a.c`\n'

((rc > 0)) || echo "every rule was broken and found broken"
exit "$rc"
