#!/bin/bash
# ARM64: the kernels with NEON and dot products, cross-compiled and proved by checkkernel under qemu-user on a CPU without and on
# one with dot products (those in C are proved on the machine that runs the test); the engine on the demo model, which must choose
# the tokens that it chooses here.
. tests/cli/lib.sh
gcc=aarch64-linux-gnu-gcc
arm=$root/build/aarch64/tests

why=
[ "${CONFIG:-release}" = release ] || why="the programs are the same in every configuration; CONFIG=release runs them"
for tool in $gcc qemu-aarch64; do
    command -v $tool >/dev/null || why="no $tool (tools/install-deps --dev)"
done
libc=$($gcc -print-file-name=libc.so.6 2>/dev/null)
[ -n "$why" ] || [ -f "$libc" ] || why="no C library for $gcc (tools/install-deps --dev)"
if [ -n "$why" ]; then
    skip "ARM64" "$why"
    plan
    exit 0
fi

emulate() { # CPU PROGRAM…
    qemu-aarch64 -L "$(dirname "$(dirname "$libc")")" -cpu "$@"
}

# proves NAME CPU ISAS [FILTER]: all that checkkernel tries passes, and it tries kernels of each of ISAS
proves() {
    local name=$1 cpu=$2 isas=$3 isa
    shift 3
    if ! emulate "$cpu" "$arm/kernels/checkkernel" --tap "$@" >log 2>&1 || grep -q '^not ok' log; then
        not_ok "$name" "$(grep -v '^ok' log)"
        return
    fi
    for isa in $isas; do
        if ! grep -q "^ok [0-9]* - .*_$isa\$" log; then
            not_ok "$name" "no kernel of $isa was tried: $(cat log)"
            return
        fi
    done
    ok "$name"
}

MAKEFLAGS='' check "checkkernel and the engine cross-compile without a warning" make -C "$root" WERROR=1 aarch64
proves "kernels with NEON on a Cortex-A53" cortex-a53 neon _neon
check "which lacks dot products" grep -q 'skipped: CPU lacks dotprod' log
proves "kernels with dot products on a Cortex-A76" cortex-a76 dotprod _dotprod

# agrees CPU ISA KERNEL: the engine uses KERNEL, is close to the reference and chooses the tokens in the file `here`
agrees() {
    local name="the engine on a $1 with $2"
    if ! emulate "$1" "$arm/engine/agree" "$2" >out 2>&1; then
        not_ok "$name" "$(cat out)"
    elif ! grep -q "^kernels.* $3\b" out; then
        not_ok "$name" "$3 was not used: $(cat out)"
    elif ! grep '^tokens' out | cmp -s - here; then
        not_ok "$name" "$(cat here out)"
    else
        ok "$name"
    fi
}

"$root/$BUILD/tests/engine/agree" c | grep '^tokens' >here
check "the engine here chooses tokens" test "$(wc -w <here)" -gt 20
agrees cortex-a53 c i2s_gemv_c
agrees cortex-a53 neon i2s_gemv_neon
agrees cortex-a76 dotprod i2s_gemv_dotprod
plan
