#!/bin/bash
# How processes, threads, libraries and the recorder itself come and go while bnprof record watches: nothing is named wrongly,
# no time is made up, and what was recorded before an end can be read.
. tests/cli/lib.sh
truth=$root/$BUILD/tests/data
export PYTHONPATH=$root/tests/cli PYTHONDONTWRITEBYTECODE=1

if ! "$BNPROF" record -e cpu-clock -- true 2>refused && grep -q 'perf events are refused' refused; then
    skip "life" "$(sed 's/^bnprof: //' refused)"
    plan
    exit 0
fi

is() { # NAME GOT WANT
    if [ "$2" = "$3" ]; then ok "$1"; else not_ok "$1" "got '$2', expected '$3'"; fi
}

# The recording is in r, the program's own account of CPU time in cpu_ns, its lines of output in out.
holds() { # NAME PYTHON…: passes if no assertion fails
    check "$1" python3 -c "
from record import Recording
import os, sys
r = Recording()
out = open('out').read().split('\n') if os.path.exists('out') else []
cpu_ns = sum(int(l.split()[1]) for l in out if l.startswith('cpu '))
period_ns = 1e9 / r.quality['asked_hz']
n = r.count()
def only(function, place): # where samples with that function are
    where = {place(s) for s in r.with_function(function)}
    assert where, 'no sample of ' + function
    return where
$2"
}

# Where the host stops a whole virtual machine, time passes in which no timer expires.
was_stopped() {
    python3 -c "
from record import Recording
r = Recording()
raise SystemExit(not r.sampled_ns() < 0.95 * sum(t['cpu_ns'] for t in r.threads))" 2>/dev/null
}

record() { # ARG… of record
    local try
    for try in 1 2 3; do
        rm -rf bnprof.data
        "$BNPROF" record "$@" >out 2>err
        status=$?
        was_stopped || break
        echo "# try $try: the machine was stopped meanwhile"
    done
}

