#!/bin/bash
# profile.part that was damaged, that lies where nothing can be written, or whose disk was full.
. tests/cli/lib.sh
export PYTHONPATH=$root/tests/cli PYTHONDONTWRITEBYTECODE=1
truth=$root/$BUILD/tests/data

if ! "$BNPROF" record -e cpu-clock -- true 2>refused && grep -qE 'refused|cannot' refused; then
    skip "partial" "$(sed 's/^bnprof: //' refused)"
    plan
    exit 0
fi

is() { # NAME GOT WANT
    if [ "$2" = "$3" ]; then ok "$1"; else not_ok "$1" "got '$2', expected '$3'"; fi
}
has() { # NAME PATTERN FILE
    if grep -qE -- "$2" "$3"; then ok "$1"; else not_ok "$1" "no /$2/ in: $(cat "$3")"; fi
}
count() { python3 -c 'import json, sys; print(len(json.load(open(sys.argv[1]))["samples"]["dt_ns"]))' "$1"; }

# ---- a recording that was cut off ----
rm -rf bnprof.data
"$BNPROF" record -F 999 -- "$truth/truth_stop" 60000 >out 2>err &
pid=$!
until grep -q ready out || ! kill -0 $pid 2>/dev/null; do sleep 0.05; done
program=$(sed -n 's/^ready //p' out)
until [ "$(cut -d' ' -f1 <"/proc/$program/schedstat")" -gt 1500000000 ] || ! kill -0 "$program" 2>/dev/null; do sleep 0.1; done
kill -KILL $pid
wait $pid 2>/dev/null
kill -TERM "$program"
run=$(cd bnprof.data && ls -d -- *-truth_stop)
mv bnprof.data kept
again() { # a fresh copy
    rm -rf bnprof.data
    cp -a kept bnprof.data
}

again
check "cut off: read" "$BNPROF" hotspots "$run"
whole=$(count "bnprof.data/$run/profile.json")
is "cut off: profile.part is not needed any more" "$(ls "bnprof.data/$run")" profile.json

# ---- one bit in the middle ----
cat >flip.py <<'P'
# One bit in the payload of the middle block of samples; prints its bytes on disk and its number of samples.
import struct, sys
b = bytearray(open(sys.argv[1], 'rb').read())
at, found = 8, []
while at + 16 <= len(b):
    kind, n, _, _ = struct.unpack_from('<IIII', b, at)
    if kind == 10:
        found.append((at, n))
    at += 16 + (n + 7) // 8 * 8
at, n = found[len(found) // 2]
b[at + 16 + n // 2] ^= 4
open(sys.argv[1], 'wb').write(b)
print(16 + (n + 7) // 8 * 8, (n - 8) // 32)
P
again
read -r lost_bytes lost_samples < <(python3 flip.py "bnprof.data/$run/profile.part")
cksum <"bnprof.data/$run/profile.part" >before
"$BNPROF" hotspots "$run" >report.md 2>err
is "a flipped bit: status" $? 0
has "a flipped bit: how much was ignored, and why" "profile.part is damaged: $lost_bytes bytes fail their checksum and were ignored" err
is "a flipped bit: nothing else is missing" "$(count "bnprof.data/$run/profile.json")" $((whole - lost_samples))
has "a flipped bit: the report says so" "Damaged.*: $lost_bytes bytes of the recording fail their checksum.*up to [0-9]+ samples" report.md
check "a flipped bit: the file is kept as it was" sh -c "cksum <'bnprof.data/$run/profile.part' | cmp - before"
"$BNPROF" flags "$run" >flags 2>err
is "a flipped bit: read again from the finished record" "$(cat err)" ""
has "a flipped bit: lost samples" "bytes of the recording that fail their checksum" flags

# ---- the header's ----
again
printf '\377' | dd of="bnprof.data/$run/profile.part" bs=1 seek=100 conv=notrunc 2>/dev/null
"$BNPROF" hotspots "$run" >report.md 2>err
is "no header: status" $? 1
has "no header: says why" "the header block fails its checksum" err
is "no header: the file is kept" "$(ls "bnprof.data/$run")" profile.part

# ---- where nothing can be written ----
reads_from_memory() { # NAME COMMAND…
    local name=$1
    shift
    "$@" >report 2>err
    is "$name: status" $? 0
    has "$name: says that it is from memory" "could not be stored and is used from memory" err
    is "$name: profile.part stays" "$(ls "bnprof.data/$run")" profile.part
}
if [ "$(id -u)" -eq 0 ] && command -v setpriv >/dev/null; then
    again
    chmod 755 . && chmod -R a+rX bnprof.data && cp "$BNPROF" ./bn && chmod 755 bn
    nobody() { setpriv --reuid=65534 --regid=65534 --clear-groups "$dir/bn" "$@"; }
    if nobody --version >/dev/null 2>&1; then
        reads_from_memory "another user's folder: hotspots" nobody hotspots "$run"
        has "another user's folder: hotspots: a report" "CPU Time Consumers" report
        reads_from_memory "another user's folder: flags" nobody flags "$run"
        reads_from_memory "another user's folder: by default" nobody hotspots
        reads_from_memory "another user's folder: flame graph" nobody svg -o - "$run"
        has "another user's folder: flame graph: an image" "</svg>" report
        has "another user's folder: list" "cut off" <(nobody list)
        mkdir "bnprof.data/20200101-000000-old"
        cp -p "bnprof.data/$run/profile.part" "bnprof.data/20200101-000000-old/"
        chmod -R a+rX bnprof.data
        nobody hotspots --compare previous "$run" >report 2>err
        is "another user's folder: compared with another such: status" $? 0
        is "another user's folder: compared with another such: both from memory" "$(grep -c 'used from memory' err)" 2
    else
        skip "another user's folder" "another user cannot run programs in $dir"
    fi
else
    skip "another user's folder" "not root, or no setpriv"
fi
again
small() { (ulimit -f 4 && "$@"); }
reads_from_memory "no room for the finished record" small "$BNPROF" flags "$run"
is "no room for the finished record: nothing half-written" "$(ls -A "bnprof.data/$run")" profile.part

# ---- a disk that is full while a program is recorded ----
rm -rf bnprof.data
(ulimit -f 32 && exec "$BNPROF" record -F 4999 -- "$truth/truth_stop" 1000 >out 2>err)
is "disk full: status" $? 1
is "disk full: one line" "$(grep -c 'profile.part' err)" 1
has "disk full: kept, and how to read it" "profile.part: .*; what was recorded until then is kept and can be read: bnprof hotspots bnprof.data/[0-9]+-[0-9]+-truth_stop" err
eval "$(sed -n 's/.*can be read: bnprof //p' err | sed "s|^|'$BNPROF' |") >report.md 2>err"
is "disk full: the line's command works" $? 0
check "disk full: it has what was recorded" test "$(count bnprof.data/*-truth_stop/profile.json)" -gt 100
rm -rf bnprof.data
(ulimit -f 1 && exec "$BNPROF" record -F 999 -- "$truth/truth_stop" 300 >out 2>err)
is "disk full at once: status" $? 1
has "disk full at once: says so" "nothing had been recorded until then" err
check "disk full at once: leaves no folder" test ! -e bnprof.data

cd / && rm -rf "$dir"
plan
