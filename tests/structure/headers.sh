#!/usr/bin/env bash
# Every header compiles by itself. $1: root of the tree; $2: C compiler and its flags.
set -euo pipefail
cd "${1:-.}"
read -ra compile <<<"${2:-cc}"
# Left out: the headers that stand for CUDA's, which are C++ like those; the tests compile them.
mapfile -t headers < <(find base traces policies sim exec cli tests -name '*.h' \
    ! -path 'tests/cuda/cuda_[efr]*.h' ! -path 'tests/cuda/emulation_state.h' 2>/dev/null |
    LC_ALL=C sort)
if ((${#headers[@]} == 0)); then
    echo "no headers found"
    exit 1
fi
"${compile[@]}" -std=gnu17 -I. -Wall -Wextra -Werror -fsyntax-only -x c "${headers[@]}"