# ---- the recorder is killed ----
"$BNPROF" record -F 499 -- "$truth/truth_stop" 60000 >out 2>err &
pid=$!
until grep -q ready out || ! kill -0 $pid 2>/dev/null; do sleep 0.05; done
program=$(sed -n 's/^ready //p' out)
used_ns() { cut -d' ' -f1 <"/proc/$program/schedstat"; }
until [ "$(used_ns)" -gt 2500000000 ] || ! kill -0 "$program" 2>/dev/null; do sleep 0.1; done
used_ms=$(($(used_ns) / 1000000))
is "being recorded: list says so" "$("$BNPROF" list | awk 'NR == 2 { print $3, $4, $5 }')" "still being recorded"
kill -KILL $pid
wait $pid 2>/dev/null
kill -TERM "$program"
check "killed: list shows that it was cut off" sh -c "'$BNPROF' list | grep -qE '^[0-9]{8}-[0-9]{6}-truth_stop +- +cut off'"
"$BNPROF" hotspots bnprof.data/*-truth_stop >report.md 2>err
is "killed: hotspots finishes it" $? 0
check "killed: the report opens with what it is" sh -c "head -25 report.md | grep -q 'Partial.*cut off'"
holds "killed: what was recorded until a moment before is there ($used_ms ms were used)" "
assert r.quality['partial']
assert r.sampled_ns() > ($used_ms - 1500) * 1e6 and r.sampled_ns() < ($used_ms + 2000) * 1e6, r.sampled_ns()
assert all(f in n for f in ('main', '_start'))"
check "killed: a flame graph" sh -c "'$BNPROF' svg -o - 2>/dev/null | grep -q 'recovered from an unfinished recording'"
check "killed: which does not know what was lost" sh -c "'$BNPROF' svg -o - 2>/dev/null | grep -q 'lost unknown'"
check "killed: list keeps saying so" sh -c "'$BNPROF' list | grep -q 'truth_stop 60000 (cut off)'"

# ---- the program ends itself, or is killed ----
for how in quit:9 die:137; do
    record -- "$truth/truth_life" "${how%:*}"
    is "${how%:*}: status" $status "${how#*:}"
    holds "${how%:*}: both threads up to their last moment" "
assert not r.quality['partial'] and r.json['exit_status'] == ${how#*:}
assert r.quality['n_truncated'] * 50 <= len(r.samples) and r.quality['n_unnamed'] * 50 <= len(r.samples)
assert 350 <= n['last_words'] <= 420, n['last_words']
assert n['bystander_work'] > 20 and n['work_to_the_end'] >= n['bystander_work']
assert abs(r.sampled_ns() - sum(t['cpu_ns'] for t in r.threads)) < 0.03 * r.sampled_ns() + 4 * period_ns"
done

# ---- programs that become others ----
record -- "$truth/truth_timers" exec
is "exec: status" $status 0
holds "exec: each program's functions in their time" "
assert 450 <= n['before_exec'] <= 530 and 450 <= n['after_exec'] <= 530, n
assert max(s[0] for s in r.with_function('before_exec')) < min(s[0] for s in r.with_function('after_exec'))"
record -- "$truth/truth_life" exec-thread
is "exec by a second thread: status" $status 0
holds "exec by a second thread: three threads, none of them has the time of another" "
assert len(r.threads) == 3, r.threads
assert len({only(f, lambda s: id(s[2])).pop() for f in ('first_program', 'bystander_work', 'second_program')}) == 3
total = sum(t['cpu_ns'] for t in r.threads)
assert abs(total - r.sampled_ns()) < 0.03 * total + 4 * period_ns, (total, r.sampled_ns())
assert max(s[0] for s in r.with_function('bystander_work')) < min(s[0] for s in r.with_function('second_program'))"
for how in spawn:spawned_work vfork:spawned_work fork:forked_work; do
    record -- "$truth/truth_life" "${how%:*}" 20
    is "${how%:*}: status" $status 0
    holds "${how%:*}: 20 children, each with its own time" "
child = '${how#*:}'
parents, children = only('parent_work', lambda s: s[2]['pid']), only(child, lambda s: s[2]['pid'])
assert len(parents) == 1 and len(children) == 20 and not parents & children
assert len(r.threads) == 21, len(r.threads)
assert all(f[1] == 'truth_life' for s in r.with_function(child) for f in s[3] if f[0] == child)
assert r.quality['n_unnamed'] * 50 <= len(r.samples)
assert cpu_ns - (21 + 10) * period_ns - 0.02 * cpu_ns < r.sampled_ns() < 1.05 * cpu_ns + 10 * period_ns, (cpu_ns, r.sampled_ns())"
done

# ---- threads ----
record -- "$truth/truth_life" brief 3000
is "3,000 brief threads: status" $status 0
"$BNPROF" hotspots --format json >report.json
holds "3,000 brief threads: their time is told although no period ends in it" "
import json
q = json.load(open('report.json'))['quality']
assert len(r.threads) == 3001, len(r.threads)
assert q['threads_never_sampled'] + len({id(s[2]) for s in r.samples}) == 3001, q
told = q['threads_never_sampled_ns'] + sum(t['cpu_ns'] for t in r.threads if any(s[2] is t for s in r.samples))
assert 0.85 * cpu_ns < told < 1.03 * cpu_ns, (told, cpu_ns)"
check "3,000 brief threads: the report says so" \
    sh -c "'$BNPROF' hotspots | head -30 | grep -qE 'Threads never sampled.*: [23],[0-9]{3}, which ran for'"
check "3,000 brief threads: the flag knows why" grep -qE 'throttled: .*threads without a sample.*many threads end within a period' err
record -- "$truth/truth_life" crowd 200
is "200 threads at once: status" $status 0
holds "200 threads at once: each loses less than a period" "
assert len(r.threads) == 201, len(r.threads)
missing = cpu_ns - r.sampled_ns()
assert -0.02 * cpu_ns - 5 * period_ns < missing < 0.02 * cpu_ns + (206 + r.quality['n_lost']) * period_ns, missing / period_ns
assert len(only('crowd_work', lambda s: s[2]['tid'])) >= 190"
record -- "$truth/truth_life" rename
holds "a thread that changes its name is one thread, under the last one" "
a, b = only('named_once', lambda s: s[2]['tid']), only('named_twice', lambda s: s[2]['tid'])
assert a == b and len(a) == 1 and len(r.threads) == 2, r.threads
assert only('named_once', lambda s: s[2]['name']) == {'twice \"<&>'}"
check "its name is safe in a picture" sh -c "'$BNPROF' svg --by thread -o - 2>/dev/null | python3 -c 'import sys, xml.dom.minidom as m; t = m.parse(sys.stdin).toxml(); assert \"twice\" in t'"

# ---- libraries ----
# Some offset between the program's clock and the recording's puts every sample of a library into one of its windows.
cp "$truth/swap_one.so" "$truth/swap_two.so" .
record -- "$truth/truth_life" windows ./swap_one.so ./swap_two.so
is "two libraries by turns: status" $status 0
if [ "$(awk '/swap_/ { print $4 }' out | sort -u | wc -l)" = 1 ]; then
    holds "two libraries at one address: each has its own samples in its own time" "
turns = [l.split() for l in out if l.startswith('./swap_')]
names = {'./swap_one.so': 'work_of_one', './swap_two.so': 'work_of_two'}
low, high = float('-inf'), float('inf')
got = sorted((s[0], f, m) for s in r.samples for f, m in s[3] if f in names.values())
assert len(got) > 900 and {(f, m) for _, f, m in got} == {('work_of_one', 'swap_one.so'), ('work_of_two', 'swap_two.so')}
at = 0
for library, begin, end, _ in turns:
    mine = []
    while at < len(got) and got[at][1] == names[library]:
        mine.append(got[at][0])
        at += 1
    assert 110 <= len(mine) <= 160, (library, len(mine))
    low, high = max(low, int(begin) - mine[0]), min(high, int(end) - mine[-1])
assert at == len(got) and low <= high, (at, len(got), low, high)"
else
    skip "two libraries at one address" "the loader gave them different ones"
fi
for event in auto timer; do
    record -e $event -- "$truth/truth_life" hasty ./swap_one.so ./swap_two.so
    holds "$event: libraries that come and go within a millisecond: no name of the one that was not there" "
mine = {'hasty_one': 'swap_one.so', 'hasty_two': 'swap_two.so'}
seen = {k: 0 for k in mine}
for s in r.samples:
    for caller, library in mine.items():
        if caller in [f for f, _ in s[3]]:
            above = {m for f, m in s[3][:[f for f, _ in s[3]].index(caller)]}
            assert not above & (set(mine.values()) - {library}), s
            seen[caller] += library in above
assert min(seen.values()) > 60, seen"
done
record -- "$truth/truth_life" replaced ./swap_one.so ./swap_two.so
is "a library replaced while the program runs: status" $status 0
holds "a library replaced while the program runs: the first one's code is unnamed, never the second one's" "
assert n['work_of_one'] == 0 and n['work_of_two'] > 300, n
assert n['[swap_one.so]'] > 300, n"
check "and the record says why" grep -q 'not the file that ran\|was replaced' bnprof.data/latest/profile.json
plan
