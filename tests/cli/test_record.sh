#!/bin/bash
# bnprof record: the program runs as it would alone, and what is left behind is a whole recording or none.
. tests/cli/lib.sh
truth=$root/$BUILD/tests/data

if ! "$BNPROF" record -e cpu-clock -- true 2>refused && grep -q 'perf events are refused' refused; then
    skip "record" "$(sed 's/^bnprof: //' refused)"
    plan
    exit 0
fi

runs() { # number of finished recordings below DIR
    find "${1:-bnprof.data}" -mindepth 2 -name profile.json 2>/dev/null | wc -l
}

is() { # NAME GOT WANT
    if [ "$2" = "$3" ]; then ok "$1"; else not_ok "$1" "got '$2', expected '$3'"; fi
}

wait_for() { # FILE PATTERN: until the file has a line that matches, or the program it should come from has ended
    until grep -qsE -- "$2" "$1" || ! kill -0 "$pid" 2>/dev/null; do sleep 0.05; done
}

# ---- the program is left alone ----
"$BNPROF" record -- "$truth/truth_spin" 120 7 2>err
is "status is the program's" $? 7
is "a finished recording" "$(runs)" 1
is "latest is a relative link to it" "$(readlink bnprof.data/latest)" "$(basename "$(find bnprof.data -mindepth 1 -type d)")"
check "named after the command" ls -d bnprof.data/*-truth_spin
is "no profile.part stays" "$(find bnprof.data -name 'profile.part*' | wc -l)" 0
check "closing line" grep -qE '^bnprof: bnprof.data/.*-truth_spin: [0-9,]+ samples, .* lost, .* grade [A-D]$' err
"$BNPROF" record -- "$truth/truth_stop" 120 11 >out 2>err
is "a signal is 128+n" $? 139
is "its recording is kept" "$(runs)" 2
printf 'a\0b\nc' >in
"$BNPROF" record -- sh -c "cat; echo err >&2; exec $truth/truth_spin 60" <in >out 2>err
check "stdin and stdout are untouched" cmp in out
check "stderr carries the program's lines" grep -qx err err
"$BNPROF" record -o closed -- "$truth/truth_spin" 300 2>&-
is "without a standard error" "$?/$(find closed -name profile.json | wc -l)" 0/1
"$BNPROF" record -e timer -o closed -- "$truth/truth_spin" 300 <&- >&- 2>&-
is "without any standard file" "$?/$(find closed -name profile.json | wc -l)" 0/2
mkdir -p taken/latest
"$BNPROF" record -o taken -- "$truth/truth_spin" 300 2>err
is "no link can be made: the recording is whole" "$?/$(find taken -name profile.json | wc -l)" 0/1
check "no link can be made: it says so" grep -qE 'warning: taken/latest: .*; the recording is whole: taken/' err
BNPROF_DIR=elsewhere "$BNPROF" record -- "$truth/truth_spin" 60 2>err
"$BNPROF" record -o elsewhere -F 499 -g -- "$truth/truth_spin" 60 2>>err
is "BNPROF_DIR and -o name the folder" "$(runs elsewhere)" 2
"$BNPROF" record -o fp --call-graph fp -- "$truth/truth_spin" 60 2>err
is "frame pointers" "$(runs fp)" 1
"$BNPROF" record --call-graph dwarf,4096 -o d -- "$truth/truth_spin" 60 2>err
is "perf's way to give the dump's size" "$(runs d)" 1
env -C "$dir" "$BNPROF" record -- "$truth/truth_spin" 60 3 2 2>err
is "threads" $? 3

# ---- the programs that do not start, the folder that cannot be made ----
rm -rf bnprof.data
fails "exec fails" 1 '^bnprof: nosuch-program: No such file or directory$' "$BNPROF" record -- nosuch-program
echo plain >plain
fails "not executable" 1 '^bnprof: \./plain: Permission denied$' "$BNPROF" record -- ./plain
fails "the folder cannot be made" 1 '^bnprof: /proc/nowhere.*' "$BNPROF" record -o /proc/nowhere -- touch started
fails "the folder is a file" 1 '^bnprof: plain.*' "$BNPROF" record -o plain -- touch started
check "and the program was not started" test ! -e started
"$truth/truth_noperf" "$BNPROF" record -e cpu-clock -- touch started >out 2>err
status=$?
if [ $status = 77 ]; then
    skip "refused perf events" "seccomp filters are not available here"
else
    is "refused perf events: status" $status 1
    is "refused perf events: one line" "$(wc -l <err)" 1
    check "refused perf events: why and what to set" grep -q 'seccomp active.*--cap-add PERFMON' err
    check "refused perf events: the program was not started" test ! -e started
fi
check "nothing is left behind" test ! -e bnprof.data
fails "no command" 2 'nothing to record' "$BNPROF" record
fails "dump size not a multiple of 8" 2 "multiple of 8 from 8 to 65528" "$BNPROF" record --stack-dump 100 -- true
fails "dump size too large" 2 "multiple of 8 from 8 to 65528" "$BNPROF" record --stack-dump 65536 -- true
fails "rate 0" 2 "samples per second from 1" "$BNPROF" record -F 0 -- true
fails "unknown event" 2 "auto, cycles, cpu-clock or timer" "$BNPROF" record -e llc-misses -- true
fails "unknown call graph" 2 "dwarf, dwarf,BYTES or fp" "$BNPROF" record --call-graph lbr -- true
DEBUGINFOD_URLS='' fails "debuginfod without servers" 1 "DEBUGINFOD_URLS names no servers" "$BNPROF" record --debuginfod -- true
fails "unknown option" 2 "unrecognized option" "$BNPROF" record --nonsense -- true

# ---- signals ----
setsid "$BNPROF" record -- "$truth/truth_stop" 60000 >out 2>err &
pid=$!
wait_for out ready
sleep 0.3
kill -INT -- -$pid
wait $pid
is "^C reaches the program, the recorder waits for its status" $? 42
is "^C: the recording is finished" "$(runs)" 1
setsid "$BNPROF" record -- "$truth/truth_stop" 60000 >out 2>err &
pid=$!
wait_for out ready
sleep 0.3
kill -TERM $pid
wait $pid
is "SIGTERM is passed on" $? 43
is "SIGTERM: the recording is finished" "$(runs)" 2
"$BNPROF" record -- sh -c "sleep 60 & echo \$! >background; exec $truth/truth_spin 100 4" >out 2>err
is "a program left in the background does not hold the recorder" $? 4
check "it goes on" kill "$(cat background)"

# ---- a recorder that is killed ----
rm -rf bnprof.data
setsid "$BNPROF" record -- "$truth/truth_stop" 60000 >out 2>err &
pid=$!
wait_for out ready
sleep 1.5
run=$(find bnprof.data -mindepth 1 -type d)
fails "a recording in progress is left alone" 1 'still being recorded' "$BNPROF" flags "$run"
kill -KILL $pid
wait $pid 2>/dev/null
program=$(sed -n 's/^ready //p' out)
check "the program goes on" kill -TERM "$program"
"$BNPROF" flags "$run" >out 2>err
is "any command finishes what is left" $? 0
is "finished" "$(runs)" 1
check "as a partial recording" grep -qE '"partial": ?true' "$run/profile.json"
check "profile.part is gone" test ! -e "$run/profile.part"
is "latest points to it" "$(readlink bnprof.data/latest)" "$(basename "$run")"

# ---- a full disk ----
rm -rf bnprof.data
(
    ulimit -f 64 # KiB
    "$BNPROF" record -e cpu-clock -F 4999 -- sh -c "$truth/truth_spin 1500 5; echo done >finished" >out 2>err
    echo $? >status
)
is "full disk: status" "$(cat status)" 1
is "full disk: one line" "$(grep -c '^bnprof:' err)" 1
check "full disk: says so" grep -qE 'profile.part: (File too large|No space left)' err
check "full disk: the program was not disturbed" test -s finished
is "full disk: nothing pretends to be complete" "$(runs)$(find bnprof.data -name latest)" 0

# The same on a file system: first no room for the samples, then for the finished record beside them.
full() { # KIB
    "$BNPROF" record -e cpu-clock -F 4999 -o "full-$1" -- sh -c "$truth/truth_spin 1000 5; echo done >finished-$1" >out 2>err
    is "full file system of $1 KiB: status" $? 1
    is "full file system of $1 KiB: one line" "$(grep -c '^bnprof:.*No space left' err)" 1
    check "full file system of $1 KiB: the program was not disturbed" test -s "finished-$1"
    is "full file system of $1 KiB: nothing pretends to be complete" "$(runs "full-$1")$(find "full-$1" -name latest)" 0
    is "full file system of $1 KiB: no half-written file" "$(find "full-$1" -type f ! -name profile.part | wc -l)" 0
}
mkdir full-64 full-176
if mount -t tmpfs -o size=64k none full-64 2>/dev/null && mount -t tmpfs -o size=176k none full-176 2>/dev/null; then
    full 64
    full 176
    "$BNPROF" list >/dev/null 2>err
    mount -o remount,size=1m full-176
    check "with room again any command finishes it" "$BNPROF" hotspots "$(echo full-176/*-sh)" -o report.md
    is "as a whole recording" "$(runs full-176)" 1
else
    skip "full file system" "tmpfs cannot be mounted here"
fi
umount full-64 full-176 2>/dev/null

# ---- an ordinary user ----
if [ "$(id -u)" = 0 ] && command -v setpriv >/dev/null && [ "$(cat /proc/sys/kernel/perf_event_paranoid)" = 2 ]; then
    mkdir -m 777 user
    chmod 755 "$dir"
    as_nobody() {
        (cd user && setpriv --reuid=65534 --regid=65534 --clear-groups --inh-caps=-all "$@")
    }
    if as_nobody test -x "$BNPROF" -a -x "$truth/truth_spin"; then
        as_nobody "$BNPROF" record -- "$truth/truth_spin" 200 6 2>err
        is "ordinary user: status" $? 6
        is "ordinary user: recorded" "$(runs user/bnprof.data)" 1
        check "ordinary user: the record says what is not seen" \
            grep -q 'time in the kernel is not seen' user/bnprof.data/latest/profile.json
        as_nobody bash -c "ulimit -l 0; exec '$BNPROF' record -- '$truth/truth_spin' 200 6" 2>err
        is "no locked memory: status" $? 6
        is "no locked memory: smaller rings" "$(runs user/bnprof.data)" 2
        mkdir -m 755 closed
        ln -s "$dir/closed" user/closed
        as_nobody "$BNPROF" record -o closed -- touch started >out 2>err
        is "ordinary user: unwritable folder" "$?$(wc -l <err)$(find user -name started)" 11
        check "ordinary user: the line names it" grep -qE '^bnprof: closed.*Permission denied' err
    else
        skip "ordinary user" "uid 65534 cannot reach $BNPROF"
    fi
else
    skip "ordinary user" "needs root, setpriv and kernel.perf_event_paranoid=2"
fi

# ---- the engine ----
rm -rf bnprof.data
"$BNPROF" record -F 499 -- run --rounds 2 >out 2>err
is "engine: status" $? 0
check "engine: named after the model's format" ls -d bnprof.data/*-i2s
is "engine: one recording" "$(runs) $(find bnprof.data -mindepth 1 -type d | wc -l)" "1 1"
"$BNPROF" run --rounds 2 >plain-out 2>/dev/null
check "engine: says the same as alone" cmp out plain-out
for stage in forward_pass ffn_norm lm_head sample_token; do
    check "engine: stage $stage" grep -q "\"$stage\"" bnprof.data/latest/profile.json
done
rm -rf bnprof.data
fails "engine: a missing model" 1 '^bnprof: .*nosuch.gguf' "$BNPROF" record -- run --model nosuch.gguf
fails "engine: a wrong option" 2 'unrecognized option' "$BNPROF" record -- run --nonsense
check "engine: nothing is left behind" test ! -e bnprof.data
plan
