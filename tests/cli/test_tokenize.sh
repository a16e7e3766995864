#!/bin/bash
# bnprof tokenize: ids from text, text from ids, any bytes, bad input.
# shellcheck source=tests/cli/lib.sh
. "$(dirname "$0")/lib.sh"
: "${root:?}" "${BNPROF:?}"
stories=$root/tests/data/stories260k-f32.gguf

# gives NAME EXPECTED INPUT ARGS…: stdout is exactly EXPECTED and the status 0
gives() {
    local name=$1 expected=$2 input=$3 got status
    shift 3
    got=$(printf "$input" | "$BNPROF" tokenize "$@" 2>.err && echo x)
    status=$?
    if [ "$status" -eq 0 ] && [ "${got%x}" = "$(printf "$expected")${nl-}" ]; then
        ok "$name"
    else
        not_ok "$name" "got '$got' instead of '$expected', stderr: $(cat .err)"
    fi
}

# bad NAME PATTERN INPUT ARGS…: status 1, one line on stderr that matches, nothing on stdout
bad() {
    local name=$1 pattern=$2 input=$3 status
    shift 3
    printf "$input" | "$BNPROF" tokenize "$@" >.out 2>.err
    status=$?
    if [ "$status" -eq 1 ] && [ ! -s .out ] && [ "$(wc -l <.err)" -eq 1 ] && grep -qE -- "$pattern" .err; then
        ok "$name"
    else
        not_ok "$name" "status $status, stdout '$(head -c 200 .out)', stderr '$(cat .err)'"
    fi
}

round_trip() { # FILE ARGS…
    local file=$1
    shift
    "$BNPROF" tokenize "$@" <"$file" >.ids && "$BNPROF" tokenize "$@" --decode <.ids | cmp - "$file"
}

nl=$'\n'
gives "the demo model is the default" '[50,43,50,61]' '2+2='
gives "--bos" '[1022,50,43,50,61]' '2+2=' --bos
gives "special tokens are plain text" '[60,124,98,101,103,286,95,111,102,95,116,101,120,116,124,62]' '<|begin_of_text|>'
gives "--special" '[1022,120,1023]' '<|begin_of_text|>x<|end_of_text|>' --special
gives "empty text" '[]' ''
gives "a SentencePiece vocabulary" '[1,403,407,261,378]' 'Once upon a time' --bos --model "$stories"
gives "--tokenizer takes a GGUF file, too" '[403,407,261,378]' 'Once upon a time' --tokenizer "$stories"
BNPROF_MODEL=$stories gives "BNPROF_MODEL" '[403,407,261,378]' 'Once upon a time'
nl=
gives "--decode of a JSON array" '2+2=' ' [50, 43,50 ,\t61]\n' --decode
gives "--decode of ids with blanks between" '2+2=' '50 43\n50  61\n' --decode
gives "--decode of nothing" '' '' --decode
gives "--decode of an empty array" '' '[ ]\n' --decode
gives "--decode leaves special tokens out" '2' '[1022,50,1023]' --decode
gives "--decode --special spells them out" '<|begin_of_text|>2' '[1022,50]' --decode --special
gives "--decode drops SentencePiece's first blank, also behind BOS" 'Once upon' '[1,403,407]' --decode --model "$stories"

head -c 100000 /dev/urandom >random
printf 'a\0b\0\0' >zeros
printf '  \r\n\n caf\303\251 \342\202\254\360\237\221\215  ' >text
for file in random zeros text; do
    check "round trip of $file" round_trip "$file"
    check "round trip of $file, SentencePiece" round_trip "$file" --model "$stories"
done

bad "an id outside the vocabulary" 'byte 4: a token id from 0 to 1023 expected, found 1024$' '[1, 1024]' --decode
bad "a huge id" 'a token id from 0 to 1023 expected' '99999999999999999999999' --decode
bad "a negative id" 'byte 1: a token id expected' '[-1]' --decode
bad "no id" 'byte 0: a token id expected' 'one' --decode
bad "an array without its end" "byte 4: '\]' expected" '[1,2' --decode
bad "an array with a hole" 'byte 3: a token id expected' '[1,,2]' --decode
bad "an array that ends with a comma" 'byte 3: a token id expected' '[1,]' --decode
bad "a fraction" "byte 2: ',' or '\]' expected" '[1.5]' --decode
bad "text behind the array" 'byte 3: nothing behind the ids expected' '[1]2' --decode
fails "a missing model" 1 'missing.gguf: No such file' "$BNPROF" tokenize --model missing.gguf
fails "a missing tokenizer" 1 'missing.json: No such file' "$BNPROF" tokenize --tokenizer missing.json
: >empty
fails "an empty model" 1 'empty: the file is empty' "$BNPROF" tokenize --model empty
fails "an empty tokenizer" 1 'empty: the file is empty' "$BNPROF" tokenize --tokenizer empty
fails "a tokenizer that is no JSON" 1 'text: byte [0-9]+: JSON expected' "$BNPROF" tokenize --tokenizer text
fails "both --model and --tokenizer" 2 'one of them' "$BNPROF" tokenize --model a --tokenizer b
fails "--bos with --decode" 2 'no meaning' "$BNPROF" tokenize --bos --decode
fails "an argument" 2 "unexpected argument 'hello'" "$BNPROF" tokenize hello
fails "an unknown option" 2 'unrecognized option' "$BNPROF" tokenize --nonsense
fails "standard input is a folder" 1 'standard input: Is a directory' bash -c '"$0" tokenize <.' "$BNPROF"
if [ -c /dev/full ]; then
    fails "a full disk" 1 'No space left' bash -c 'echo 2 | "$0" tokenize >/dev/full' "$BNPROF"
else
    skip "a full disk" "no /dev/full"
fi

if [ -f "$MODELS/llama3-vocab.gguf" ]; then
    nl=$'\n'
    gives "the Llama-3 vocabulary, a file without tensors" '[3923,374,220,17,10,17,30]' 'What is 2+2?' \
        --model "$MODELS/llama3-vocab.gguf"
    check "round trip of random, Llama 3" round_trip random --model "$MODELS/llama3-vocab.gguf"
else
    skip "the Llama-3 vocabulary" "no llama3-vocab.gguf"
fi
plan
