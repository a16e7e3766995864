#!/bin/bash
# Run every test program and script and count: each speaks TAP ("ok", "not ok", "… # SKIP why").
# A program that dies without a "not ok" counts as one failure. Closes with "N passed, N failed, N skipped".
set -u
cd "$(dirname "$0")/.." || exit 1
: "${BUILD:=build/release}" "${CONFIG:=release}" "${MODELS:=}"
export BUILD CONFIG MODELS CMOCKA_MESSAGE_OUTPUT=TAP
export BNPROF="$PWD/$BUILD/bnprof"
# The recordings of tests must not depend on the user's environment.
unset BNPROF_DIR BNPROF_MODEL BN_CPU BN_THREADS RAYON_NUM_THREADS BITNET_STRICT_MODE BITNET_DETERMINISTIC BITNET_SEED
work=$(mktemp -d "${TMPDIR:-/tmp}/bnprof-test.XXXXXX")
trap 'rm -rf "$work"' EXIT
export TEST_TMP="$work"
passed=0 failed=0 skipped=0

run_one() { # NAME COMMAND…
    local name=$1 log="$work/log" status p f s
    shift
    timeout "${TEST_TIMEOUT:-900}" "$@" >"$log" 2>&1 </dev/null
    status=$?
    s=$(grep -ciE '^(not )?ok\b.*# skip' "$log")
    f=$(grep -E '^not ok\b' "$log" | grep -civE '# skip')
    p=$(grep -E '^ok\b' "$log" | grep -civE '# skip')
    if [ "$status" -ne 0 ] && [ "$f" -eq 0 ]; then
        f=1
        echo "# exit status $status" >>"$log"
    elif [ $((p + f + s)) -eq 0 ]; then
        f=1
        echo "# ran no test" >>"$log"
    fi
    passed=$((passed + p)) failed=$((failed + f)) skipped=$((skipped + s))
    if [ "$f" -gt 0 ]; then
        echo "FAIL $name"
        # What failed first, then how the log ends.
        { [ "$(wc -l <"$log")" -le 60 ] || grep -A 4 '^not ok' "$log" | head -n 20; } | cut -c 1-2000 | sed 's/^/     /'
        tail -n 60 "$log" | sed 's/^/     /'
    else
        echo "ok   $name ($p passed$([ "$s" -gt 0 ] && echo ", $s skipped"))"
    fi
    grep -oiE 'skipped: .*' "$log" | sort -u | sed 's/^/     /'
}

filter=${1:-}
for test in "$BUILD"/tests/unit/test_*[!.]?; do
    case $test in *.o | *.d) continue ;; esac
    [[ -x $test && $test == *"$filter"* ]] && run_one "unit/$(basename "$test")" "$test"
done
[[ checkkernel == *"$filter"* ]] && run_one kernels/checkkernel "$BUILD/tests/kernels/checkkernel" --tap
for test in tests/golden/test_*.sh tests/cli/test_*.sh tests/browser/test_*.sh; do
    [[ -f $test && $test == *"$filter"* ]] && run_one "${test#tests/}" bash "$test"
done
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ]
