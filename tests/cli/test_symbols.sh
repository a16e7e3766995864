#!/bin/bash
# What a recording says about files that it could not name in full: each once, with its share.
. tests/cli/lib.sh

if ! "$BNPROF" record -- true 2>refused && grep -q 'perf events are refused' refused; then
    skip "symbols" "$(sed 's/^bnprof: //' refused)"
    plan
    exit 0
fi
if ! command -v gcc >/dev/null || ! command -v strip >/dev/null; then
    skip "symbols" "no gcc or strip"
    plan
    exit 0
fi

cat >work.c <<'C'
static volatile long sink;
__attribute__((noinline)) static void hidden(long n) { for (long i = 0; i < n; i++) sink = i; }
void work(long n); void work(long n) { hidden(n / 2); for (long i = 0; i < n; i++) sink = i; }
C
cat >main.c <<'C'
#include <stdio.h>
#include <stdlib.h>
void work(long n);
int main(int c, char **v) { puts("ready"); fflush(stdout); work(c > 1 ? atol(v[1]) : 300000000); return 0; }
C
gcc -O1 -fPIC -shared -Wl,--build-id -o libwork.so work.c &&
    gcc -g -O1 -Wl,--build-id -o main main.c -L. -lwork -Wl,-rpath,"$dir" || exit 1
"$BNPROF" record -o plain -- ./main >/dev/null 2>err
"$BNPROF" hotspots plain/latest >out
check "no debug information: once, with its share and what to do" \
    grep -qE '^- \*\*Module libwork.so\*\*: no debug information, (9[0-9]|100)\.[0-9] % of the samples; build it with -g' out
is_one() { [ "$(grep -c 'Module libwork.so' "$1")" = 1 ]; }
check "once" is_one out
"$BNPROF" hotspots plain/latest --format text >out
check "in text" grep -qE '^[- ]*Module libwork.so: no debug information' out
"$BNPROF" hotspots plain/latest --format json >json
check "in JSON" grep -qF '"fault":	"no debug information"' json
strip libwork.so
"$BNPROF" record -o stripped -- ./main >/dev/null 2>err
"$BNPROF" hotspots stripped/latest >out
check "no symbol table" grep -qE 'Module libwork.so\*\*: no debug information and no symbol table' out
"$BNPROF" annotate work stripped/latest >out 2>err
check "annotate without debug information" grep -qE '^(source not known|No assembly|Assembly)' out
gcc -g -O1 -fPIC -shared -Wl,--build-id -o libwork.so work.c
"$BNPROF" record -o full -- ./main >/dev/null 2>err
"$BNPROF" hotspots full/latest >out
silent() { ! grep -q 'Module libwork.so' out; }
check "with -g nothing is said" silent

# ---- a file that is replaced while it runs is refused ----
"$BNPROF" record -o other -- ./main 900000000 >ready 2>err &
pid=$!
until grep -qs ready ready || ! kill -0 $pid 2>/dev/null; do sleep 0.05; done
gcc -g -O0 -fPIC -shared -Wl,--build-id -o new.so work.c && mv new.so libwork.so
wait $pid
"$BNPROF" hotspots other/latest >out
"$BNPROF" hotspots other/latest --format json >json
if grep -q '"state":	"other_file"' json; then
    check "refused, with its share" \
        grep -qE 'Module libwork.so\*\*: .*replaced since the recording.*, [0-9.]+ % of the samples; record again' out
else # its names were read before it was replaced
    check "named before it was replaced" grep -q '`work`' out
fi
plan
