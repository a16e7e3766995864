#!/bin/bash
# bnprof synth: files that inspect and run take, the same for the same seed, nothing left behind on failure.
# shellcheck source=tests/cli/lib.sh
. tests/cli/lib.sh

check 'a tiny model' "$BNPROF" synth --shape tiny -o tiny.gguf
check 'inspect finds no problem' bash -c '"$1" inspect tiny.gguf | grep -qx "  0 problems"' - "$BNPROF"
check 'it runs' "$BNPROF" run --model tiny.gguf --prompt 'abc' --max-tokens 3 --greedy
for wtype in f16 bf16 f32 q8_0 q4_k; do
    for etype in f16 bf16 f32 q6_k q4_0; do
        "$BNPROF" synth --shape tiny --wtype $wtype --etype $etype -o m.gguf 2>err.txt
        check "$wtype weights, $etype embedding run" "$BNPROF" run --model m.gguf --prompt 'abc' --max-tokens 2 --greedy
    done
done
for wtype in qk256 bitnet32 tq1_0 tq2_0; do
    "$BNPROF" synth --shape tiny --wtype $wtype -o m.gguf 2>err.txt
    check "$wtype weights: no problem" bash -c '"$1" inspect m.gguf >out.txt && grep -qx "  0 problems" out.txt && grep -q "$2 weights" out.txt' - "$BNPROF" $wtype
    check "$wtype weights run" "$BNPROF" run --model m.gguf --prompt 'abc' --max-tokens 2 --greedy
done
"$BNPROF" synth --shape tiny -o again.gguf 2>err.txt
check 'the same seed, the same file' cmp tiny.gguf again.gguf
"$BNPROF" synth --shape tiny --seed 2 -o other.gguf 2>err.txt
check 'another seed, another file' bash -c '! cmp -s tiny.gguf other.gguf'
"$BNPROF" synth --shape tiny -o - >piped.gguf 2>err.txt
check 'to standard output' cmp tiny.gguf piped.gguf
check 'the demo model lends its vocabulary' "$BNPROF" synth --shape tiny --tokenizer "$root/core/tiny-bitnet-i2s.gguf" -o v.gguf
check 'which then tokenizes alike' bash -c 'a=$(echo "The capital of France" | "$1" tokenize) && b=$(echo "The capital of France" | "$1" tokenize --model v.gguf) && [ "$a" = "$b" ]' - "$BNPROF"
check 'the shapes are listed' bash -c '"$1" synth --shape list | grep -q "^2b4t "' - "$BNPROF"

fails 'no shape' 2 '--shape expected' "$BNPROF" synth -o x.gguf
fails 'no output' 2 '-o FILE expected' "$BNPROF" synth --shape tiny
fails 'an unknown shape' 2 '--shape 4b' "$BNPROF" synth --shape 4b -o x.gguf
fails 'an unknown type' 2 '--wtype q5_0' "$BNPROF" synth --shape tiny --wtype q5_0 -o x.gguf
fails 'a ternary embedding' 2 'embeddings of type f16, bf16, f32 or a block format expected' "$BNPROF" synth --shape tiny --etype i2_s -o x.gguf
fails 'rows that i2_s cannot hold' 2 '8640 values, but i2_s needs multiples of 128' "$BNPROF" synth --shape 3b --wtype i2_s -o x.gguf
fails 'rows that tq2_0 cannot hold' 2 '3200 values, but tq2_0 needs multiples of 256' "$BNPROF" synth --shape 3b --wtype tq2_0 -o x.gguf
fails 'a bad seed' 2 '--seed -1' "$BNPROF" synth --shape tiny --seed -1 -o x.gguf
fails 'a folder that is not there' 1 '^bnprof: no/x.gguf: .*No such file' "$BNPROF" synth --shape tiny -o no/x.gguf
fails 'a vocabulary that is no GGUF' 1 '^bnprof: .*lib.sh: GGUF magic expected' "$BNPROF" synth --shape tiny --tokenizer "$root/tests/cli/lib.sh" -o x.gguf
fails 'a file size limit' 1 '^bnprof: x.gguf: cannot be written: File too large' bash -c 'ulimit -f 500 && exec "$1" synth --shape tiny -o x.gguf' - "$BNPROF"
"$BNPROF" synth --shape large -o x.gguf >out.txt 2>err.txt &
pid=$!
until [ -n "$(find . -name '*x.gguf*' -size +1M)" ] || ! kill -0 $pid 2>/dev/null; do :; done
kill -TERM $pid
wait $pid
status=$?
if [ $status -eq 1 ] && grep -q '^bnprof: x.gguf: stopped after' err.txt; then
    ok 'a signal stops it'
else
    not_ok 'a signal stops it' "status $status, $(cat err.txt)"
fi
left=$(find . -name '*x.gguf*')
if [ -z "$left" ]; then ok 'failures leave nothing behind'; else not_ok 'failures leave nothing behind' "$left"; fi

vocabulary=$MODELS/llama3-vocab.gguf
if [ -n "$MODELS" ] && [ -f "$vocabulary" ]; then
    "$BNPROF" synth --shape tiny --tokenizer "$vocabulary" -o llama3.gguf 2>err.txt
    ids=$(printf 'What is 2+2?' | "$BNPROF" tokenize --model llama3.gguf)
    check "the Llama-3 vocabulary survives" [ "$(tr -d ' ' <<<"$ids")" = '[3923,374,220,17,10,17,30]' ]
else
    skip 'the Llama-3 vocabulary survives' 'no llama3-vocab.gguf'
fi
plan
