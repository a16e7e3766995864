#!/bin/bash
# bnprof svg on the command line: where the picture goes, what is said, what is refused.
# shellcheck source=tests/cli/lib.sh
. tests/cli/lib.sh
export BNPROF_DIR=$dir/bnprof.data
recording=$root/tests/golden/recording.json
id=20261121-101500-i2s

# svg ARGUMENT…: exit status in $status, stdout in out, stderr in err
svg() {
    "$BNPROF" svg "$@" >out 2>err </dev/null
    status=$?
}
holds() { # NAME FILE PATTERN
    if grep -qE -- "$3" "$2"; then ok "$1"; else not_ok "$1" "$2 lacks /$3/: $(head -c 600 "$2")"; fi
}
is() { # NAME GOT WANT
    if [ "$2" = "$3" ]; then ok "$1"; else not_ok "$1" "got '$2', expected '$3'"; fi
}
boxes() { # FILE: names of the boxes, in order
    sed -n '/<g id="frames"/,$p' "$1" | sed -n 's/.*data-n="[0-9]*"><title>\(.*\) ([0-9,]* samples, [0-9.]*%).*/\1/p'
}

mkdir -p "$BNPROF_DIR/$id"
cp "$recording" "$BNPROF_DIR/$id/profile.json"

svg
is "the latest recording is drawn" "$status $(cat out)" "0 $BNPROF_DIR/$id/flamegraph-i2s-20261121.svg"
picture=$BNPROF_DIR/$id/flamegraph-i2s-20261121.svg
holds "stages come first when there are stages" "$picture" 'data-n="[0-9]+"><title>generate \('
is "the kernel stands in its stage, its callers left out" \
    "$(boxes "$picture" | sed -n '/^gate_up_projection$/,/^residual_add$/p' | grep -cE '^(i2s_gem[mv]_avx512vnni|bn_pool_run)$')" 2
holds "title, date, rate, loss, grade and id" "$picture" \
    '2026-11-21 10:15:00 \+0000 · run 20261121-101500-i2s.*616 samples · cpu-clock, 999 Hz asked, 997.8 Hz achieved · lost 0 \(0.00%\) · truncated 8 \(1.30%\) · grade A'
is "nothing is left beside it" "$(ls -A "$BNPROF_DIR/$id")" "$(printf 'flamegraph-i2s-20261121.svg\nprofile.json')"

svg "$id" -o -
check "a run id and -o - give the same picture" cmp out "$picture"
svg "$BNPROF_DIR/$id/profile.json" -o here.svg
is "-o names the file and prints it" "$status $(cat out)" "0 here.svg"
check "a profile file works" cmp here.svg "$picture"
svg --by stack -o -
is "by stack every frame is drawn" "$(boxes out | sed -n '2,$p' | grep -c '^__libc_start_main$')" 1
svg --phase decode --layer 2 -o -
holds "phase and layer are said" out 'decode only · layer 2 only'
is "and other phases are gone" "$(boxes out | grep -cx decode) $(boxes out | grep -cx prefill)" "1 0"
svg --layer 3 --phase startup -o -
is "no samples: an empty picture and a line" "$status $(grep -c 'No samples' out) $(wc -l <err)" "0 1 1"
svg --callers -o -
is "callers begin with the leaf" "$(boxes out | grep -A1 '^f16_gemv_avx512$' | tail -n 1)" lm_head

printf 'a;b 3\na;c 1\n' >ok.folded
svg --folded ok.folded
is "folded stacks go to standard output" "$status $(boxes out | tr '\n' ' ')" "0 all a b c "
is "- is standard input" "$(printf 'x;y 2\n' | "$BNPROF" svg --folded - | grep -c 'data-n=')" 3
printf 'a;b 3\nnonsense\na;c 1.5\na;d 4 5\n' >bad.folded
svg --folded bad.folded -o bad.svg
is "odd lines are skipped, with one line each about it" "$status $(wc -l <err)" "0 3"
holds "with the place" err 'bad.folded: 1 line skipped; the first, line 2, has no count'
: >empty.folded
svg --folded empty.folded -o empty.svg
holds "no stacks at all: a picture that says so" empty.svg 'No samples'
for i in $(seq 2000); do echo "a;b$i;c 1"; done >many.folded
svg --folded many.folded --min-width 1 -o many.svg
holds "what is left out is counted" many.svg '4,000 boxes narrower than 1 px not drawn; 100.00% of the samples end in them'
holds "on stderr too" err '4000 boxes narrower than 1 px'

fails "a bad order" 2 "--by colour: expected stage, stack or thread" "$BNPROF" svg --by colour
fails "a bad layer" 2 "--layer -1" "$BNPROF" svg --layer=-1
fails "a bad width" 2 "--min-width wide" "$BNPROF" svg --min-width wide
fails "two recordings" 2 "one recording at most" "$BNPROF" svg a b
fails "folded and recording" 2 "one of them" "$BNPROF" svg --folded ok.folded latest
fails "folded has no stages" 2 "need a recording" "$BNPROF" svg --folded ok.folded --by stage
fails "an unknown option" 2 "unrecognized option" "$BNPROF" svg --colour
fails "an unknown stage" 1 "no stage 'ffm' in this recording; it has .*decode" "$BNPROF" svg --phase ffm
fails "an unknown layer" 1 "no layer 99 in this recording; the last one is 3" "$BNPROF" svg --layer 99
fails "no such recording" 1 "nowhere" "$BNPROF" svg nowhere
fails "no such folded file" 1 "gone.folded: No such file" "$BNPROF" svg --folded gone.folded
fails "a folder as folded file" 1 "cannot be read: Is a directory" "$BNPROF" svg --folded . -o x.svg
fails "an unwritable place" 1 "no/such/place.svg" "$BNPROF" svg -o no/such/place.svg
fails "a folder as output" 1 "bnprof.data" "$BNPROF" svg -o "$BNPROF_DIR"
head -c 300 "$recording" >cut.json
fails "a damaged profile" 1 "cut.json" "$BNPROF" svg cut.json -o cut.svg
is "failures leave nothing behind" "$(ls ./*.tmp* x.svg cut.svg 2>/dev/null)" ""
if [ -w /dev/full ]; then
    "$BNPROF" svg -o - >/dev/full 2>err
    is "a full disk is an error" "$? $(head -n 1 err)" "1 bnprof: standard output: cannot be written: No space left on device"
else
    skip "a full disk is an error" "no /dev/full"
fi
plan
