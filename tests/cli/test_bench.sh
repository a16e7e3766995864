#!/bin/bash
# bnprof bench on the demo model: what it prints, its options, its errors. No absolute speeds.
# shellcheck source=tests/cli/lib.sh
. tests/cli/lib.sh

bench() { "$BNPROF" bench "$@"; }

# json NAME EXPRESSION: python's word on the object in out.json, called o
json() {
    if python3 -c "
import json
o = json.load(open('out.json'))
r = {(x['test'], x['threads'], x['kernel']): x for x in o['results']}
assert $2" 2>err.txt; then ok "$1"; else not_ok "$1" "$2: $(tail -n 1 err.txt)"; fi
}

# ---- the table ----

bench -r 2 >out.txt 2>err.txt
status=$?
[ $status = 0 ] && ! grep -qv '^bnprof: warning: other programs or the host had' err.txt && ok "the defaults fit the demo model" || not_ok "the defaults fit the demo model" "$status $(cat err.txt)"
check "limits" grep -Eq '^limits, [0-9]+ threads?: .*[0-9.]+ GMAC/s int8$' out.txt
check "a prompt of the whole context" grep -Eq '^pp256 +[0-9]+ +i2s +[a-z0-9_]+ +[0-9.]+ +[0-9.]+ +[0-9.]+ +[0-9.]+ GMAC/s +[0-9.]+ GMAC/s +[0-9]+ %( +[0-9]+ %)?$' out.txt
check "weights in the cache have no share of memory" grep -Eq '^tg128 +[0-9]+ +i2s +.* GB/s +in cache$' out.txt
[ "$(grep -c '[[:space:]]$' out.txt)" = 0 ] && ok "no trailing blanks" || not_ok "no trailing blanks"

bench -r 1 -p 4,8 -n 3 -d 0,100 --threads 1,2 --md --stages >out.txt 2>err.txt
check "lists, as Markdown" grep -q '^| tg3 @ d100 ' out.txt
[ "$(grep -c '^| pp8 @ d100' out.txt)" = 2 ] && [ "$(grep -c '^| pp4 ' out.txt)" = 4 ] && ok "every combination" ||
    not_ok "every combination" "$(cat out.txt)"
[ "$(grep -c '^| ffn/down_projection ' out.txt)" = 12 ] && ok "stages of each" || not_ok "stages of each" "$(cat out.txt)"
bench -r 1 -p 0 -n 2 >out.txt 2>&1
check "-p 0 leaves prompts out" bash -c '! grep -q ^pp out.txt && grep -q "^tg2 " out.txt'
bench -r 1 -p 2,2,0 -n 0 >out.txt 2>&1
[ "$(grep -c '^pp2 ' out.txt)" = 1 ] && ! grep -q ^tg out.txt && ok "-n 0 leaves decoding out" || not_ok "-n 0 leaves decoding out" "$(cat out.txt)"
bench -r 1 -p 2 -n 2 --cpu c --kv int8 >out.txt 2>&1
check "plain C, int8 keys and values" grep -q 'kv int8, cpu c;' out.txt
BNPROF_MODEL=$root/tests/data/stories260k-f32.gguf bench -r 1 -p 8 -n 8 >out.txt 2>&1
check "float weights" grep -Eq '^tg8 +[0-9]+ +f32 .* in cache$' out.txt

# ---- JSON ----

