#!/bin/bash
# bnprof annotate and hotspots --by line: known programs, line by line, with and without what stands on disk.
. tests/cli/lib.sh
truth=$root/$BUILD/tests/data

if ! "$BNPROF" record -- true 2>refused && grep -q 'perf events are refused' refused; then
    skip "annotate" "$(sed 's/^bnprof: //' refused)"
    plan
    exit 0
fi

# ---- a program whose samples are in one line of an inlined function ----
cp "$truth/truth_inline" program
"$BNPROF" record -o d -- ./program 400 >/dev/null 2>err
run=$dir/d/latest
"$BNPROF" annotate outer_part "$run" >out 2>err
check "the function's own line" grep -qE '^ +[0-9]+ +27 \| .*middle_part' out
check "the inlined line has the samples" grep -qE '^ +[0-9]+ +[0-9.]+ % +[0-9]+ +15 \| .*6364136223846793005u' out
check "inlined code stands under its own name" grep -q 'truth_inline.c: inner_part, inlined$' out
check "head" grep -qE '^outer_part in program: [0-9,]+ samples of its own, [0-9.]+ % of all ' out
is_most() { # FILE: at least 90 % of outer_part's samples are in line 14 or 15 of inner_part, and the sums agree
    python3 - "$1" <<'P'
import json, sys
a = json.load(open(sys.argv[1]))
lines = [(s["function"], l) for s in a["sources"] for l in s["lines"]]
loop = sum(l["samples"] for f, l in lines if f == "inner_part" and l["line"] in (14, 15))
assert loop >= 0.9 * a["samples"] > 0, (loop, a["samples"])
assert sum(l["samples"] for f, l in lines) == a["samples"]
assert a["inclusive_samples"] >= a["samples"]
P
}
"$BNPROF" annotate outer_part "$run" --json >json 2>err
if command -v python3 >/dev/null; then
    check "JSON: the loop has the samples" is_most json
else
    skip "JSON: the loop has the samples" "no python3"
fi
if command -v objdump >/dev/null; then
    check "instructions" grep -qE '^ +[0-9]+ +[0-9.]+ % +[0-9a-f]+  truth_inline.c:1[45] +[a-z]+' out
    PATH=/nowhere "$BNPROF" annotate outer_part "$run" >no 2>err
    check "without objdump" grep -q '^No assembly: objdump is not installed' no
    "$BNPROF" annotate --no-asm outer_part "$run" >no 2>err
    check "--no-asm" grep -q '^No assembly: not asked for' no
else
    skip "instructions" "no objdump"
fi
"$BNPROF" annotate inner_part "$run" >out 2>err
check "a function that is inlined everywhere" grep -qx 'Inlined everywhere, last into outer_part.' out
check "and where its assembly is" grep -q '^No assembly: .*outer_part' out
"$BNPROF" annotate main "$run" >out 2>err
check "a caller shows what it calls" grep -qE '^ +[0-9]+ +[0-9]+ \| .*outer_part' out
"$BNPROF" annotate outer "$run" >out 2>err
check "a part of the name" grep -q '^outer_part in program' out
fails "several" 1 "several functions have '_part' in their names: .*_part" "$BNPROF" annotate _part "$run"
fails "none" 1 "no samples in a function 'nosuch'" "$BNPROF" annotate nosuch "$run"
fails "none in that module" 1 "no samples in a function 'outer_part' of libc.so.6" "$BNPROF" annotate --module libc.so.6 outer_part "$run"
fails "no function" 2 "name of a function" "$BNPROF" annotate
fails "too many" 2 "too much" "$BNPROF" annotate a b c
check "help" "$BNPROF" annotate --help

# ---- what is on disk has changed ----
printf '#include <stdio.h>\nstatic volatile long x;\nint main(void)\n{\n    for (long i = 0; i < 600000000; i++)\n        x = i;\n    return 0;\n}\n' >late.c
if gcc -g -O1 -Wl,--build-id -o late late.c 2>/dev/null; then
    "$BNPROF" record -o d -- ./late 2>err
    "$BNPROF" annotate main "$run" >out 2>err
    check "source text" grep -qE '\| +x = i;' out
    touch -d '+1 hour' late.c
    "$BNPROF" annotate main "$run" >out 2>err
    check "a source newer than the program: numbers only" test "$(grep -c '|' out)" = 0
    is_once() { [ "$(grep -c 'late.c (changed after the program was built)' out)" = 1 ]; }
    check "said once" is_once
    rm late.c
    "$BNPROF" annotate main "$run" >out 2>err
    check "a source that is gone" grep -q '^Line numbers only: .*late.c (not found)$' out
    printf 'int main(void) { return 0; }\n' >late.c
    gcc -O1 -Wl,--build-id -o late late.c
    "$BNPROF" annotate main "$run" >out 2>err
    check "a program that was replaced: no assembly" grep -q '^No assembly: .*late: the file was replaced since the recording' out
    check "its lines still have their samples" grep -qE '^ +[0-9]+ +[0-9.]+ % +[0-9]+ +[56]$' out
else
    skip "what is on disk has changed" "no gcc"
fi

# ---- a stripped program: a function is known by where it begins ----
if command -v strip >/dev/null && command -v objdump >/dev/null; then
    strip -o stripped program
    start=$(nm program | awk '$3 == "outer_part" { sub(/^0+/, "", $1); print $1 }')
    "$BNPROF" record -o s -- ./stripped 400 >/dev/null 2>err
    "$BNPROF" hotspots s/latest >out 2>err
    check "stripped: the function's start is its name" grep -qF "### 1. \`[stripped+0x$start]\`" out
    "$BNPROF" annotate "[stripped+0x$start]" s/latest >out 2>err
    check "stripped: instructions" grep -qE '^ +[0-9]+ +[0-9.]+ % +[0-9a-f]+ +[a-z]+ .*%' out
    check "stripped: no jump is named after what comes before" test "$(grep -c '<' out)" = 0
else
    skip "a stripped program" "no binutils"
fi

# ---- hotspots --by line ----
"$BNPROF" record -o e -- ./program 400 >/dev/null 2>err
run=$dir/e/latest
"$BNPROF" hotspots "$run" --by line >out 2>err
check "by line: file and line" grep -qE '^### 1\. `.*truth_inline.c:1[45]` — ' out
check "by line: the inlined functions on the path" grep -qF 'inner_part (inlined)  ← HOTSPOT' out
"$BNPROF" hotspots "$run" --by line --format text >out 2>err
check "by line, text" grep -qE '^1\. .*truth_inline.c:1[45] — ' out
"$BNPROF" hotspots "$run" --by line --format json >json 2>err
check "by line, JSON: the function" grep -q '"function":.*"inner_part"' json
"$BNPROF" hotspots "$run" --by function >out 2>err
check "by function: inlined code counts for the function" grep -qF '### 1. `outer_part`' out
"$BNPROF" hotspots "$run" --by stage >out 2>err
check "by stage, without stages" grep -qF '### 1. `(outside every stage)`' out
plan
