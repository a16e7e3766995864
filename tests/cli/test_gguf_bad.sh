#!/bin/bash
# Damaged and hostile model files: each gives one line that names the file and exit status 1, through inspect and run.
# shellcheck source=tests/cli/lib.sh
. tests/cli/lib.sh
demo=$root/core/tiny-bitnet-i2s.gguf

# little-endian numbers and GGUF strings from the shell
le() { # BYTES NUMBER
    local i out='' n=$2
    for ((i = 0; i < $1; i++)); do
        out+=$(printf '\\x%02x' $((n & 255)))
        n=$((n >> 8))
    done
    printf '%b' "$out"
}
str() { # TEXT
    le 8 ${#1}
    printf '%s' "$1"
}
header() { # TENSORS KEYS
    printf GGUF
    le 4 3
    le 8 "$1"
    le 8 "$2"
}
# both commands refuse the file alike
refused() { # NAME FILE PATTERN
    fails "inspect: $1" 1 "^bnprof: $2: .*$3" timeout 20 "$BNPROF" inspect "$2"
    fails "run: $1" 1 "^bnprof: $2: .*$3" timeout 20 "$BNPROF" run --model "$2" --prompt x
}

refused 'a missing file' no.gguf 'No such file'
mkdir folder
refused 'a folder' folder 'is a directory'
: >empty.gguf
refused 'an empty file' empty.gguf 'empty'
printf 'PK\x03\x04 a zip archive, say' >zip.gguf
refused 'another magic' zip.gguf 'GGUF magic expected at byte 0, found "PK\.\." \(50 4b 03 04\)'
{ printf GGUF && le 4 1 && le 8 0; le 8 0; } >v1.gguf
refused 'version 1' v1.gguf 'byte 4: .*the obsolete 1'
{ printf GGUF && printf '\0\0\0\x03' && le 8 0 && le 8 0; } >big-endian.gguf
refused 'big endian' big-endian.gguf 'byte 4: .*big-endian'
header 0 -1 >keys.gguf
refused 'a huge key count' keys.gguf 'byte 16: 18446744073709551615 keys'
header -1 0 >tensors.gguf
refused 'a huge tensor count' tensors.gguf 'byte 8: 18446744073709551615 tensors'
{ header 0 1 && le 8 -1 && le 8 0; } >string.gguf
refused 'a huge string' string.gguf 'key 1 of 1: the name takes 18446744073709551615 bytes'
{ header 0 1 && str a && le 4 9 && le 4 12 && le 8 $((1 << 62)); } >array.gguf
refused 'a huge array' array.gguf 'key a: an array of 4611686018427387904 elements'
{ header 0 1 && str a && le 4 9 && le 4 9 && le 8 1 && le 8 0; } >nested.gguf
refused 'an array of arrays' nested.gguf 'key a: .*array of arrays'
{ header 0 1 && str a && le 4 99 && le 8 0; } >kind.gguf
refused 'an unknown value type' kind.gguf 'key a: a value type from 0 to 12 expected, found 99'
{ header 0 1 && str general.alignment && le 4 4 && le 4 0; } >alignment.gguf
refused 'alignment 0' alignment.gguf 'key general.alignment: a power of two'
{ header 1 0 && str w && le 4 1 && le 8 32 && le 4 77 && le 8 0 && le 64 0; } >type.gguf
refused 'an unknown tensor type' type.gguf 'tensor w: unknown tensor type 77'
{ header 1 0 && str w && le 4 2 && le 8 $((1 << 40)) && le 8 $((1 << 40)) && le 4 0 && le 8 0 && le 64 0; } >product.gguf
refused 'dimensions beyond 64 bits' product.gguf 'tensor w: 1099511627776 x 1099511627776 elements'
{ header 1 0 && str w && le 4 1 && le 8 8 && le 4 0 && le 8 16 && le 64 0; } >unaligned.gguf
refused 'an unaligned offset' unaligned.gguf 'tensor w: an offset that is a multiple of the alignment'
{ header 1 0 && str w && le 4 1 && le 8 8 && le 4 0 && le 8 $((1 << 40)) && le 64 0; } >beyond.gguf
refused 'data beyond the end' beyond.gguf 'tensor w: 32 bytes of data at offset 1099511627776'
{ header 0 2 && str a && le 4 0 && le 1 1 && str a && le 4 0 && le 1 1; } >twice.gguf
refused 'a key twice' twice.gguf 'key a: the name occurs twice'

# Names from the file cannot steer the terminal.
{ header 0 1 && str $'\e[31mred' && le 4 99 && le 8 0; } >escape.gguf
"$BNPROF" inspect escape.gguf 2>err.txt
check 'control characters of names are replaced in messages' bash -c '! grep -q $'"'\e'"' err.txt && grep -q "?\[31mred" err.txt'
{ header 0 1 && str $'\e[31mred' && le 4 8 && str $'a\eb\xffc'; } >escape-good.gguf
"$BNPROF" inspect escape-good.gguf >out.txt
check 'and in the tables' bash -c '! grep -q $'"'\e'"' out.txt && grep -q "?\[31mred .*a?b?c" out.txt'

# Truncation anywhere: 200 places, the same ones every time.
RANDOM=1
size=$(stat -c %s "$demo")
bad=''
for ((i = 0; i < 200; i++)); do
    at=$(((RANDOM << 15 | RANDOM) % size))
    ((i % 4 == 0)) && at=$((at % 30368)) # a quarter of them in the header
    head -c "$at" "$demo" >cut.gguf
    for command in "inspect cut.gguf" "run --model cut.gguf --prompt x"; do
        # shellcheck disable=SC2086
        timeout 20 "$BNPROF" $command >cut.out 2>cut.err </dev/null
        status=$?
        if [ $status -ne 1 ] || [ "$(wc -l <cut.err)" -ne 1 ] || ! grep -q '^bnprof: cut\.gguf: ' cut.err || [ -s cut.out ]; then
            bad+="$command at $at: status $status, $(head -c 200 cut.err); "
        fi
    done
done
if [ -z "$bad" ]; then ok '200 truncations: one line each, status 1'; else not_ok '200 truncations' "$bad"; fi

# Good in form, wrong in content.
cp "$demo" scale.gguf
chmod u+w scale.gguf
le 4 $((0x7fc00000)) | dd of=scale.gguf bs=1 seek=$((30368 + 525312 + 16384)) conv=notrunc status=none # blk.0.attn_q
check 'inspect finds a scale that is no number' bash -c '"$1" inspect scale.gguf | grep -q "PROBLEM *blk.0.attn_q.weight: scale nan"' - "$BNPROF"
fails 'run refuses it' 1 'blk\.0\.attn_q\.weight' "$BNPROF" run --model scale.gguf --prompt x
cp "$demo" codes.gguf
chmod u+w codes.gguf
printf '\xff' | dd of=codes.gguf bs=1 seek=$((30368 + 525312)) conv=notrunc status=none
check 'inspect counts codes of 3' bash -c '"$1" inspect codes.gguf | grep -q "PROBLEM *blk.0.attn_q.weight: 4 codes of 3"' - "$BNPROF"
check 'its JSON says so, too' bash -c '"$1" inspect --json codes.gguf | tr -d "[:space:]" | grep -q "\"codes_of_3\":4.*\"status\":\"failed\""' - "$BNPROF"
plan
