#!/bin/bash
# Where waiting is booked: a worker that sleeps through a phase waited in that phase, not where its last job was.
. tests/cli/lib.sh

if ! command -v python3 >/dev/null; then
    skip "waits" "needs python3"
    plan
    exit 0
fi
if ! "$BNPROF" record -o refused.data -- true 2>refused && grep -q 'perf events are refused' refused; then
    skip "waits" "$(sed 's/^bnprof: //' refused)"
    plan
    exit 0
fi
cat >check.py <<'E2'
"""Check the waits of a recording's stages with N threads; prints what is wrong."""
import json, sys

tree, threads = json.load(open(sys.argv[1])), int(sys.argv[2])
rows = []


def walk(node, path):
    rows.append((path, node))
    for child in node["children"]:
        walk(child, path + [child["name"]])


def waits(phase, *keys):
    return sum(n[k] for p, n in rows if p and p[-1] == "wait" and phase in p for k in keys)


walk(tree, [])
everything = waits("wait", "self_ns", "worker_ns")
for phase in ("prefill", "decode"):
    total = sum(n["total_ns"] for p, n in rows if p and p[-1] == phase)
    # The scopes' own cost, taken out of the phase but not of the waits.
    cost = tree["quality"].get("empty_scope_ns") or 1000
    cost *= 2 * sum(n["calls"] for p, n in rows if phase in p)
    waited = waits(phase, "self_ns", "worker_ns")
    asleep = waits(phase, "asleep_ns", "preempted_ns")
    for what, ns in (("waits", waited), ("is off the CPUs", asleep)):
        if ns > threads * (total + cost) + 1e6:
            print(f"{phase}: takes {total} ns, {threads} threads, {what} for {ns} ns")
    if waited == 0:
        print(f"{phase}: no wait")
nowhere = sum(n["self_ns"] + n["worker_ns"] for p, n in rows if p == ["wait"])
if nowhere > 0.05 * everything:
    print(f"{nowhere} of {everything} ns of waiting in no stage")
E2
cpus=$(nproc)
for threads in 2 4; do
    # More threads than cores are never called: they sleep all the time.
    "$BNPROF" record -F 499 -o waits.data -- run --threads $threads --rounds 3 --max-tokens 64 --prompt "Once upon a time" >out 2>err
    check "$threads threads: recorded" test $? -eq 0
    "$BNPROF" stages waits.data/latest --json >stages.json
    out=$(python3 check.py stages.json $threads 2>&1)
    if [ -z "$out" ]; then ok "$threads threads on $cpus cores: waits lie in their phases"; else not_ok "$threads threads on $cpus cores: waits lie in their phases" "$out"; fi
done
"$BNPROF" hotspots waits.data/latest >report
check "the table has no stage without anything" sh -c "! grep -qE '^\| [a-z_;]*wait \| 0 \| 0 ns \|' report"
"$BNPROF" run --threads $((cpus + 2)) --stages --max-tokens 8 --prompt x --quiet >out 2>err
check "without a recorder the workers' sleep is in no stage" sh -c "cat out err | grep -qE '^ ?wait ' || [ $cpus -eq 1 ]"
plan