if command -v python3 >/dev/null; then
    bench -r 3 -p 32 -n 8 --threads 1,2 --kernels i2s,qk256 --stages --json >out.json 2>err.txt
    json "every combination" "len(r) == 8 and all((t, n, k) in r for t in ('pp32', 'tg8') for n in (1, 2) for k in ('i2s', 'qk256'))"
    json "spread" "all(0 < x['tokens_per_second']['min'] <= x['tokens_per_second']['median'] <= x['tokens_per_second']['max'] for x in o['results'])"
    json "limits of the most threads" "o['limits']['threads'] == 2 and o['limits']['int8_gmacs_per_second'] > 0"
    json "shares" "all(0 < x['share_of_limit'] <= 1 and x['limit'] == 'int8' for k, x in r.items() if k[0] == 'pp32')"
    json "nearby shares" "all(x['share_nearby'] is None or 0 < x['share_nearby'] <= 1 for x in o['results'])"
    json "no share in the cache" "all(x['share_of_limit'] is None and x['limit'] is None and x['no_limit'] == 'in cache' for k, x in r.items() if k[0] == 'tg8')"
    json "bytes per second" "all(x['gbytes_per_second'] > 0 for x in o['results'])"
    json "metrics" "o['metrics']['throughput_tokens_per_second'] == r[('tg8', 2, 'i2s')]['tokens_per_second']['median'] and 0 < o['metrics']['latency_p50_ms'] <= o['metrics']['latency_p95_ms'] <= o['metrics']['latency_p99_ms']"
    json "memory without the probe's" "0 < o['metrics']['memory_usage_mb'] < 200 and o['metrics']['model_load_time_ms'] > 0 and o['metrics']['accuracy_score'] is None"
    json "a busy machine is told" "o['others_cpu_share'] is None or 0 <= o['others_cpu_share'] <= 1"
    json "stages add up" "all(0.9 < sum(s['share_of_test'] for s in x['stages']) < 1.02 for x in o['results'])"
    json "calls of a stage" "[s['calls'] for s in r[('tg8', 1, 'i2s')]['stages'] if s['name'] == 'ffn/down_projection'] == [32]"
    json "bytes of a stage" "all(s['gbytes_per_second'] for x in o['results'] for s in x['stages'] if s['name'].endswith('_projection'))"

    bench -r 1 -p 0 -n 4 --lm-head f16,screened --json >out.json 2>err.txt
    json "ways to the logits" "[x['lm_head'] for x in o['results']] == ['f16', 'screened']"

    # kernels that compute nothing multiply faster than the machine can: an error, not a result
    bench -r 1 -p 128 -n 0 --cpu c --kernels mock --json >out.json 2>err.txt
    status=$?
    [ $status = 1 ] && grep -q 'the probe or the count is wrong' err.txt && ok "a share above 1 is an error" ||
        not_ok "a share above 1 is an error" "$status $(cat err.txt)"
    json "the object says so" "'wrong' in o['results'][0]['error']"
else
    skip "JSON" "no python3"
fi

# ---- errors ----

fails "a word in a list" 2 "-p: 'x' is not a whole number from 0" bench -p 1,x
fails "an empty item" 2 "-n: '' is not a whole number" bench -n 1,,2
fails "no threads" 2 "--threads: '0' is not a whole number from 1 to 256" bench --threads 0
fails "an unknown kernel" 2 "--kernels: 'tl9' is none of auto, i2s" bench --kernels i2s,tl9
fails "an unknown key and value type" 2 "--kv: 'f8' is neither f16 nor int8" bench --kv f8
fails "an unknown lm_head" 2 "--lm-head: 'f9' is none of auto, f16" bench --lm-head f9
fails "an unknown CPU flag" 2 "--cpu: this machine has no 'avx9'" bench --cpu avx9
fails "nothing to measure" 2 "nothing is left to measure" bench -p 0 -n 0
fails "two formats" 2 "--json and --md: one of them" bench --json --md
fails "two numbers of repetitions" 2 "-r: one number is expected" bench -r 1,2
fails "too many numbers" 2 "more than 32 numbers" bench -p "$(seq -s, 1 33)"
fails "an argument" 2 "unexpected argument 'model.gguf'" bench model.gguf
fails "threads of the environment" 2 "BN_THREADS: 'many' is not a whole number" env BN_THREADS=many "$BNPROF" bench
fails "no such file" 1 "nowhere.gguf: No such file" bench --model nowhere.gguf
fails "more than the context" 1 "pp257 needs a context of 257 tokens, the model's is 256" bench -p 257
fails "deeper than the context" 1 "tg8 @ d250 needs a context of 258 tokens, the model's is 256" bench -p 0 -n 8 -d 250
check "lm_head list" bash -c '"$BNPROF" bench --lm-head list | grep -q ^screened'
check "kernel list" bash -c '"$BNPROF" bench --kernels list | grep -q ^mock'
check "key and value types" bash -c '[ "$("$BNPROF" bench --kv list)" = "$("$BNPROF" run --kv list)" ]'
check "CPU list" bash -c '[ "$("$BNPROF" bench --cpu list)" = "$("$BNPROF" run --cpu list)" ]'

# ---- ^C ----

timeout --preserve-status -s INT 3 "$BNPROF" bench -r 10000 -p 16 -n 0 >out.txt 2>err.txt
status=$?
if grep -q '^bnprof: interrupted before anything was measured$' err.txt; then # a very busy machine
    [ $status = 130 ] && [ ! -s out.txt ]
else
    [ $status = 130 ] && grep -q '^bnprof: interrupted: repetitions measured so far$' err.txt && grep -q '^pp16 ' out.txt
fi && ok "^C gives what was measured" || not_ok "^C gives what was measured" "$status $(cat err.txt out.txt)"
plan
