#!/bin/bash
# bnprof record -p: a running process is followed, with the threads and children that it gets, and left alone; ^C ends a
# recording and keeps it.
. tests/cli/lib.sh
truth=$root/$BUILD/tests/data

if ! "$BNPROF" record -e cpu-clock -- true 2>refused && grep -q 'perf events are refused' refused; then
    skip "attach" "$(sed 's/^bnprof: //' refused)"
    plan
    exit 0
fi

is() { # NAME GOT WANT
    if [ "$2" = "$3" ]; then ok "$1"; else not_ok "$1" "got '$2', expected '$3'"; fi
}

number() { # KEY: of the latest record's quality
    grep -oE "\"$1\":[0-9.]+" bnprof.data/latest/profile.json | head -1 | cut -d: -f2
}

between() { # NAME VALUE LOW HIGH
    if awk "BEGIN { exit !($2 >= $3 && $2 <= $4) }"; then ok "$1"; else not_ok "$1" "$2 is not within $3 and $4"; fi
}

alive() { kill -0 "$1" 2>/dev/null; }

# ---- for a while ----
"$truth/truth_attach" 60 &
pid=$!
sleep 0.3
check "a running process" "$BNPROF" record -p $pid --duration 1.5
check "it runs on" alive $pid
check "named after the command" ls -d bnprof.data/*-truth_attach
check "the record says what it was" grep -q "\"value\":\"process $pid\"" bnprof.data/latest/profile.json
"$BNPROF" hotspots >report.md 2>err
for function in first_spin second_spin late_spin child_spin; do
    check "$function is seen" grep -q "$function" bnprof.data/latest/profile.json
done
between "no stack is broken" "$(number n_truncated)" 0 3
# A thread that was sampled twice would give too many samples for its CPU time, one that was missed too few. CPU time is
# read in ticks of 10 ms, and that of children is not in it.
between "every thread once" "$(number achieved_hz)" 900 1900
between "for as long as asked" "$(number duration_ns)" 1500000000 6000000000

# ---- until ^C, until its end ----
"$BNPROF" record -p $pid 2>err &
recorder=$!
sleep 1
kill -INT $recorder
wait $recorder
is "^C is a good end" $? 0
check "the recording is kept" grep -qE 'truth_attach.*: [0-9,]+ samples' err
check "the process runs on" alive $pid
"$BNPROF" record -p $pid 2>err &
recorder=$!
sleep 0.7
kill $pid
wait $recorder
is "the process's end is one" $? 0
check "and kept" grep -qE 'truth_attach.*: [0-9,]+ samples' err
wait $pid 2>/dev/null
is "three recordings" "$(find bnprof.data -name profile.json | wc -l)" 3

# ---- a program that does not heed ^C ----
cat >deaf.sh <<EOF
trap '' INT
echo \$\$ >deaf.pid
exec $truth/truth_spin 20000
EOF
"$BNPROF" record -- sh deaf.sh 2>err &
recorder=$!
until [ -s deaf.pid ]; do sleep 0.05; done
sleep 0.5
kill -INT $recorder
sleep 0.5
check "the first ^C is the program's" alive $recorder
kill -INT $recorder
wait $recorder
check "the second ends the recording" grep -q 'interrupted twice' err
check "which is kept" grep -qE 'sh: [0-9,]+ samples' err
check "and the program goes on" alive "$(cat deaf.pid)"
kill "$(cat deaf.pid)"

# ---- wrong ----
fails "no such process" 1 'no such process' "$BNPROF" record -p 4194000
fails "no number" 2 'expected the number of a process' "$BNPROF" record -p x
fails "a command too" 2 'takes no command' "$BNPROF" record -p 1 -- true
fails "a duration without a process" 2 'is for --pid' "$BNPROF" record --duration 1 -- true
fails "no duration" 2 'expected seconds' "$BNPROF" record -p 1 --duration 0
fails "no timers" 1 'cannot be brought into a program that runs' "$BNPROF" record -p $$ -e timer
fails "ourselves" 1 'bnprof itself' sh -c "exec '$BNPROF' record -p \$\$"
if [ "$(id -u)" = 0 ] && command -v setpriv >/dev/null; then
    mkdir others && chmod 777 others
    fails "another user's" 1 'belongs to another user' \
        setpriv --reuid=65534 --regid=65534 --clear-groups "$BNPROF" record -o others -p $$
    fewer=--bounding-set=-sys_ptrace,-perfmon,-sys_admin # with any of these it may
    if setpriv $fewer true 2>/dev/null; then
        fails "of the same user, with more capabilities" 1 'capabilities that this one lacks \(0x4000280000\)' \
            setpriv $fewer "$BNPROF" record -o others -p $$ --duration 20
    else
        skip "of the same user, with more capabilities" "capabilities cannot be dropped here"
    fi
    printf '%s\n' '#include <sys/prctl.h>' '#include <unistd.h>' \
        'int main(void) { return prctl(PR_SET_DUMPABLE, 0) != 0 || write(1, "ready", 5) != 5 || pause(); }' >undumpable.c
    "${CC:-cc}" -o undumpable undumpable.c
    setpriv --reuid=65534 --regid=65534 --clear-groups ./undumpable >ready &
    undumpable=$!
    until [ -s ready ] || ! kill -0 $undumpable; do sleep 0.05; done
    fails "of the same user, not dumpable" 1 'is protected \(it is not dumpable' \
        setpriv --reuid=65534 --regid=65534 --clear-groups "$BNPROF" record -o others -p $undumpable --duration 20
    kill $undumpable
    wait $undumpable 2>/dev/null
else
    skip "another user's" "needs root and setpriv"
fi
before=$(find . -name profile.json | wc -l)
python3 -c '
import os, sys, time
pid = os.fork()
if pid == 0:
    os._exit(0)
print(pid, flush=True)
time.sleep(600)' >zombie &
parent=$!
until [ -s zombie ] && grep -q 'State:.*Z' "/proc/$(cat zombie)/status"; do sleep 0.05; done
fails "a zombie" 1 "^bnprof: -p $(cat zombie): the process has ended and only waits" "$BNPROF" record -p "$(cat zombie)"
kill $parent
if kthread=$(pgrep -x kthreadd); then
    fails "a thread of the kernel" 1 "^bnprof: -p $kthread: this is a thread of the kernel" "$BNPROF" record -p "$kthread"
else
    skip "a thread of the kernel" "none is to be seen from here"
fi
sleep 0.3 &
"$BNPROF" record -p $! 2>err
is "a process that ends at once, and did nothing" $? 1
check "is no recording" grep -qE '^bnprof: no samples in .*, so there is no recording$' err
true &
pid=$!
wait $pid
fails "a process that has gone" 1 'no such process' "$BNPROF" record -p $pid
if [ "$(id -u)" = 0 ] && command -v setpriv >/dev/null; then
    mkdir -m 755 closed
    setpriv --reuid=65534 --regid=65534 --clear-groups sleep 60 &
    pid=$!
    until [ "$(ps -o uid= -p $pid | tr -d ' ')" = 65534 ]; do sleep 0.05; done
    fails "a folder that cannot be written" 1 '^bnprof: closed.*Permission denied' \
        setpriv --reuid=65534 --regid=65534 --clear-groups "$BNPROF" record -o closed -p $pid
    kill $pid
    is "nothing is in it" "$(find closed -mindepth 1 | wc -l)" 0
else
    skip "a folder that cannot be written" "needs root and setpriv"
fi
is "none of these left a recording" "$(find . -name profile.json | wc -l)" "$before"
is "nothing half-made is left" "$(find . -name 'profile.part*' | wc -l)" 0
plan
