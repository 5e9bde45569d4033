#!/usr/bin/env bash
# Banned functions and words, each with the reason. $1: root of the tree.
set -euo pipefail
cd "${1:-.}"
rc=0
except=()

# ban REASON REGEX FOLDER...: fails if a source file of these folders matches.
ban() {
    local reason=$1 regex=$2 d present=()
    shift 2
    for d in "$@"; do
        [[ ! -d $d ]] || present+=("$d")
    done
    ((${#present[@]} > 0)) || return 0
    if grep -rnE --include='*.[ch]' --include='*.cc' --include='*.cu' --include='*.cuh' \
        "${except[@]/#/--exclude=}" \
        "$regex" "${present[@]}"; then
        echo "^ $reason"
        rc=1
    fi
}

all=(base traces policies sim exec cli tests)
library=(base traces policies sim exec)
call='(^|[^A-Za-z0-9_.>])'

ban "writes without a bound: use snprintf" \
    "$call(strcpy|strcat|stpcpy|sprintf|vsprintf|gets) ?\(" "${all[@]}"
ban "loses errors and overflow: use base/units.h" \
    "$call(atoi|atol|atoll|atof) ?\(" "${library[@]}" cli
ban "hidden or process-wide state" \
    "$call(strtok|s?rand|random|drand48|tmpnam|mktemp|asctime|localtime|gmtime) ?\(" "${all[@]}"
ban "unbounded stack" "$call(alloca|__builtin_alloca) ?\(" "${all[@]}"
ban "runs a shell with text from outside" "$call(system|popen) ?\(" "${library[@]}"
except=(team_launch.c) # a launcher like mpirun makes itself known only there
ban "no switches through the environment" "$call(getenv|secure_getenv) ?\(" "${library[@]}" cli
# their handlers of a second SIGINT and of SIGBUS end the process
except=(progress.c mapped_files.c)
ban "libraries never exit or abort" "$call(exit|_exit|_Exit|abort|quick_exit) ?\(" "${library[@]}"
except=()
ban "libraries never print (base/progress.h logs)" \
    "$call(printf|vprintf|puts|putchar|perror) ?\(|${call}stdout|${call}stderr" \
    traces policies sim exec
ban "unfinished: finish it or write an issue" '\b(TODO|FIXME|XXX)\b' "${all[@]}"
ban "a path of one person's machine" "\"/(home|root|work|Users|mnt)/" "${all[@]}"

# What counts the failures of a script's checks is its last line.
for script in tests/cli/*.sh tests/fault/*.sh; do
    if [[ -e $script && $(tail -n 1 "$script") != finish ]]; then
        echo "$script: without 'finish' as its last line it passes whatever its checks find"
        rc=1
    fi
done
exit "$rc"
