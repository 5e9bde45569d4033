# What moelab needs and how it is built: sourced by experiments/demo, tests/run and .ci/run.
# shellcheck shell=bash

# Every package: group, name in Debian and Ubuntu, how to tell that it is installed. (From 0.2.2 on
# SentencePiece's header includes Abseil's, which its package does not depend on.)
setup_packages="
build build-essential  command:cc
build build-essential  command:make
build cmake            command:cmake
build ninja-build      command:ninja
build pkg-config       command:pkg-config
build libhdf5-dev      command:h5cc
build libyaml-dev      library:yaml-0.1
build zlib1g-dev       library:zlib
build libjansson-dev   library:jansson
build libsentencepiece-dev header:sentencepiece_processor.h
build libabsl-dev      header:sentencepiece_processor.h
text  libpcre2-dev     library:libpcre2-8
text  libutf8proc-dev  library:libutf8proc
plot  gnuplot-nox      command:gnuplot
test  check            library:check
test  libopenblas-dev  library:openblas
test  libopenmpi-dev   command:mpicc
test  hdf5-tools       command:h5dump
test  sentencepiece    command:spm_encode
ci    clang            command:clang
ci    clang-format     command:clang-format
ci    clang-tidy       command:clang-tidy
ci    libclang-rt-dev  links:-fsanitize=address,undefined
ci    libomp-dev       links:-fopenmp
ci    lld              command:ld.lld
ci    shellcheck       command:shellcheck
browser chromium       command:chromium
"

setup_say() {
    printf '%s: %s\n' "$(basename "$(dirname "$0")")/$(basename "$0")" "$*"
}

setup_present() {
    local name=${1#*:} rc=0 program
    case $1 in
    command:*) command -v "$name" >/dev/null ;;
    library:*) pkg-config --exists "$name" 2>/dev/null ;;
    header:*) c++ -include "$name" -E -x c++ /dev/null >/dev/null 2>&1 ;;
    links:*)
        program=$(mktemp)
        clang "$name" -x c - -o "$program" 2>/dev/null <<<'int main(void) { return 0; }' || rc=$?
        rm -f "$program"
        return "$rc"
        ;;
    esac
}

# setup_missing GROUP...: prints the packages of these groups that are not installed, one a line.
setup_missing() {
    local group package test
    while read -r group package test; do
        [[ -n $group && " $* " == *" $group "* ]] || continue
        setup_present "$test" || echo "$package"
    done <<<"$setup_packages" | sort -u
}

# setup_install GROUP...: installs what is missing, or says what to install and fails. If nothing is
# missing it uses neither network nor package manager.
setup_install() {
    local missing root=() package known=()
    mapfile -t missing < <(setup_missing "$@")
    ((${#missing[@]} > 0)) || return 0
    if ! command -v apt-get >/dev/null; then
        setup_say "not a Debian or Ubuntu system; please install what these packages hold, then" \
            "run again: ${missing[*]}" >&2
        return 1
    fi
    if ((EUID != 0)); then
        if ! command -v sudo >/dev/null; then
            setup_say "neither root nor sudo; please run as root:" \
                "apt-get install ${missing[*]}" >&2
            return 1
        fi
        root=(sudo)
    fi
    setup_say "installing ${missing[*]}"
    "${root[@]}" apt-get update -qq || setup_say "apt-get update failed; trying all the same" >&2
    for package in "${missing[@]}"; do # older releases keep libclang-rt-dev inside clang
        if [[ $package != libclang-rt-dev || -n $(apt-cache madison "$package" 2>/dev/null) ]]; then
            known+=("$package")
        fi
    done
    "${root[@]}" env DEBIAN_FRONTEND=noninteractive \
        apt-get install -y -qq --no-install-recommends "${known[@]}" >/dev/null
    mapfile -t missing < <(setup_missing "$@")
    if ((${#missing[@]} > 0)); then
        setup_say "still missing after the installation: ${missing[*]}" >&2
        return 1
    fi
}

# setup_install_text: the libraries for byte-level tokenizers, without which all else works.
setup_install_text() {
    setup_install text ||
        setup_say "without PCRE2 and utf8proc the tokenizers of Qwen3 and OLMoE are refused" >&2
}

# setup_configure FOLDER [CMAKE OPTION]...: configures, quietly unless it fails.
setup_configure() {
    local folder=$1 log
    shift
    log=$folder/configure.log
    mkdir -p "$folder"
    if [[ ! -e $folder/CMakeCache.txt ]] && command -v ninja >/dev/null; then
        set -- -G Ninja "$@"
    fi
    if ! cmake -S . -B "$folder" "$@" >"$log" 2>&1; then
        cat "$log" >&2
        setup_say "cannot configure $folder (see above)" >&2
        return 1
    fi
}

# setup_build FOLDER [TARGET]...: builds on all cores, quietly unless it fails.
setup_build() {
    local folder=$1 log target=()
    shift
    log=$folder/build.log
    (($# == 0)) || target=(--target "$@")
    if ! cmake --build "$folder" --parallel "$(nproc)" "${target[@]}" >"$log" 2>&1; then
        tail -n 60 "$log" >&2
        setup_say "cannot build in $folder (whole log: $log)" >&2
        return 1
    fi
}
