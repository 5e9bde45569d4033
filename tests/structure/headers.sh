#!/usr/bin/env bash
# Every header compiles alone. $1: root of the tree; $2: C compiler and its flags.
set -euo pipefail
cd "${1:-.}"
read -ra compile <<<"${2:-cc}"
mapfile -t headers < <(find base traces policies sim exec cli tests -name '*.h' 2>/dev/null |
    LC_ALL=C sort)
if ((${#headers[@]} == 0)); then
    echo "no headers found"
    exit 1
fi
"${compile[@]}" -std=gnu17 -I. -Wall -Wextra -Werror -fsyntax-only -x c "${headers[@]}"
