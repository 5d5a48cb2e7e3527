#!/usr/bin/env bash
# How long one launch takes from the call to its end: `true` in a cube, COUNT times one after the
# other; beside it bubblewrap, where it is installed, which makes namespaces and mounts and no more.
set -euo pipefail
export LC_ALL=C

bin="$(realpath "${TRIPMINE_BIN:?run it by \`make bench\`}")"
count="${COUNT:-50}"
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
export TRIPMINE_HOME="$folder/home"
mkdir "$folder/project"
cd "$folder/project"

# Microseconds of each run, sorted, then the median and the 95th percentile.
measure() {
    local name="$1" start stop
    shift
    "$@" >/dev/null 2>&1 || { echo "$name: does not run here: $*"; return; }
    for ((i = 0; i < count; i++)); do
        start=${EPOCHREALTIME/./}
        "$@" >/dev/null 2>&1
        stop=${EPOCHREALTIME/./}
        echo $((stop - start))
    done | sort -n | awk -v name="$name" '
        { all[NR] = $1 }
        END { printf "%-28s %6.1f ms median  %6.1f ms 95th of %d\n", name,
              all[int((NR + 1) / 2)] / 1000, all[int(NR * 0.95 + 0.999)] / 1000, NR }'
}

uname -srm
measure 'process alone' "$bin" version
measure 'cube' "$bin" run host -- true
if command -v bwrap >/dev/null; then
    measure 'bwrap --unshare-all' bwrap --unshare-all --ro-bind / / --dev /dev --proc /proc --tmpfs /tmp true
else
    echo 'bwrap: not installed, so nothing to compare with'
fi
