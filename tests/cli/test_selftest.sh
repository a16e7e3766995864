#!/bin/bash
# bnprof selftest: each of its checks is one here, with every source of samples that this machine can have.
. tests/cli/lib.sh
truth=$root/$BUILD/tests/data
export ASAN_OPTIONS=${ASAN_OPTIONS:+$ASAN_OPTIONS:}verify_asan_link_order=0 # CPU timers are a preloaded library

# rows NAME STATUS: the checks in ./json; the status and the sums agree with them
rows() {
    python3 - "$1" "$2" <<'P' >rows
import json, sys
name, status = sys.argv[1], int(sys.argv[2])
r = json.load(open('json'))
n = {v: sum(c['verdict'] == v for c in r['checks']) for v in ('pass', 'FAIL', 'skipped')}
right = (n['pass'], n['FAIL'], n['skipped']) == (r['passed'], r['failed'], r['skipped']) and \
    status == (0 if n['pass'] and not n['FAIL'] else 1) and \
    all(('why' in c) == (c['verdict'] != 'pass') for c in r['checks'])
print('ok' if right else 'not_ok', 'sums and status', n, status, sep='\t')
for c in r['checks']:
    word = {'pass': 'ok', 'FAIL': 'not_ok', 'skipped': 'skip'}[c['verdict']]
    print(word, c['name'], c.get('why', ''), c['measured'], sep='\t')
P
    local verdict check why measured
    while IFS=$'\t' read -r verdict check why measured; do
        if [ "$verdict" = ok ]; then ok "$1: $check"; else $verdict "$1: $check" "$why $measured"; fi
    done <rows
    check "$1: rows" test -s rows
}

# ---- whatever is best here ----
mkdir tmp
TMPDIR=$PWD/tmp "$BNPROF" selftest --json >json 2>err
rows auto $?
check "auto: its source is named" python3 -c "import json; assert json.load(open('json'))['samples']"
check "its folder is gone" rmdir tmp

# ---- perf events denied, as in a container: CPU timers ----
"$truth/truth_noperf" "$BNPROF" selftest --json >json 2>err
status=$?
if [ $status = 77 ]; then
    skip "denied" "seccomp filters are not available here"
else
    rows denied $status
    check "denied: one sentence for the step" \
        test "$(grep -c 'sampling by CPU timers inside the program instead$' err)" = 1
    check "denied: sampled by timers" grep -qE '"samples":.*CPU timers inside' json
fi

# ---- an ordinary user ----
if [ "$(id -u)" = 0 ] && command -v setpriv >/dev/null; then
    setpriv --reuid=65534 --regid=65534 --clear-groups --inh-caps=-all "$BNPROF" selftest --json >json 2>err
    rows "ordinary user" $?
else
    skip "ordinary user" "needs root and setpriv"
fi

# ---- what cannot be tried ----
"$truth/truth_noperf" "$BNPROF" selftest -e cpu-clock >out 2>err
status=$?
if [ $status != 77 ]; then
    check "refused: status" test $status = 1
    check "refused: skipped with the reason, and nothing else tried" \
        grep -qE '^0 passed, 0 failed, 1 skipped$' out
    check "refused: the reason" grep -qE '^    skipped: .*(seccomp|perf_event)' out
fi
cp "$BNPROF" "$root/$BUILD/libbnprof-timer.so" . && strip bnprof
./bnprof selftest >out 2>err
check "stripped: status" test $? = 1
check "stripped: says so" grep -qE '^    skipped: this program has no symbols: it was stripped$' out
fails "no such event" 2 "expected auto, cycles, cpu-clock or timer" "$BNPROF" selftest --event sometimes
fails "no argument" 2 "no argument expected" "$BNPROF" selftest split
fails "no such folder" 1 '^bnprof: /nosuch/bnprof-selftest' env TMPDIR=/nosuch "$BNPROF" selftest
plan
