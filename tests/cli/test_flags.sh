#!/bin/bash
# bnprof flags, list, stages, fingerprint: what they say about real recordings, and about none.
. tests/cli/lib.sh
truth=$root/$BUILD/tests/data

fails "flags without a recording" 1 '^bnprof: no recording in bnprof.data; make one with: bnprof record -- run$' "$BNPROF" flags
fails "stages without a recording" 1 '^bnprof: no recording in bnprof.data' "$BNPROF" stages
check "list without a recording" "$BNPROF" list
for command in flags stages list fingerprint; do
    fails "$command: unknown option" 2 'unrecognized option' "$BNPROF" $command --nix
done
fails "list takes no argument" 2 "no argument expected, 'x' is one" "$BNPROF" list x
fails "stages takes one RUN" 2 "one RUN expected, 'b' is a second" "$BNPROF" stages a b
fails "--strict takes warning or a grade" 2 'warning, A, B, C or D expected' "$BNPROF" flags --strict=E

json() { # FILE EXPRESSION: prints the value of a JavaScript expression over the JSON in FILE, as `j`
    node -e 'const j = JSON.parse(require("fs").readFileSync(process.argv[1])); console.log(eval(process.argv[2]))' "$1" "$2"
}

is() { # NAME GOT WANT
    if [ "$2" = "$3" ]; then ok "$1"; else not_ok "$1" "got '$2', expected '$3'"; fi
}

have_node=
command -v node >/dev/null && have_node=1
is_json() { # NAME FILE EXPRESSION WANT
    if [ -n "$have_node" ]; then is "$1" "$(json "$2" "$3" 2>&1)" "$4"; else skip "$1" "no node to read JSON with"; fi
}

"$BNPROF" fingerprint --json >fp.json
first_cpu=$(taskset -cp $$ | sed 's/.*: *\([0-9]*\).*/\1/')
taskset -c "$first_cpu" "$BNPROF" fingerprint --json >fp1.json
is_json "fingerprint: the CPU's name" fp.json j.cpu_model "$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1)"
is_json "fingerprint: CPUs" fp.json j.cpus "$(getconf _NPROCESSORS_ONLN)"
is_json "fingerprint: cores on one CPU" fp1.json j.usable_cores 1
is_json "fingerprint: this binary" fp.json 'j.binary_bytes' "$(stat -Lc %s "$BNPROF")"
is_json "fingerprint: boot" fp.json 'j.boot_id' "$(cat /proc/sys/kernel/random/boot_id)"
check "fingerprint --md" sh -c "'$BNPROF' fingerprint --md | grep -q '^## System Configuration'"

if ! "$BNPROF" record -- true 2>refused && grep -q 'perf events are refused' refused; then
    skip "flags of recordings" "$(sed 's/^bnprof: //' refused)"
    plan
    exit 0
fi
rm -rf bnprof.data

# ---- a run of the engine: nothing critical ----
"$BNPROF" record -- run --prompt '2+2=' --max-tokens 64 --rounds 60 --quiet >/dev/null 2>err
"$BNPROF" flags --json >good.json
is_json "the real kernels raise no critical flag" good.json 'j.flags.filter(f => f.severity == "critical").length' 0
is_json "every flag is raised, clear or not computed" good.json 'j.flags.length + j.clear.length + j.not_computed.length' 17
is_json "a reason for each that is not computed" good.json 'j.not_computed.every(f => f.reason.length > 5)' true
is_json "mock-kernel is computed" good.json 'j.clear.includes("mock-kernel")' true
check "--strict lets it pass" "$BNPROF" flags --strict
"$BNPROF" stages --json >stages.json
is_json "stages: the root" stages.json 'j.name' all
is_json "stages: decode has its calls" stages.json \
    'j.children.find(s => s.name == "generate").children.find(s => s.name == "decode").calls > 60' true
check "stages as a table" sh -c "'$BNPROF' stages | grep -q 'gate_up_projection *[0-9]'"
good=$(readlink bnprof.data/latest)

# ---- thresholds ----
printf '# ours\nfew-samples 1000000000\n' >high
"$BNPROF" flags --thresholds high --strict=warning >out
is "--thresholds and --strict=warning" $? 3
check "the flag and its numbers are printed" grep -qE '^RAISED +few-samples +warning: [0-9]+ samples \(threshold 1e\+09\)' out
"$BNPROF" flags --thresholds high --strict=C >/dev/null
is "--strict=GRADE" $? 3
check "--strict=D" "$BNPROF" flags --thresholds high --strict=D
printf '\nmemcpy-sher 3\n' >wrong
fails "a misspelt threshold" 1 "^bnprof: wrong:2: no flag is called 'memcpy-sher'" "$BNPROF" flags --thresholds wrong
fails "no such thresholds" 1 '^bnprof: absent: No such file' "$BNPROF" flags --thresholds absent

# ---- the mock kernel ----
"$BNPROF" record -- run --kernel mock --prompt '2+2=' --max-tokens 64 --rounds 60 --quiet >/dev/null 2>err
check "record warns of the mock kernel" grep -q '^bnprof: critical: mock-kernel: ' err
"$BNPROF" flags --json --strict >mock.json
is "flags --strict refuses the mock kernel" $? 3
is_json "mock-kernel is critical" mock.json 'j.flags.find(f => f.id == "mock-kernel").severity' critical
is_json "its value counts samples or dispatches" mock.json 'j.flags.find(f => f.id == "mock-kernel").value > 0' true
check "an older run is still good" "$BNPROF" flags --strict "$good"

# ---- programs that allocate and copy too much ----
for case in alloc:allocator-share:allocate_too_much memcpy:memcpy-share:copy_too_much; do
    IFS=: read -r program id culprit <<<"$case"
    "$BNPROF" record -- "$truth/truth_$program" >/dev/null 2>err
    check "truth_$program raises $id" grep -qE "^bnprof: warning: $id: .*$culprit" err
    "$BNPROF" flags --json >foreign.json
    is_json "truth_$program raises no other flag on the program" foreign.json \
        "j.flags.map(f => f.id).filter(id => j.flags.length && /-share/.test(id)).join()" "$id"
done
"$BNPROF" stages >out 2>err
is "stages of a foreign program" $? 0
check "says that there are none" grep -q 'has no stages' err
"$BNPROF" stages --json >none.json
is_json "and an empty tree" none.json 'j.children.length' 0

# ---- list ----
"$BNPROF" list >out
is "list shows all, newest first" "$(awk 'NR > 1 { print $1 }' out | sort -r | cmp - <(awk 'NR > 1 { print $1 }' out) && wc -l <out)" 5
check "with model, format and command" grep -qE "^$good +[A-D] +[0-9]+ +i2s +[^ ]+ .* run --prompt" out
echo '{"schema":"bnprof-profile","version":1}' >"bnprof.data/$good/profile.json"
fails "a damaged record" 1 "^bnprof: bnprof.data/$good/profile.json: [a-z]+: expected" "$BNPROF" flags "$good"
check "does not hide the others" sh -c "'$BNPROF' list | grep -q truth_alloc"
plan
