#!/bin/bash
# The record's own quality: each flag on it is raised by its cause and silent without, and every report opens with the block.
# All through the tool itself. Two causes cannot be brought about on a test's machine: other guests that take its time, and a
# kernel that delivers fewer samples than asked; there a system call is replaced (tests/data/replaced_calls.c).
. tests/cli/lib.sh
truth=$root/$BUILD/tests/data
export PYTHONPATH=$root/tests/cli PYTHONDONTWRITEBYTECODE=1

if ! "$BNPROF" record -e cpu-clock -- true 2>refused && grep -q 'perf events are refused' refused; then
    skip "quality" "$(sed 's/^bnprof: //' refused)"
    plan
    exit 0
fi

is() { # NAME GOT WANT
    if [ "$2" = "$3" ]; then ok "$1"; else not_ok "$1" "got '$2', expected '$3'"; fi
}

raised() { # NAME ID PATTERN [RUN]: of its evidence
    "$BNPROF" flags ${4:+"$4"} >flags 2>&1
    check "$1" awk -v id="$2" -v pattern="$3" '$1 == "RAISED" && $2 == id { seen = 1; next } seen { exit !($0 ~ pattern) } END { if (!seen) exit 1 }' flags
}

clear() { # NAME ID [RUN]
    "$BNPROF" flags ${3:+"$3"} >flags 2>&1
    check "$1" grep -qE "^clear +$2 " flags
}

replaced() { # NAME=VALUE COMMAND…
    ASAN_OPTIONS=${ASAN_OPTIONS:+$ASAN_OPTIONS:}verify_asan_link_order=0 env LD_PRELOAD="$truth/replaced_calls.so" "$@"
}

# ---- nothing wrong ----
for try in 1 2 3; do # a host that stops the whole machine meanwhile takes samples away
    rm -rf good
    replaced REPLACED_STEAL=0 "$BNPROF" record -o good -- "$truth/truth_spin" 1800 2>err
    status=$?
    grep -q 'warning: throttled' err || break
    echo "# try $try: $(grep 'warning: throttled' err)"
done
is "a good recording: status" $status 0
for id in few-samples lost-samples truncated-stacks unknown-symbols throttled kernel-not-sampled; do
    clear "a good recording: $id is silent" $id good/latest
