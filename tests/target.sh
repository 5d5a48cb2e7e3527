#!/bin/sh
# Prints the target to build for. Talk goes to stderr.
set -u

wanted="$(uname -m)-unknown-linux-musl"
has() { [ -d "$(rustc --print sysroot)/lib/rustlib/$wanted/lib" ]; }

if ! command -v rustc >/dev/null 2>&1; then
    echo 'rustc was not found: install Rust from https://rustup.rs' >&2
    echo "$wanted"
    exit 1
fi
if ! has && command -v rustup >/dev/null 2>&1; then
    echo "adding the target $wanted" >&2
    rustup target add "$wanted" >&2
fi
if has; then
    echo "$wanted"
else
    own="$(rustc -vV | sed -n 's/^host: //p')"
    echo "note: no target $wanted here, so the program is built for $own and is not static" >&2
    echo "$own"
fi
