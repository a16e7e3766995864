#!/bin/bash
# bnprof run: answers, numbers, determinism, and every way to fail.
# shellcheck source=tests/cli/lib.sh
. tests/cli/lib.sh

run() { "$BNPROF" run "$@"; }

# equal NAME EXPECTED COMMAND…: stdout is exactly EXPECTED (a final newline aside)
equal() {
    local name=$1 want=$2 got
    shift 2
    got=$("$@" 2>"$dir/.err")
    if [ "$got" = "$want" ]; then ok "$name"; else not_ok "$name" "expected '$want', got '$got' $(cat "$dir/.err")"; fi
}

# field NAME: the value of a text or number in an object on stdin
field() { sed -n 's/.*"'"$1"'":"\{0,1\}\([^",}]*\).*/\1/p'; }

# ---- answers ----

equal "2+2= is 4" 4 run --prompt '2+2=' --greedy --max-tokens 2
equal "the capital of France" " Paris. The capital of" run -p 'The capital of France is' -n 5
[ "$(run -p '2+2=' -n 2 2>/dev/null | od -An -c | tr -d ' ')" = '4\n' ] && ok "one final newline" || not_ok "one final newline"
printf '2+2=' >prompt.txt
equal "prompt from a file" 4 run --prompt-file prompt.txt -n 2
equal "prompt from stdin" 4 run --prompt-file - -n 2 <prompt.txt
stories=$root/tests/data/stories260k-f32.gguf
equal "a pre-trained llama model" \
    ", there was a little girl named Lily. She loved to play outside in the park. One day, she saw a big, red ball. She wanted to play with it, but it was too high.
Lily's mom said" run --model "$stories" -p 'Once upon a time' -n 64
equal "a continuation keeps its space" " was a big, r" run --model "$stories" -p 'The dog' -n 5
equal "model from the environment" " was a big, r" env BNPROF_MODEL="$stories" "$BNPROF" run -p 'The dog' -n 5

equal "the end of the text is not spelled" " Paris. The capital of Sweden is Stockholm." \
    run -p 'The capital of France is' -n 64
[ "$(run -p '<|end_of_text|>2+2=' --special --json -q -n 1 | field prompt_tokens)" = 6 ] &&
    [ "$(run -p '<|end_of_text|>2+2=' --json -q -n 1 | field prompt_tokens)" -gt 8 ] && ok "--special" || not_ok "--special"

# ---- turns: the real Llama-3 vocabulary on a random model ----

vocabulary=$MODELS/llama3-vocab.gguf
if [ -f "$vocabulary" ]; then
    check "a random model" "$BNPROF" synth --shape tiny --tokenizer "$vocabulary" -o random.gguf
    chat() { run --model random.gguf --chat -n 1 --json -q "$@" | field prompt_tokens; }
    # <|begin_of_text|> User : hi <|eot_id|> Ass istant : and a space
    equal "a turn" "$(printf '<|begin_of_text|>User: hi<|eot_id|>Assistant: ' | "$BNPROF" tokenize --special --model random.gguf | tr ',' '\n' | wc -l)" \
        chat -p hi
    equal "a system turn before it" "$(printf '<|begin_of_text|>System: be nice<|eot_id|>User: hi<|eot_id|>Assistant: ' | "$BNPROF" tokenize --special --model random.gguf | tr ',' '\n' | wc -l)" \
        chat --system 'be nice' -p hi
    [ "$(chat -p '<|eot_id|>')" -gt "$(chat -p '<|eot_id|>' --special)" ] && ok "a text cannot end its own turn" ||
        not_ok "a text cannot end its own turn"
    fails "ids that the model lacks" 1 "token id 128000 is outside the model's vocabulary of 1024" \
        run --tokenizer "$vocabulary" -p hi
else
    skip "turns" "no llama3-vocab.gguf"
fi

wrong=
for a in 0 6 14 20; do
    for b in 0 8 12 20; do
        [ "$(run -p "$a+$b=" -n 4 -q | head -n 1)" = $((a + b)) ] || wrong="$wrong $a+$b"
    done
