#!/bin/bash
# Helpers for the command-line tests: source it, call check NAME COMMAND…, end with plan.
# Each check is one TAP line; the working folder is fresh and empty.
n=0
dir=$(mktemp -d "${TEST_TMP:-/tmp}/cli.XXXXXX")
root=$PWD
: "${BNPROF:=$root/bnprof}" "${MODELS:=}"
cd "$dir" || exit 1

ok() { # NAME
    n=$((n + 1))
    echo "ok $n - $1"
}

not_ok() { # NAME [DETAIL]
    n=$((n + 1))
    echo "not ok $n - $1"
    [ $# -gt 1 ] && printf '%s\n' "$2" | sed 's/^/# /'
}

skip() { # NAME WHY
    n=$((n + 1))
    echo "ok $n - $1 # SKIP $2"
    echo "# skipped: $2"
}

check() { # NAME COMMAND…: passes if the command succeeds
    local name=$1 out
    shift
    if out=$("$@" 2>&1); then ok "$name"; else not_ok "$name" "$* -> $? $out"; fi
}

# fails NAME STATUS PATTERN COMMAND…: exits with STATUS, stderr is one line that matches PATTERN, stdout is empty
fails() {
    local name=$1 want=$2 pattern=$3 status
    shift 3
    "$@" >"$dir/.out" 2>"$dir/.err" </dev/null
    status=$?
    if [ "$status" -ne "$want" ]; then
        not_ok "$name" "status $status, expected $want: $(cat "$dir/.err")"
    elif ! grep -qE -- "$pattern" "$dir/.err"; then
        not_ok "$name" "stderr does not match /$pattern/: $(cat "$dir/.err")"
    elif [ "$want" -eq 1 ] && [ "$(wc -l <"$dir/.err")" -ne 1 ]; then
        not_ok "$name" "expected one line on stderr: $(cat "$dir/.err")"
    else
        ok "$name"
    fi
}

plan() {
    echo "1..$n"
}
