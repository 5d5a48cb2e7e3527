#!/usr/bin/env bash
# Every check and every test that this host can run, as the caller and, when the caller is root, as
# an ordinary user too. Ends with what could not run and why, and one line of counts. Fails when
# anything failed.
set -uo pipefail
cd "$(dirname "$0")/.."
export LC_ALL=C.UTF-8

target="${TARGET:-$(sh tests/target.sh)}"
user=tripmine-test
work="$(mktemp -d)"
chmod 0755 "$work"
trap 'rm -rf "$work"' EXIT
passed=0 failed=0 me="$(id -un)" other_user=
skipped=() broken=() unsteady=()

say() { printf '\n== %s\n' "$*"; }
skip() { skipped+=("$1: $2"); }

# check NAME COMMAND…: one check, counted as one test.
check() {
    local name="$1"
    shift
    say "$name"
    if "$@"; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
        broken+=("$name")
    fi
}

# count LABEL LOG CODE: adds up what the test programs in LOG said. A test that printed
# `SKIPPED name: why` passed for its harness, and is counted here as skipped, once.
count() {
    local label="$1" log="$2" code="$3" kind text ok=0 bad=0 not=0
    while IFS=$'\t' read -r kind text; do
        case "$kind" in
            ok) ok=$((ok + text)) ;;
            bad) bad=$((bad + text)) ;;
            failed) broken+=("$label: $text") ;;
            skipped) skip "$label" "$text"; not=$((not + 1)) ;;
        esac
    done < <(awk '
        function flush() { if (why != "") print "skipped\t" why; why = "" }
        /^test result: / {
            flush(); part = ""
            for (i = 1; i < NF; i++) {
                if ($(i + 1) == "passed;") print "ok\t" $i
                if ($(i + 1) == "failed;") print "bad\t" $i
            }
            next
        }
        /^test .* \.\.\. FAILED$/ { print "failed\t" $2 }
        /^successes:$/ { part = "good"; next }
        /^failures:$/ { flush(); part = "bad"; next }
        /^---- .* stdout ----$/ { flush(); next }
        match($0, /SKIPPED [^:]+: ./) && part != "bad" {
            line = substr($0, RSTART + 8)
            if (part == "") { flush(); why = line; flush() }
            else why = why == "" ? line : why "; " line
        }
        END { flush() }' "$log")
    # A program that died says nothing of the tests it did not reach.
    if [ "$code" -ne 0 ] && [ "$bad" -eq 0 ]; then
        bad=1
        broken+=("$label: ended with code $code")
    fi
    passed=$((passed + ok - not))
    failed=$((failed + bad))
}

# tests LABEL COMMAND…: runs a test program, shows what it says and counts it. The few that failed run once more, alone:
# what then passes met a busy host or a race of its own, and is named at the end, never passed in silence.
tests() {
    local label="$1" log="$work/log" code name entry kept
    local -a again
    shift
    timeout --kill-after=10 900 "$@" --show-output 2>&1 | tee "$log"
    code="${PIPESTATUS[0]}"
    [ "$code" -ne 124 ] || echo "$label: stopped after 15 minutes"
    count "$label" "$log" "$code"
    mapfile -t again < <(sed -n 's/^test \(.*\) \.\.\. FAILED$/\1/p' "$log")
    [ "${#again[@]}" -le 5 ] || return 0
    for name in "${again[@]}"; do
        say "$label: $name once more"
        timeout --kill-after=10 300 "$@" --show-output --test-threads=1 --exact "$name" || continue
        passed=$((passed + 1))
        failed=$((failed - 1))
        unsteady+=("$label: $name")
        kept=()
        for entry in "${broken[@]}"; do [ "$entry" = "$label: $name" ] || kept+=("$entry"); done
        broken=("${kept[@]}")
    done
}

as_root() {
    if [ "$(id -u)" -eq 0 ]; then "$@"; else sudo -n "$@"; fi
}

# What the tests use besides the program itself.
install_tools() {
    local tool lacking=() packages=()
    for tool in uidmap:newuidmap tmux:tmux util-linux:setpriv strace:strace procps:ps python3:python3 curl:curl git:git microsocks:microsocks \
        tor:tor dante-server:danted iproute2:ip skopeo:skopeo umoci:umoci podman:podman docker-registry:docker-registry mmdebstrap:mmdebstrap \
        qemu-system-x86:qemu-system-x86_64; do
        command -v "${tool#*:}" >/dev/null || lacking+=("$tool")
    done
    [ "${#lacking[@]}" -gt 0 ] || return 0
    packages=("${lacking[@]%%:*}")
    if command -v apt-get >/dev/null && as_root true 2>/dev/null; then
        say "installing ${packages[*]}"
        export DEBIAN_FRONTEND=noninteractive
        as_root apt-get install -y -qq --no-install-recommends "${packages[@]}" >/dev/null 2>&1 ||
            { as_root apt-get update -qq && as_root apt-get install -y -qq --no-install-recommends "${packages[@]}"; } >/dev/null 2>&1
    fi
    for tool in "${lacking[@]}"; do
        command -v "${tool#*:}" >/dev/null || skip 'package' "${tool%%:*} could not be installed, so what needs ${tool#*:} is left out"
    done
    return 0
}

