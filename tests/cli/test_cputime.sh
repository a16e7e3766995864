#!/bin/bash
# The CPU time by which samples are measured is of the same processes and the same interval as the samples: children that live
# on, processes that are attached to for a moment, threads that come and go, programs that take the events off.
. tests/cli/lib.sh
truth=$root/$BUILD/tests/data
spin=$truth/truth_spin
export PYTHONPATH=$root/tests/cli PYTHONDONTWRITEBYTECODE=1

is() { # NAME GOT WANT
    if [ "$2" = "$3" ]; then ok "$1"; else not_ok "$1" "got '$2', expected '$3'"; fi
}

# The latest recording of folder d is in r, its quality as reported in q, its threads that were sampled in n_threads.
holds() { # NAME PYTHON…: passes if no assertion fails
    "$BNPROF" hotspots --format json d/latest >report.json 2>/dev/null
    check "$1" python3 -c "
from record import Recording
import json, os
r = Recording('d/latest/profile.json')
q = json.load(open('report.json'))['quality']
period_ns = 1e9 / r.quality['asked_hz']
n_threads = len({id(s[2]) for s in r.samples})
facts = {f['key']: f['value'] for f in r.json['facts']}
assert q['cpu_ns'] > 0 and q['coverage'] <= 1.02, q
# Every thread loses less than a period on each CPU; then what the rings lost, and what fell into the time of other guests.
stolen_ns = (q['steal_share'] or 0) * q['duration_ns'] * os.cpu_count()
missing = q['cpu_ns'] - q['unreached_ns'] - q['sampled_ns'] - q['threads_never_sampled_ns']
assert not q['kernel_sampled'] or missing < (2 * len(r.threads) + 2 + q['lost']) * period_ns + stolen_ns + 0.03 * q['cpu_ns'], (missing / period_ns, q)
$2"
}

record() { # ARG… of record
    rm -rf d
    "$BNPROF" record -o d "$@" >out 2>err
    status=$?
}

# ---- children that live on ----
events=timer
"$BNPROF" record -e cpu-clock -- true 2>refused
grep -q 'perf events are refused' refused || events="cpu-clock timer"
for event in $events; do
    record -e $event -- bash -c "$spin 2000 & $spin 300; exit 0"
    is "$event, a child that lives on: status" $status 0
    holds "$event, a child that lives on: its time counts, as its samples do" "
assert q['cpu_ns'] > 330e6, q
assert len({s[2]['pid'] for s in r.with_function('spin')}) == 2
assert facts['ran_on'].startswith('1 process ran on') and 'truth_spin (' in facts['ran_on'], facts['ran_on']
assert stolen_ns > 0.02 * q['cpu_ns'] or r.flag('throttled')['state'] == 'clear', r.flag('throttled')"
    check "$event, a child that lives on: is told" grep -q '1 process ran on when the program had ended.*: truth_spin (' err
    check "$event, a child that lives on: in the report" sh -c "'$BNPROF' hotspots d/latest 2>&1 | grep -q 'Left behind.*truth_spin ('"
    kill "$(sed -n 's/.*truth_spin (\([0-9]*\)).*/\1/p' err)"
    # Nobody waits for this one either, but it ends before the program does.
    mkfifo end
    record -e $event -- bash -c "(setsid bash -c '$spin 300; echo >end' &); read -r <end; $spin 200"
    rm end
    holds "$event, an orphan that has ended: its time counts" "
assert 490e6 <= q['cpu_ns'] < 800e6 + stolen_ns and 'ran_on' not in facts, q"
    record -e $event -- "$spin" 500
    holds "$event, a program alone" "
assert 490e6 <= q['cpu_ns'] < 600e6 + stolen_ns and q['unreached_ns'] == 0 and 'ran_on' not in facts, q
# The host's time is in the events' own count, and not in the kernel's accounting.
assert q['user_ns'] is None and stolen_ns > 0.05 * q['cpu_ns'] or q['user_ns'] + q['system_ns'] == q['cpu_ns'], q"
    check "$event, a program alone: nothing is told" sh -c "! grep -q 'ran on' err"
done
record -- sh -c "(setsid sleep 5 >/dev/null 2>&1 &)"
if grep -q 'no samples' err; then
    check "a daemon: the reason" grep -qE 'no samples in .* before the program ended and left others behind, so there is no recording; .*-p' err
else
    ok "a daemon: there were samples of its start"
fi
check "a daemon: who runs on" grep -qE '1 process ran on when the program had ended.*\((sh|setsid|sleep) \(|: (sh|setsid|sleep) \(' err