done
[ -z "$wrong" ] && ok "sums" || not_ok "sums" "wrong:$wrong"

# ---- int8 keys and values: other numbers, but these answers ----

wrong=
for sum in 0+8 6+12 14+0 20+20; do
    [ "$(run --kv int8 -p "$sum=" -n 4 -q | head -n 1)" = $((sum)) ] || wrong="$wrong $sum"
done
[ -z "$wrong" ] && ok "sums with int8 keys and values" || not_ok "sums with int8 keys and values" "wrong:$wrong"
equal "a story with int8 keys and values" "$(run --model "$stories" -p 'Once upon a time' -n 40 -q)" \
    run --model "$stories" -p 'Once upon a time' -n 40 -q --kv int8
check "the answer names the type" bash -c '"$BNPROF" run --kv int8 -p 2+2= -n 2 -q --json | grep -q "\"kv\":\"int8\""'
equal "names of key and value types" "f16 int8 " bash -c '"$BNPROF" run --kv list | cut -d " " -f 1 | tr "\n" " "'

# ---- the same for any number of threads, any instructions, any rounds ----

hash_of() { run --json -q "$@" | field token_hash; }
want=$(hash_of --rounds 1 --threads 1)
for threads in 2 3 5; do
    equal "hash with $threads threads" "$want" hash_of --rounds 1 --threads $threads
    equal "hash with $threads threads, deterministic" "$want" hash_of --rounds 1 --threads $threads --deterministic
done
want_int8=$(hash_of --rounds 1 --threads 1 --kv int8)
for threads in 2 3; do
    equal "hash of int8 with $threads threads" "$want_int8" hash_of --rounds 1 --threads $threads --kv int8
done
flags=$(run --cpu list)
for cpu in c avx2 avx512 avx512vnni; do
    case ,c,$flags, in
    *,$cpu,*) equal "hash with --cpu $cpu" "$want" hash_of --rounds 1 --cpu $cpu ;;
    *) skip "hash with --cpu $cpu" "no $cpu here (this machine has $flags)" ;;
    esac
done
[ "$(BN_CPU=c run -p 2+2= -n 2 --json -q | field cpu)" = c ] && ok "BN_CPU=c" || not_ok "BN_CPU=c"
sampled() { run -p 'Once upon a time' --temperature 0.9 --top-k 50 --top-p 0.95 -n 30 -q "$@"; }
one=$(sampled --seed 7 -t 1)
equal "a seed repeats on other threads" "$one" sampled --seed 7 -t 3
equal "the seed from the environment" "$one" env BITNET_SEED=7 "$BNPROF" run -p 'Once upon a time' --temperature 0.9 --top-k 50 --top-p 0.95 -n 30 -q
[ "$(sampled --seed 8)" != "$one" ] && ok "another seed, another text" || not_ok "another seed, another text"
equal "deterministic without a seed" "$(sampled --deterministic)" env BITNET_DETERMINISTIC=1 "$BNPROF" run -p 'Once upon a time' --temperature 0.9 --top-k 50 --top-p 0.95 -n 30 -q
equal "temperature 0 is greedy" "$(run -p 'Once upon a time' -n 20 -q)" run -p 'Once upon a time' -n 20 -q --temperature 0

# ---- numbers ----

run -p '2+2=' -n 2 --rounds 3 --json --stages >o.json 2>err.txt
missing=
for key in text tokens prompt_tokens generated_tokens load_ms tokenizer_ms prompt_tokens_per_second first_token_ms \
    decode_tokens_per_second token_ms p50 p95 p99 peak_rss_bytes token_hash kernel cpu threads stages; do
    grep -q "\"$key\":" o.json || missing="$missing $key"