# A guest's kernel for the microvm tests: a distribution's package, unpacked and not installed.
guest_kernel() {
    local package
    if [ -z "${TRIPMINE_TEST_KERNEL:-}" ]; then
        command -v apt-get >/dev/null && command -v dpkg >/dev/null && [ "$(uname -m)" = x86_64 ] || return 1
        package="$(apt-cache depends linux-image-cloud-amd64 2>/dev/null | awk '/Depends: linux-image/ { print $2; exit }')"
        [ -n "$package" ] || return 1
        mkdir -p "$work/kernel" && (cd "$work/kernel" && apt-get download -qq "$package" >/dev/null 2>&1 && dpkg -x ./*.deb .) || return 1
        rm -f "$work"/kernel/*.deb
        chmod -R a+rX "$work/kernel"
        TRIPMINE_TEST_KERNEL="$work/kernel"
    fi
    export TRIPMINE_TEST_KERNEL
}

# A VMM and a share daemon that can save a machine, where the host's are older: the next Debian's packages, unpacked and not
# installed. None of them becomes the host's.
guest_engine() {
    local state="$work/apt" engine="$work/engine" key version
    if [ -z "${TRIPMINE_TEST_ENGINE:-}" ]; then
        version="$(qemu-system-x86_64 --version 2>/dev/null | awk 'NR == 1 { print $4 }')"
        [ -n "$version" ] && [ "$(printf '8.2\n%s\n' "$version" | sort -V | head -n 1)" = 8.2 ] &&
            [ -x /usr/libexec/virtiofsd ] && return 0
        command -v apt-get >/dev/null && command -v dpkg >/dev/null && [ "$(uname -m)" = x86_64 ] || return 1
        for key in /usr/share/keyrings/debian-archive-trixie-automatic.gpg /usr/share/keyrings/debian-archive-keyring.gpg; do
            [ ! -r "$key" ] || break
        done
        [ -r "$key" ] || return 1
        mkdir -p "$state/lists/partial" "$state/archives/partial" "$engine"
        : > "$state/status"
        echo "deb [signed-by=$key] http://deb.debian.org/debian trixie main" > "$state/sources.list"
        # "apt-get" reads nothing of the host's own state and writes nothing there.
        cat > "$state/options" <<END
Dir::State "$state"; Dir::State::lists "$state/lists"; Dir::State::status "$state/status"; Dir::Cache "$state";
Dir::Etc::sourcelist "$state/sources.list"; Dir::Etc::sourceparts "/dev/null"; Dir::Etc::preferencesparts "/dev/null";
APT::Architecture "amd64"; APT::Install-Recommends "false"; APT::Sandbox::User "";
END
        APT_CONFIG="$state/options" timeout 300 apt-get -qq update >/dev/null 2>&1 &&
            APT_CONFIG="$state/options" timeout 300 apt-get -qq -y --download-only install qemu-system-x86 virtiofsd >/dev/null 2>&1 ||
            return 1
        for key in "$state"/archives/*.deb; do dpkg -x "$key" "$engine" || return 1; done
        rm -rf "$state"
        chmod -R a+rX "$engine"
        TRIPMINE_TEST_ENGINE="$engine"
    fi
    export TRIPMINE_TEST_ENGINE
}

# component NAME COMMAND: true when cargo has it, or gets it now.
component() {
    "cargo" "$2" --version >/dev/null 2>&1 || { rustup component add "$1" >/dev/null 2>&1 && cargo "$2" --version >/dev/null 2>&1; }
}

# The ordinary user, with a range of subordinate ids where the system knows such.
make_user() {
    local file start
    id "$user" >/dev/null 2>&1 || useradd --create-home --shell /bin/sh "$user" || return 1
    command -v newuidmap >/dev/null || return 0
    for file in subuid subgid; do
        grep -qs "^$user:" "/etc/$file" && continue
        start="$(awk -F: 'BEGIN { top = 100000 } $2 + $3 > top { top = $2 + $3 } END { print top }' "/etc/$file" 2>/dev/null)"
        start="${start:-100000}"
        usermod "--add-${file}s" "$start-$((start + 65535))" "$user" || return 1
    done
}

# A Debian root for the tests of images: the real thing, made once, in about a minute. Only root can make it in any
# container; without it those tests are skipped, and say so.
make_debian() {
    [ -z "${TRIPMINE_TEST_DEBIAN:-}" ] && [ "$(id -u)" -eq 0 ] && command -v mmdebstrap >/dev/null || return 0
    say 'bootstrapping a Debian root'
    if timeout 300 mmdebstrap --quiet --variant=apt bookworm "$work/debian.tar" >/dev/null 2>"$work/log"; then
        chmod 0644 "$work/debian.tar"
        export TRIPMINE_TEST_DEBIAN="$work/debian.tar"
    else
        skip 'debian root' "mmdebstrap could not make one: $(tail -n 1 "$work/log")"
    fi
}

# The test programs listed in $work/programs as that user, with the program under test $1, all from a folder that it can read.
tests_as_user() {
    local home program name
    home="$(getent passwd "$user" | cut -d: -f6)"
    install -d -o "$user" -g "$(id -g "$user")" -m 0700 "$home/.run"
    cp "$1" "$work/tripmine"
    while read -r program <&3; do
        name="$(basename "$program")"
        name="${name%-*}"
        # It reads the tree, whoever runs it, and this user need not be able to.
        [ "$name" != tidy ] || continue
        cp "$program" "$work/$name.test"
        say "$name as $user"
        tests "$name as $user" env -i --chdir="$home" \
            setpriv --reuid="$user" --regid="$(id -g "$user")" --init-groups --inh-caps=-all \
            env HOME="$home" USER="$user" LOGNAME="$user" SHELL=/bin/sh LANG=C.UTF-8 TERM=xterm-256color \
            PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin \
            XDG_CONFIG_HOME="$home/.config" XDG_DATA_HOME="$home/.local/share" \
            XDG_STATE_HOME="$home/.local/state" XDG_CACHE_HOME="$home/.cache" XDG_RUNTIME_DIR="$home/.run" \
            ${TRIPMINE_TEST_KERNEL:+TRIPMINE_TEST_KERNEL="$TRIPMINE_TEST_KERNEL"} \
            ${TRIPMINE_TEST_ENGINE:+TRIPMINE_TEST_ENGINE="$TRIPMINE_TEST_ENGINE"} \
            TRIPMINE_BIN="$work/tripmine" TRIPMINE_TEST_DEBIAN="${TRIPMINE_TEST_DEBIAN:-}" "$work/$name.test"
    done 3< "$work/programs"
}

command -v cargo >/dev/null || { echo 'cargo was not found: install Rust from https://rustup.rs' >&2; exit 1; }
install_tools
guest_engine || skip 'guest engine' "QEMU 8.2 and virtiofsd 1.13 are not here and could not be fetched, so no microvm is paused"
guest_kernel || skip 'guest kernel' 'linux-image-cloud-amd64 could not be fetched, so no microvm is started'
out="${CARGO_TARGET_DIR:-target}/$target/debug"

if component rustfmt fmt; then check 'format' cargo fmt --check; else skip 'format' 'this Rust has no rustfmt'; fi
if component clippy clippy; then
    check 'lints' cargo clippy --quiet --locked --all-targets --target "$target" -- -D warnings
    check 'lints of the counter-proofs' \
        cargo clippy --quiet --locked --features counterproof --bins --test counter --target "$target" -- -D warnings
else
    skip 'lints' 'this Rust has no clippy'
fi

make_debian
say "building the tests for $target"
if cargo test --locked --target "$target" --no-run --message-format=json > "$work/build"; then
    grep '"test":true},"features"' "$work/build" | sed -n 's/.*"executable":"\([^"]*\)".*/\1/p' > "$work/programs"
    export TRIPMINE_BIN
    TRIPMINE_BIN="$(realpath "$out/tripmine")"
    while read -r program <&3; do
        name="$(basename "$program")"
        say "${name%-*} as $me"
        tests "${name%-*} as $me" "$program"
    done 3< "$work/programs"
    if [ "$(id -u)" -ne 0 ]; then
        skip 'as root' 'the tests ran as an ordinary user only; run `make test` as root to include both'
    elif ! command -v setpriv >/dev/null || ! command -v useradd >/dev/null; then
        skip "as $user" 'an ordinary user cannot be made or become here: setpriv or useradd is missing'
    elif ! make_user; then
        skip "as $user" 'the user could not be made'
    else
        tests_as_user "$out/tripmine"
        other_user=yes
    fi
else
    failed=$((failed + 1))
    broken+=('the tests do not build')
fi

# Counter-proofs: a program from which layers can be taken out, and what is then no longer kept.
say 'building the counter-proofs'
if cargo test --locked --target "$target" --features counterproof --test counter --no-run --message-format=json > "$work/build"; then
    grep '"test":true},"features"' "$work/build" | sed -n 's/.*"executable":"\([^"]*\)".*/\1/p' > "$work/programs"
    cp "$out/tripmine" "$work/weak"
    # The ordinary program back in its place, before anything else: the weak one must not lie about.
    cargo build --locked --quiet --target "$target"
    say "counter-proofs as $me"
    TRIPMINE_BIN="$work/weak"
    tests "counter-proofs as $me" "$(cat "$work/programs")"
    [ -z "$other_user" ] || tests_as_user "$work/weak"
else
    failed=$((failed + 1))
    broken+=('the counter-proofs do not build')
fi

say 'result'
[ "${#skipped[@]}" -eq 0 ] || printf 'skipped  %s\n' "${skipped[@]}"
[ "${#unsteady[@]}" -eq 0 ] || printf 'unsteady %s: failed, and passed alone\n' "${unsteady[@]}"
[ "${#broken[@]}" -eq 0 ] || printf 'failed   %s\n' "${broken[@]}"
printf '%d passed, %d failed, %d skipped\n' "$passed" "$failed" "${#skipped[@]}"
[ "$failed" -eq 0 ]
