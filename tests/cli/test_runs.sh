#!/bin/bash
# What RUN means when names mislead: runs of one second, of another time zone, of one hour that comes twice.
. tests/cli/lib.sh

if ! "$BNPROF" record -- true 2>refused && grep -qE 'refused|cannot' refused; then
    skip "runs" "$(sed 's/^bnprof: //' refused)"
    plan
    exit 0
fi

is() { # NAME GOT WANT
    if [ "$2" = "$3" ]; then ok "$1"; else not_ok "$1" "got '$2', expected '$3'"; fi
}

# A program of any name that works for the given part of a second.
cat >work.c <<'C'
#include <stdlib.h>
#include <time.h>
int main(int argc, char **argv)
{
    volatile double x = 0;
    double end = (argc > 1 ? atof(argv[1]) : 0.1) * CLOCKS_PER_SEC;
    while ((double)clock() < end)
        x += 1;
    return 0;
}
C
gcc -O1 -g -o zz work.c && cp zz aa || exit 1
record() { "$BNPROF" record "$@" 2>err || { cat err; exit 1; }; }
told() { sed -n '1s/:.*//p' <("$BNPROF" flags "$@" 2>/dev/null); }
agree() { # NAME SUFFIX: the link, every spelling of the default, the list and its newest are the run that ends so
    local link
    link=$(readlink bnprof.data/latest)
    case $link in *-"$2") ok "$1: the link" ;; *) not_ok "$1: the link" "$link" ;; esac
    is "$1: by default" "$(told)" "$link"
    is "$1: latest" "$(told latest)" "$link"
    is "$1: latest~0" "$(told latest~0)" "$link"
    is "$1: list" "$("$BNPROF" list | awk 'NR == 2 { print $1 }')" "$link"
}

# ---- names of one second: the later name of the alphabet first, until both are of one ----
rm -rf bnprof.data
for _ in 1 2 3 4 5 6; do
    record -F 4999 -- ./zz 0.03
    record -F 4999 -- ./aa 0.03
    zz=$(cd bnprof.data && ls -d -- *-zz* | tail -1) aa=$(cd bnprof.data && ls -d -- *-aa* | tail -1)
    [ "${zz%-zz*}" = "${aa%-aa*}" ] && break
    rm -rf bnprof.data
done
if [ -d bnprof.data ]; then
    agree "two in a second" aa
    is "two in a second: the one before" "$(told latest~1)" "$zz"
else
    skip "two in a second" "this host is too slow for two recordings within a second"
fi

# ---- east of here ----
rm -rf bnprof.data
TZ=IST-5:30 record -F 4999 -- ./zz 0.03
first=$(readlink bnprof.data/latest)
TZ=UTC record -F 4999 -- ./aa 0.03
agree "another time zone" aa
TZ=PST8 record -F 4999 -- ./zz 0.03
agree "another time zone, back" zz
TZ=UTC "$BNPROF" hotspots --compare previous >report.md 2>err
is "another time zone: previous is what was recorded before" \
    "$(sed -n 's/^\*\*Previous Baseline\*\*: \([^ ]*\) .*/\1/p' report.md)" "$first"

# ---- overlapping ones: the link names what was finished last ----
rm -rf bnprof.data
"$BNPROF" record -F 499 -- ./zz 1.5 2>err.zz &
until ls bnprof.data/*-zz >/dev/null 2>&1; do sleep 0.02; done
record -F 4999 -- ./aa 0.03
agree "while another is recorded" aa
wait $!
agree "when that is finished" zz

# ---- without the link ----
rm bnprof.data/latest
is "no link: the one that was started last" "$(told)" "$(cd bnprof.data && ls -d -- *-aa)"

cd / && rm -rf "$dir"
plan
