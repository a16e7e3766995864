#!/bin/bash
# Where samples stand for unequal times, every share is one of CPU time: CPU timers do not expire inside of a long system
# call, so that one sample stands for all of it.
. tests/cli/lib.sh
truth=$root/$BUILD/tests/data
export PYTHONPATH=$root/tests/cli PYTHONDONTWRITEBYTECODE=1

"$BNPROF" record -e timer -o timer -- "$truth/truth_reads" 20 >told 2>err
if [ $? != 0 ]; then
    not_ok "a program with long reads is recorded" "$(cat err)"
    plan
    exit 0
fi
ok "a program with long reads is recorded"
run=timer/latest
"$BNPROF" hotspots $run --format json >report.json
"$BNPROF" hotspots $run --top 2 >report.md
"$BNPROF" hotspots $run --by line --format json >lines.json
"$BNPROF" flags $run >flags 2>&1
"$BNPROF" svg $run --by stack -o picture.svg >/dev/null
"$BNPROF" annotate spin $run --json >spin.json

check "one sample stands for a whole read" python3 -c "
from record import Recording
reads = [s[1] for s in Recording('$run/profile.json').with_function('readv')]
assert len(reads) < 30 and sum(reads) > 20e6 * len(reads), reads"
# What the record holds, added up here; a share is that sum and nothing else.
check "shares in the report are the samples' times" python3 -c "
import json
from record import Recording
r, report = Recording('$run/profile.json'), json.load(open('report.json'))
all_ns = r.sampled_ns()
for name in 'readv', 'spin':
    ns = sum(s[1] for s in r.with_function(name))
    item = next(h for h in report['hotspots'] if h['name'] == name)
    assert abs(item['inclusive_share'] - ns / all_ns) < 1e-12, (name, item, ns, all_ns)
    assert item['self_share_low'] < item['self_share'] < item['self_share_high'], item
hot = report['hotspots']
assert [h['self_ns'] for h in hot] == sorted((h['self_ns'] for h in hot), reverse=True), hot
assert 2 <= report['quality']['effective_samples'] < report['quality']['samples'], report['quality']"
# The program measured both. As many equal samples as these are worth (Kish) are farther off in fewer than one of 20,000
# recordings (Chernoff's bound).
check "and those of the program" python3 -c "
import json, math
read_ns, spin_ns, calls = map(int, open('told').read().split())
report = json.load(open('report.json'))
n = report['quality']['effective_samples']
def outside(got, p):
    d = sum(a * math.log(a / b) for a, b in ((got, p), (1 - got, 1 - p)) if a > 0)
    return d > math.log(2 * 20000) / n
for name, ns in ('readv', read_ns), ('spin', spin_ns):
    got, p = next(h for h in report['hotspots'] if h['name'] == name)['inclusive_share'], ns / (read_ns + spin_ns)
    assert not outside(got, p), (name, got, p, n)"
check "the report says of what its shares are" grep -qE '^- \*\*CPU Time\*\* \(inclusive\): [0-9.]+ % of all sampled CPU time, ' report.md
check "and how far the weights are apart" \
    grep -qE '^- \*\*Weights\*\*: a sample stands for [0-9.]+ (ns|µs|ms) to [0-9.]+ (ms|s); .* as sure as with [0-9]+ equal samples$' report.md
check "lines: by time" python3 -c "
import json
lines = json.load(open('lines.json'))['hotspots']
assert [l['self_ns'] for l in lines] == sorted((l['self_ns'] for l in lines), reverse=True), lines
assert abs(sum(l['self_share'] for l in lines) - 1) < 0.05, lines"
check "flags: both, time and samples" grep -qE '^clear +memcpy-share .*: 0 ns of [0-9.]+ m?s \(0 of [0-9]+ samples\)' flags
check "flame graph: widths are ns" python3 -c "
import re
from record import Recording
r, text = Recording('$run/profile.json'), open('picture.svg').read()
whole = re.search('<g id=\"frames\" data-samples=\"(\d+)\" data-rows=\"\d+\" data-unit=\"ns\">', text)
assert int(whole[1]) == r.sampled_ns(), whole
boxes = re.findall('data-n=\"(\d+)\"><title>readv \((\d+) samples, ([0-9.]+)%\)\nself ([0-9.]+)% \(\d+ samples, [0-9.]+ m?s\)', text)
reads = r.with_function('readv')
ns = sum(s[1] for s in reads)
assert boxes == [(str(ns), str(len(reads)), *['%.2f' % (100 * ns / r.sampled_ns())] * 2)], boxes"
check "annotate: lines and instructions" python3 -c "
import json
from record import Recording
spin, r = json.load(open('spin.json')), Recording('$run/profile.json')
lines = [l for s in spin['sources'] for l in s['lines']]
assert spin['ns'] == sum(l['ns'] for l in lines) and abs(spin['share'] - spin['ns'] / r.sampled_ns()) < 1e-12, spin
for l in lines:
    assert abs(l['share'] - l['ns'] / spin['ns']) < 1e-12, l
for i in spin['assembly']:
    assert abs(i['share'] - i['ns'] / spin['ns']) < 1e-12, i"
check "the record holds the times of addresses and modules" python3 -c "
import json
p = json.load(open('$run/profile.json'))
weights = p['samples']['weight_ns']
assert sum(m.get('weight_ns', 0) for m in p['modules']) == sum(weights)
assert 0.9 * sum(weights) < sum(p['addresses']['weight_ns']) <= sum(weights)"

# ---- equal weights: nothing of all that ----
if "$BNPROF" record -e cpu-clock -o clock -- "$truth/truth_spin" 300 2>err; then
    "$BNPROF" hotspots clock/latest >report.md
    "$BNPROF" svg clock/latest -o picture.svg >/dev/null
    check "equal samples are counted" \
        sh -c "grep -q ' of all samples, ' report.md && ! grep -qE 'Weights|sampled CPU time' report.md && ! grep -q data-unit picture.svg"
    check "and their weights are not repeated" python3 -c "
import json
p = json.load(open('clock/latest/profile.json'))
assert isinstance(p['samples']['weight_ns'], int) and 'weight_ns' not in p['addresses'] and not any('weight_ns' in m for m in p['modules'])"
else
    skip "equal samples are counted" "$(sed 's/^bnprof: //' err)"
fi
plan
