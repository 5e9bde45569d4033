#!/usr/bin/env bash
# docs/policies.md is what `moelab list docs` prints; it and docs/names.md have every name that
# `moelab list` has.
. tests/cli/lib/check.bash

"$moelab" list docs >"$folder/policies.md"
holds "docs/policies.md is old: moelab list docs > docs/policies.md" \
    cmp docs/policies.md "$folder/policies.md"
for kind in policies admissions prefetchers reroutes; do
    for name in $("$moelab" list $kind | awk 'NR > 1 && /^  [a-z]/ { print $1 }'); do
        holds "$kind $name is not in docs/policies.md" grep -q "^### \`$name\`$" docs/policies.md
        holds "$kind $name is not in docs/names.md" grep -qF "\`$name\`" docs/names.md
    done
done
for kind in models platforms; do
    for name in $("$moelab" list $kind | awk 'NR > 1 && /^  [a-z]/ { print $1 }'); do
        holds "$kind $name is not in docs/names.md" grep -qF "\`$name\`" docs/names.md
    done
done
finish
