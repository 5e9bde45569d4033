# Helpers of the command-line tests. A test is `bash tests/cli/NAME.sh path/to/moelab [small]`, run
# from the repository root; it prints what failed and exits with 1, or with 77 when it has to be
# skipped. `small`, for sanitizers, runs the same code with fewer cases and compares no speeds.
set -u
export LC_ALL=C.UTF-8 # so that awk reads and writes decimal points
moelab=$1
size=${2:-whole}
folder=$(mktemp -d "${TMPDIR:-/tmp}/moelab-test.XXXXXX")
trap 'rm -rf "$folder"' EXIT
n_passed=0
n_failed=0
shared=../shared/data

passed() { n_passed=$((n_passed + 1)); }
failed() {
    n_failed=$((n_failed + 1))
    echo "FAILED: $*"
}

# expect CODE TEXT COMMAND...: it exits with CODE, and a line of stdout or stderr contains TEXT.
expect() {
    local code=$1 text=$2 got output
    shift 2
    output=$("$@" 2>&1 </dev/null)
    got=$?
    if [ "$got" != "$code" ]; then
        failed "exit $got, expected $code: $* -> $output"
    elif [ -n "$text" ] && ! grep -qF -e "$text" <<<"$output"; then
        failed "no '$text' in: $* -> $output"
    else
        passed
    fi
}

# one_line COMMAND...: prints exactly one line on stderr and nothing on stdout.
one_line() {
    local out err
    out=$("$@" 2>"$folder/stderr" </dev/null)
    err=$(wc -l <"$folder/stderr")
    if [ -z "$out" ] && [ "$err" = 1 ]; then passed; else failed "not one clear line: $* -> $out $(cat "$folder/stderr")"; fi
}

# holds WHAT COMMAND...: the command succeeds; WHAT is printed if not.
holds() {
    local what=$1
    shift
    if "$@"; then passed; else failed "$what"; fi
}

same() { if cmp -s "$1" "$2"; then passed; else failed "$1 and $2 differ"; fi; }
# absent FILE: does not exist; for NAME.part, nor does any NAME.PROCESS.part.
absent() {
    local found
    found=$(compgen -G "${1%.part}.*.part" || true)
    if [ -e "$1" ]; then
        failed "$1 was left behind"
    elif [ "${1%.part}" != "$1" ] && [ -n "$found" ]; then
        failed "$found was left behind"
    else
        passed
    fi
}

# interrupted COMMAND...: after Ctrl-C behind its first text it prints statistics and one line and
# exits with 1; its stderr is kept in int.err. The signal is sent twice, as timeout(1) does, and
# must count once. If the run ended before the signal came, it is tried again.
interrupted() {
    local try pid code
    for try in 1 2 3 4 5 6 7 8; do
        mkfifo "$folder/pipe$try"
        "$@" >"$folder/pipe$try" 2>"$folder/int.err" &
        pid=$!
        {
            read -r -n 1 _ && kill -INT "$pid" "$pid"
            cat >/dev/null
        } <"$folder/pipe$try"
        wait "$pid"
        code=$?
        [ $code = 0 ] || break
    done
    if [ $code = 1 ] && grep -q "ended by: interrupted" "$folder/int.err" &&
        grep -q "interrupted after" "$folder/int.err"; then
        passed
    else
        failed "Ctrl-C: exit $code, $(cat "$folder/int.err")"
    fi
}

skip_without() {
    if [ ! -e "$1" ]; then
        echo "skipped: $1 is not here"
        exit 77
    fi
}

finish() {
    echo "$n_passed passed, $n_failed failed"
    [ "$n_failed" = 0 ] && [ "$n_passed" -gt 0 ]
    exit
}
