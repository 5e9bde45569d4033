#!/usr/bin/env bash
# FILES.md names every file once, and no others. $1: root of the tree.
# A line of the map is "- `path` - what it is"; a path that ends in "/" stands for the whole folder.
set -euo pipefail
cd "${1:-.}"
folders=(.ci base cmake cli docs exec experiments plots policies sim tests traces)

# Tracked files; in an unpacked archive without git, all files.
list() {
    if [[ -e .git ]] && git ls-files -- "${folders[@]}" 2>/dev/null; then
        return
    fi
    local d
    for d in "${folders[@]}"; do
        [[ ! -d $d ]] || find "$d" -type f
    done
}

if [[ ! -f FILES.md ]]; then
    echo "FILES.md is missing"
    exit 1
fi
# shellcheck disable=SC2016 # the quoted text is awk's, not the shell's
list | LC_ALL=C sort | awk '
NR == FNR {
    if (!/^- `/)
        next
    split($0, part, "`")
    path = part[2]
    if (!/^- `[^`]+` - .../)
        fail(path, "has no \" - what it is\"")
    if (path in mapped)
        fail(path, "is named twice")
    mapped[path] = 0
    next
}
{
    found = ""
    for (path = $0; path != ""; sub(/\/*[^\/]*\/?$/, "", path)) {
        key = path == $0 ? path : path "/"
        if (key in mapped) {
            if (found != "")
                fail($0, "is named, and so is its folder " key)
            found = key
            mapped[key]++
        }
    }
    if (found == "" && system("test -e \"" $0 "\"") == 0)
        fail($0, "is not in FILES.md; add a line \"- `path` - what it is\"")
}
function fail(path, why) { print path " " why; bad = 1 }
END {
    for (path in mapped)
        if (mapped[path] == 0)
            fail(path, "is in FILES.md, but no such file is tracked")
    exit bad
}
' FILES.md -