done
[ -z "$missing" ] && ok "the keys of the contract" || not_ok "the keys of the contract" "missing:$missing"
check "text and tokens" grep -qF '"text":"4\n","tokens":[52,10],' o.json
[ "$(field prompt_tokens <o.json) $(field generated_tokens <o.json)" = "15 6" ] && ok "tokens of all rounds" ||
    not_ok "tokens of all rounds" "$(cat o.json)"
[ "$(field token_hash <o.json)" = "$(printf '\64\0\0\0\12\0\0\0' | sha256sum | cut -c 1-16)" ] &&
    ok "the hash is of the ids" || not_ok "the hash is of the ids"
check "the speed line" grep -Eq '^load .* ms, tokenizer .* ms; prompt 15 tokens, .* tok/s; first token .* ms; decode 3 tokens, .* tok/s, p50 .* ms, p95 .* ms; peak RSS .* MiB$' err.txt
check "kernel, CPU, threads, hash" grep -Eq '^kernel i2s \(i2s_gemv_[a-z0-9]+\), lm_head f16 \([0-9.]+ MB\), cpu [a-z0-9,]+, [0-9]+ threads?, tokens [0-9a-f]{16}$' err.txt
run -p '2+2=' -n 2 -q >/dev/null 2>err.txt
[ -s err.txt ] && not_ok "--quiet" "$(cat err.txt)" || ok "--quiet"
run -p '2+2=' -n 2 -q --stages 2>err.txt >out.txt
check "--stages on stderr" grep -Eq '^      +transformer_block +4 ' err.txt
[ "$(cat out.txt)" = 4 ] && ok "--stages leaves stdout alone" || not_ok "--stages leaves stdout alone"
# invalid UTF-8 in the text must not reach the JSON
printf 'a\377b' >bad.txt
run --prompt-file bad.txt -n 40 --temperature 5 --seed 1 --json -q >o.json
check "JSON stays UTF-8" iconv -f utf-8 -t utf-16 -o /dev/null o.json
equal "without a prompt: the same work each time" "$(run --rounds 1 -q)" run --rounds 2 -q

# every kernel adds the same whole numbers
hash=$(run -p '2+2=' -n 8 --json -q | field token_hash)
for kernel in i2s tl1 tl2 qk256; do
    run -p '2+2=' -n 8 --json -q --kernel $kernel >o.json
    equal "--kernel $kernel: the same tokens" "$hash $kernel" echo "$(field token_hash <o.json) $(field kernel <o.json)"
done

# ---- what is refused ----

fails "unknown option" 2 "unrecognized option '--bogus'" run --bogus
fails "argument" 2 "unexpected argument 'x'" run x
fails "threads" 2 "'0' is not a whole number from 1 to 256" run --threads 0
fails "temperature" 2 "'warm' is not a number" run --temperature warm
fails "unknown kernel" 2 "'tl9' is none of auto, i2s, tl1, tl2, qk256, mock" run --kernel tl9
fails "unknown key and value type" 2 "'f8' is neither f16 nor int8" run --kv f8
fails "unknown CPU flag" 2 "this machine has no 'avx9'" run --cpu avx9
fails "greedy and chance" 2 "goes with none of" run --greedy --top-k 3
fails "two prompts" 2 "one of them" run -p a --prompt-file b
fails "chat without a prompt" 2 "needs a prompt" run --chat
fails "system without chat" 2 "needs --chat" run -p a --system b
fails "bad environment" 2 "BN_THREADS: 'many' is not a whole number" env BN_THREADS=many "$BNPROF" run
fails "mock under --strict" 3 "refused under --strict" run --kernel mock --strict
fails "mock under BITNET_STRICT_MODE" 3 "refused under --strict" env BITNET_STRICT_MODE=1 "$BNPROF" run --kernel mock
fails "missing model" 1 "nowhere.gguf: No such file" run --model nowhere.gguf
: >empty.gguf
fails "empty model" 1 "empty.gguf" run --model empty.gguf
head -c 5000 "$stories" >cut.gguf
fails "truncated model" 1 "cut.gguf" run --model cut.gguf
fails "missing prompt file" 1 "nowhere.txt: No such file" run --prompt-file nowhere.txt
fails "a folder as prompt" 1 "Is a directory" run --prompt-file .
fails "missing tokenizer" 1 "nowhere.json" run --tokenizer nowhere.json
fails "a context that the model lacks" 1 "the model's context is 256" run --ctx 257
fails "a prompt longer than the context" 1 "^bnprof: the prompt has 11 tokens, the context holds 10$" \
    run --ctx 10 -p '1+1+1+1+1+'
