#!/usr/bin/env bash
# When libraries are missing, configuring names them all and what to install. A program that is
# built outside of the source tree, or installed, finds its models and plots from any folder.
. tests/cli/lib/check.bash
if ! command -v cmake >/dev/null; then
    echo "skipped: no cmake"
    exit 77
fi
moelab=$(realpath "$moelab")
command -v make >/dev/null || export CMAKE_GENERATOR=Ninja
configure() { cmake -S . -B "$folder/$1" -DMOELAB_CUDA=OFF -DMOELAB_MPI=OFF "${@:2}" 2>&1; }
out=$(configure none -DCMAKE_DISABLE_FIND_PACKAGE_HDF5=ON -DCMAKE_DISABLE_FIND_PACKAGE_ZLIB=ON)
holds "configured without HDF5" test $? != 0
holds "not both named: $out" grep -q "not found: HDF5, zlib$" <<<"$out"
holds "no packages: $out" grep -q " apt-get install .* libhdf5-dev .* check$" <<<"$out"

outside="$folder/of the sources"
holds "not configured" configure "of the sources" -DMOELAB_TESTS=OFF >/dev/null
cp "$moelab" "$outside/moelab"
runs() { # PROGRAM: started in an empty folder
    cd "$folder" || exit 1
    expect 0 "static-hot" "$1" list strategies
    expect 0 "tokens_per_s" "$1" sim synth:sticky:tokens=8,model=mixtral-8x7b
    cd "$OLDPWD" || exit 1
}
runs "$outside/moelab"
expect 0 "" cmake --install "$(dirname "$moelab")" --prefix "$folder/to here"
runs "$folder/to here/bin/moelab"
finish