done
# Whatever else runs here: what others took is what the record says of switches, and no more.
taken=$(python3 -c "
import json
from record import Recording
r = Recording('good/latest/profile.json')
q, cpus = r.quality, int(next(f['value'] for f in r.json['facts'] if f['key'] == 'cpus'))
wanted = q['cpu_ns'] + q['preempted_ns']
taken = max(0, q['preempted_ns'] - q['recorder_cpu_ns']) / wanted
print('quiet' if wanted > 1.02 * cpus * q['duration_ns'] or taken <= 0.02 else 'busy')")
if [ "$taken" = quiet ]; then
    clear "a good recording: noisy-host is silent" noisy-host good/latest
    check "a good recording: grade A" grep -q 'grade A$' err
else
    raised "a good recording on a busy host: noisy-host" noisy-host 'other programs ran for' good/latest
    check "a good recording on a busy host: not grade A" grep -q 'grade [BCD]$' err
fi

# ---- each by its cause ----
"$BNPROF" record -o few -F 99 -- "$truth/truth_spin" 500 2>err
raised "few-samples: half a second at 99 Hz" few-samples '^ +[0-9]+ samples in' few/latest
"$BNPROF" record -o lost -- "$truth/truth_spin" 2600 2>err &
recorder=$!
until program=$(pgrep -P $recorder) && [ "$(cut -d' ' -f1 "/proc/$program/schedstat")" -gt 300000000 ]; do sleep 0.05; done
kill -STOP $recorder
until [ "$(cut -d' ' -f1 "/proc/$program/schedstat" 2>/dev/null || echo 9999999999)" -gt 2200000000 ]; do sleep 0.05; done
kill -CONT $recorder
wait $recorder
is "lost-samples: a recorder that was stopped ends well" $? 0
raised "lost-samples: a recorder that was stopped while the rings ran over" lost-samples 'records lost beside' lost/latest
check "lost-samples: what the rings had no room for is counted" python3 -c "
from record import Recording
q = Recording('lost/latest/profile.json').quality
assert q['n_lost'] > 500 and q['n_samples'] < 2100 and q['n_lost'] + q['n_samples'] > 2300, q"
"$BNPROF" record -o deep -- "$truth/truth_deep" 60 >/dev/null 2>err
raised "truncated-stacks: ten thousand levels" truncated-stacks 'did not reach main' deep/latest
cp "$truth/truth_split" stripped && strip -s stripped
"$BNPROF" record -o stripped.data -- ./stripped 200 >/dev/null 2>err
raised "unknown-symbols: a stripped program" unknown-symbols 'most in: stripped' stripped.data/latest
"$BNPROF" record -o named.data -- "$truth/truth_split" 200 >/dev/null 2>err
clear "unknown-symbols: silent for the same one with its symbols" unknown-symbols named.data/latest
replaced REPLACED_PERIOD=2 "$BNPROF" record -o slow -- "$truth/truth_spin" 1500 2>err
raised "throttled: a kernel that delivers half (replaced perf_event_open)" throttled '(4[5-9]|50)[0-9](\\.[0-9])? of 999' slow/latest
if ${CC:-cc} -O1 -static -o static "$root/tests/data/truth_spin.c" -D_GNU_SOURCE -pthread 2>/dev/null; then
    "$BNPROF" record -e timer -o gap -- sh -c "$truth/truth_spin 600; ./static 600; exit 0" 2>err
    raised "throttled: CPU timers and a static child that has none" throttled 'samples stand for' gap/latest
else
    skip "throttled: CPU timers and a static child" "no static C library"
fi
"$BNPROF" record -o seen -- "$truth/truth_kernel" 1500 2>err
clear "kernel-not-sampled: silent where the kernel is sampled" kernel-not-sampled seen/latest
check "and its samples are in the kernel" python3 -c "
from record import Recording
r = Recording('seen/latest/profile.json')
assert r.count()['[kernel]'] + sum(1 for s in r.samples if s[3] and s[3][0][1] == '[kernel]') > len(r.samples) / 10"
if [ "$(id -u)" = 0 ] && command -v setpriv >/dev/null && [ "$(cat /proc/sys/kernel/perf_event_paranoid)" = 2 ]; then
    mkdir -m 777 user
    chmod 755 "$dir"
    as_nobody() {
        (cd user && setpriv --reuid=65534 --regid=65534 --clear-groups --inh-caps=-all "$@")
    }
    as_nobody "$BNPROF" record -- "$truth/truth_kernel" 1500 2>err
    raised "kernel-not-sampled: a user who may not, and half the time there" kernel-not-sampled 'could not be sampled' user/bnprof.data/latest
    as_nobody "$BNPROF" record -- "$truth/truth_spin" 1500 2>err
    clear "kernel-not-sampled: silent for a program that hardly goes there" kernel-not-sampled user/bnprof.data/latest
else
    skip "kernel-not-sampled" "needs root, setpriv and kernel.perf_event_paranoid=2"
fi
replaced REPLACED_STEAL=5 "$BNPROF" record -o noisy -- "$truth/truth_spin" 1500 2>err
raised "noisy-host: 5 % for other guests (replaced /proc/stat)" noisy-host '5.00 % of the machine' noisy/latest
check "noisy-host: costs the grade its A" grep -q 'grade [CD]$' err
hogs=() cpus=$(nproc)
for ((i = 0; i < 2 * cpus; i++)); do
    "$truth/truth_spin" 60000 &
    hogs+=($!)
done
replaced REPLACED_STEAL=0 "$BNPROF" record -o crowded -- "$truth/truth_spin" 1500 2>err
kill "${hogs[@]}"
wait "${hogs[@]}" 2>/dev/null
raised "noisy-host: others ran on the same processors" noisy-host '0.00 % of the machine.* other programs ran for [1-9][0-9]' crowded/latest

# ---- every report opens with it ----
"$BNPROF" record -- run --rounds 20 >/dev/null 2>err
for format in md text; do
    check "hotspots, $format" sh -c "'$BNPROF' hotspots --format $format | head -14 | grep -qE 'Quality of this record: grade [A-D]'"
done
function=$(python3 -c "
from record import Recording
c = Recording().count()
print(max((f for f in c if f and 'i2s_gem' in f), key=lambda f: c[f]))")
for command in stages flags "annotate $function"; do
    check "${command% *}" sh -c "'$BNPROF' $command | head -4 | grep -qE 'Quality of this record: grade [A-D]'"
done
for command in "hotspots --format json" "stages --json" "annotate $function --json"; do
    "$BNPROF" $command >report.json 2>err
    check "${command%% *}, JSON" python3 -c "
import json
q = json.load(open('report.json'))['quality']
assert q['grade'] in 'ABCD' and q['samples'] > 0 and q['asked_hz'] == 999, q
for key in ('achieved_hz', 'lost', 'truncated', 'unnamed', 'coverage', 'steal_share', 'major_faults', 'recorder_cpu_ns', 'preempted_ns', 'permissions'):
    assert key in q, key"
done
check "flags, JSON" sh -c "'$BNPROF' flags --json | grep -qE '\"grade\":[[:space:]]*\"[A-D]\"'"
check "svg" sh -c "'$BNPROF' svg -o - 2>/dev/null | grep -qE 'samples · .* Hz achieved · lost .* · truncated .* · grade [A-D]'"
check "list" sh -c "'$BNPROF' list | grep -qE '^[0-9-]+-i2s +[A-D] +[0-9]+ +i2s'"
"$BNPROF" stages --json >stages.json
check "stages --json: each stage's samples, and its threads' time off the CPUs, add up" python3 -c "
import json
from record import Recording
def sums(row):
    rows = [sums(child) for child in row['children']] + [(row['samples'], row['sampled_ns'], row['asleep_ns'], row['preempted_ns'])]
    return [sum(column) for column in zip(*rows)]
r = Recording()
samples, sampled_ns, asleep_ns, preempted_ns = sums(json.load(open('stages.json')))
assert samples == len(r.samples) and sampled_ns == r.sampled_ns(), (samples, len(r.samples))
assert asleep_ns == r.quality['asleep_ns'] and preempted_ns == r.quality['preempted_ns']"
plan