fails "built-in prompts longer than the context" 1 "the context holds 2" run --ctx 2
fails "no turn in this vocabulary" 1 "no <.eot_id.>" run --chat -p hello
fails "ternary kernels without ternary weights" 1 "ternary ones expected" run --model "$stories" --kernel i2s -p a
if [ -e /dev/full ]; then
    run -p '2+2=' -n 2 >/dev/full 2>err.txt
    [ $? = 1 ] && [ "$(cat err.txt)" = "bnprof: standard output: No space left on device" ] && ok "disk full" ||
        not_ok "disk full" "$(cat err.txt)"
fi
run -p 'Once upon a time' -n 100 2>err.txt | true
[ "${PIPESTATUS[0]}" = 1 ] && [ ! -s err.txt ] && ok "a reader that went away" ||
    not_ok "a reader that went away" "$(cat err.txt)"

# ---- mock, lists, ^C ----

run --kernel mock -p '2+2=' -n 2 >/dev/null 2>err.txt
check "mock says so" grep -q 'i2s_gemv_mock' err.txt
check "kernel list" bash -c '"$BNPROF" run --kernel list | grep -q ^mock'
run --lm-head list >out.txt
check "lm_head list" grep -q ^screened out.txt
fails "an unknown lm_head" 2 "'q9' is none of auto, f16, screened, q8_0, q6_k, q4_0" run --lm-head q9 -p a
# ---- lm_head: the same tokens, told how many rows it took ----
hashes=$(for mode in f16 screened; do
    for how in --greedy "--top-k 8 --seed 3" "--top-k 40 --top-p 0.9 --seed 4" "--temperature 0.9 --seed 5"; do
        # shellcheck disable=SC2086
        run --lm-head $mode $how -n 30 --rounds 1 --json -q -p 'Once upon a time' | field token_hash
    done
done)
[ "$(head -4 <<<"$hashes")" = "$(tail -4 <<<"$hashes")" ] && [ "$(wc -l <<<"$hashes")" = 8 ] &&
    ok "the same tokens with --lm-head screened" || not_ok "the same tokens with --lm-head screened" "$hashes"
run --lm-head screened -n 30 --json -q -p 'Once upon a time' >o.json
check "rows of the screening" grep -Eq '"lm_head":\{"mode":"screened","bytes_per_token":[0-9.]+,"tokens_screened":30,"tokens_full":[0-9]+,"rows_mid_mean":[0-9.]+,"rows_low_mean":[0-9.]+,"rows_exact_mean":[0-9.]+\}' o.json
for mode in q8_0 q6_k q4_0; do
    run --lm-head $mode -n 8 --json -q -p '2+2=' >o.json
    check "lm_head $mode" grep -Eq "\"text\":\"4.*\"lm_head\":\{\"mode\":\"$mode\",\"bytes_per_token\":[0-9]+," o.json
done
timeout --preserve-status -s INT 1 "$BNPROF" run -p 'Once upon a time' -n 40 --rounds 1000000 >out.txt 2>err.txt
status=$?
[ $status = 130 ] && grep -q '^kernel i2s' err.txt && [ "$(tail -c 1 out.txt | od -An -c | tr -d ' ')" = '\n' ] && ok "^C" ||
    not_ok "^C" "status $status $(cat err.txt)"
run -p 'Once upon' --ctx 20 -n 100 >/dev/null 2>err.txt
check "a full context is told" grep -q '^bnprof: the context of 20 tokens is full$' err.txt
plan