# ---- threads by the thousand, for CPU timers ----
record -e timer -- "$truth/truth_life" brief 3000
is "timer, 3,000 threads one after the other: status" $status 0
holds "timer, 3,000 threads one after the other: all of them are told, none lacked a place" "
assert len(r.threads) == 3001 and 'not_sampled' not in facts, facts.get('not_sampled')
told = q['threads_never_sampled_ns'] + q['sampled_ns']
assert q['threads_never_sampled'] > 2500 and 0.75 * q['cpu_ns'] < told < 1.02 * q['cpu_ns'], q
assert 'static' not in r.flag('throttled')['advice'], r.flag('throttled')"
check "timer, 3,000 threads one after the other: the flag knows why" grep -q 'throttled: .*threads without a sample.*many threads end within' err
record -e timer -- sh -c 'for i in 1 2 3 4 5 6 7 8; do for j in 1 2 3 4 5 6 7 8; do for k in 1 2 3 4 5 6; do /bin/true; done; done; done'
holds "timer, 384 processes one after the other" "
assert 'not_sampled' not in facts, facts['not_sampled']"

if [ "$events" = timer ]; then
    skip "attach" "$(sed 's/^bnprof: //' refused)"
    plan
    exit 0
fi

# ---- attached for a moment ----
"$truth/truth_join" 60 &
pid=$!
sleep 0.3
for seconds in 0.001 0.02 0.1 0.5; do
    record -p $pid --duration $seconds
    if grep -q 'no samples' err; then
        is "attached for $seconds s: no time for a sample" $seconds 0.001
    else
        holds "attached for $seconds s: the time of both threads, meanwhile" "
assert q['cpu_ns'] <= 2.02 * q['duration_ns'] + 1e6, q
assert q['duration_ns'] > $seconds * 1e9, q
# The first thread slept throughout, which no switch tells.
assert q['sleeps'] >= 1 and 0.98 * q['duration_ns'] < q['asleep_ns'] < 1.1 * q['duration_ns'], q"
    fi
done
kill $pid
wait $pid 2>/dev/null
bash -c "sleep 0.7; exec $spin 400" &
pid=$!
sleep 0.2
record -p $pid
holds "attached to a shell that becomes another program" "
assert 390e6 <= q['cpu_ns'] < 500e6 + stolen_ns, q
assert r.with_function('spin')"
# bash slept when the recording began; it woke in the midst of it.
check "a sleep begun before is told" python3 -c "
from record import Recording
q = Recording('d/latest/profile.json').quality
assert q['n_sleeps'] >= 1 and q['asleep_ns'] > 200e6, q"
# ---- programs that take the events off ----
if [ "$(id -u)" = 0 ] && command -v setpriv >/dev/null && [ "$(cat /proc/sys/kernel/perf_event_paranoid)" = 2 ]; then
    chmod 755 "$dir"
    mkdir -m 777 user
    cp "$spin" privileged
    chmod 4755 privileged
    as_nobody() {
        (cd user && setpriv --reuid=65534 --regid=65534 --clear-groups --inh-caps=-all "$@")
    }
    as_nobody "$BNPROF" record -o d -- ../privileged 300 >out 2>err
    is "setuid: status" $? 0
    check "setuid: the reason and the remedy" grep -qE 'no samples in .* \(a setuid, .*, so there is no recording; record it as root' err
    as_nobody "$BNPROF" record -o d -- bash -c "../privileged 300; $spin 300" >out 2>err
    rm -rf d
    cp -a user/d d
    holds "setuid, as a child: what it ran is out of reach, the rest is covered" "
assert 290e6 - stolen_ns < q['unreached_ns'] < 400e6 + stolen_ns and 590e6 < q['cpu_ns'] < 800e6 + stolen_ns, q
assert 'can be recorded as root only' in r.flag('throttled')['advice'], r.flag('throttled')"
    check "setuid, as a child: the report says so" sh -c "'$BNPROF' hotspots d/latest 2>&1 | grep -q 'Out of reach.*setuid'"
    as_nobody "$BNPROF" record -o e -- bash -c "$spin 1500 & $spin 300; exit 0" >out 2>err
    rm -rf d
    cp -a user/e d
    holds "an ordinary user, a child that lives on" "
assert q['unreached_ns'] == 0 and q['cpu_ns'] > 330e6, q"
else
    skip "setuid" "needs root, setpriv and kernel.perf_event_paranoid=2"
fi
plan
