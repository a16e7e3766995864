#!/bin/bash
# bnprof record where perf events are refused: CPU timers inside the program, its own engine and others.
. tests/cli/lib.sh
truth=$root/$BUILD/tests/data

is() { # NAME GOT WANT
    if [ "$2" = "$3" ]; then ok "$1"; else not_ok "$1" "got '$2', expected '$3'"; fi
}

quality() { # KEY: of the latest recording
    python3 -c "import json; print(json.load(open('bnprof.data/latest/profile.json'))['quality']['$1'])"
}

# ---- forced ----
"$BNPROF" record -e timer -F 99 -- "$truth/truth_spin" 800 7 2 >out 2>err
is "status is the program's" $? 7
is "the record names the event" "$(quality event)" timer
is "the asked rate" "$(quality asked_hz)" 99
check "no kernel code, no kernel time missing" grep -q '"kernel_sampled": *false' bnprof.data/latest/profile.json
"$BNPROF" flags bnprof.data/latest >flags 2>&1
check "kernel-not-sampled is clear" grep -qE '^clear +kernel-not-sampled' flags
check "throttled is clear: the samples stand for the CPU time" grep -qE '^clear +throttled .*samples stand for' flags
check "the report says whose the kernel's time is" \
    sh -c '"$BNPROF" hotspots | grep -q "Kernel not seen.*: none: .* count for the user code that called it"'
check "each thread's CPU time is what it said at its end" python3 -c "
import json
p = json.load(open('bnprof.data/latest/profile.json'))
times = [t['cpu_ns'] for t in p['threads']]
assert len(times) == 2 and all(800e6 <= t < 900e6 for t in times), times
assert 0.98 * p['quality']['cpu_ns'] < sum(times) < 1.02 * p['quality']['cpu_ns'], (times, p['quality']['cpu_ns'])"
"$BNPROF" record -e timer -F 5000 -- "$truth/truth_spin" 300 2>err
check "a rate beyond the tick is lowered in one sentence" grep -qE '^bnprof: 5000 Hz lowered to [0-9]+ Hz: CPU timers expire' err
"$BNPROF" flags bnprof.data/latest >flags 2>&1
check "and is no false alarm" grep -qE '^clear +throttled' flags
"$BNPROF" record -e timer --call-graph fp -- "$truth/truth_spin" 100 2>err
check "frame pointers need the kernel" grep -q 'call-graph fp needs the kernel' err
is "and the stack is copied" "$(quality call_graph)" dwarf
ASAN_OPTIONS=verify_asan_link_order=0 LD_PRELOAD=libm.so.6 "$BNPROF" record -e timer -- env >out 2>/dev/null
check "a preloaded library stays" grep -qE '^LD_PRELOAD=.*libbnprof-timer.so:libm.so.6$' out
mkdir "a b"
cp "$root/$BUILD/libbnprof-timer.so" "$BNPROF" "a b"
"a b/bnprof" record -e timer -- "$truth/truth_spin" 100 5 >out 2>err
is "a blank in the library's path" "$?$(wc -c <out)" 50
check "is recorded all the same" grep -q ' samples, ' err

# ---- what cannot be preloaded ----
if ${CC:-cc} -static -o static -x c - 2>/dev/null <<<'int main(void) { return 0; }'; then
    fails "static" 1 '^bnprof: \./static: statically linked: CPU timers need a library' "$BNPROF" record -e timer -- ./static
else
    skip "static" "no static C library"
fi
if [ "$(id -u)" = 0 ]; then
    cp "$truth/truth_spin" suid && chown 65534 suid && chmod 4755 suid
    fails "setuid" 1 '^bnprof: \./suid: it runs with more rights than you have' "$BNPROF" record -e timer -- ./suid 10
else
    skip "setuid" "needs root"
fi
mkdir lonely && cp "$BNPROF" lonely
fails "the library is missing" 1 'libbnprof-timer.so is in none of' lonely/bnprof record -e timer -- true
fails "the program is missing" 1 'nosuch: No such file or directory' "$BNPROF" record -e timer -- nosuch
check "nothing is left behind" test ! -e lonely/bnprof.data
printf '#!/bin/sh\nexec "%s" 200 3\n' "$truth/truth_spin" >script && chmod 755 script
"$BNPROF" record -e timer -- ./script 2>err
is "a script" $? 3
check "its program is in the record" grep -q '"spin"' bnprof.data/latest/profile.json

# ---- denied, as in a container ----
for error in EPERM ENOSYS; do
    rm -rf bnprof.data
    "$truth/truth_noperf" -$error "$BNPROF" record -- "$truth/truth_timers" shares >out 2>err
    status=$?
    if [ $status = 77 ]; then
        skip "$error" "seccomp filters are not available here"
        continue
    fi
    is "$error: status" $status 0
    is "$error: one sentence for the step" "$(grep -c 'sampling by CPU timers inside the program instead$' err)" 1
    is "$error: sampled by timers" "$(quality event)" timer
    check "$error: the report says so" grep -q 'ladder.*seccomp' bnprof.data/latest/profile.json
    python3 - <<'P' >shares
import json, collections
p = json.load(open('bnprof.data/latest/profile.json'))
print(p['quality']['n_samples'], p['quality']['n_truncated'], p['quality']['n_unnamed'])
P
    read -r n truncated unnamed <shares
    check "$error: $n samples, $truncated truncated, $unnamed unnamed" \
        test "$n" -gt 100 -a $((truncated * 50)) -le "$n" -a $((unnamed * 50)) -le "$n"
done
"$truth/truth_noperf" "$BNPROF" record -e cpu-clock -- touch started >out 2>err
is "forced cpu-clock is refused" "$?$(test -e started && echo started)" 1
rm -rf bnprof.data
rounds=()
[ "$CONFIG" = release ] || rounds=(--rounds 2) # slow enough
"$truth/truth_noperf" "$BNPROF" record -- run "${rounds[@]}" >out 2>err
is "engine: status" $? 0
is "engine: timer" "$(quality event)" timer
"$BNPROF" run "${rounds[@]}" >plain-out 2>/dev/null
check "engine: says the same as alone" cmp out plain-out
check "engine: every sample has its stage, or it is told that the recorder was too late" \
    python3 -c "import json; q=json.load(open('bnprof.data/latest/profile.json'))['quality']; assert q['n_samples'] > 100 and (q['n_joined'] >= 0.99 * q['n_samples'] or q['scope_events_dropped']), q"
check "engine: its worker is sampled" \
    python3 -c "import json; assert any((t['name'] or '').startswith('bn-worker') for t in json.load(open('bnprof.data/latest/profile.json'))['threads'])"
# What AddressSanitizer puts between variables makes stacks longer than their copy.
[ "$CONFIG" = asan ] || check "engine: grade A or B" grep -qE ', grade [AB]$' err
if [ "$(id -u)" = 0 ] && command -v setpriv >/dev/null; then
    mkdir -m 777 user && chmod 755 "$dir"
    (cd user && setpriv --reuid=65534 --regid=65534 --clear-groups --inh-caps=-all \
        "$truth/truth_noperf" "$BNPROF" record -- "$truth/truth_spin" 400 6 2>err)
    is "ordinary user: status" $? 6
    check "ordinary user: sampled by timers" grep -q '"timer"' user/bnprof.data/latest/profile.json
else
    skip "ordinary user" "needs root and setpriv"
fi
plan
