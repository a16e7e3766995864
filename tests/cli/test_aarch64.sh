#!/bin/bash
# The kernels for ARM64: cross-compiled, then proved by checkkernel under qemu-user on a CPU without
# and on one with dot products.
. tests/cli/lib.sh
gcc=aarch64-linux-gnu-gcc
checkkernel=$root/build/aarch64/tests/kernels/checkkernel

if [ "${CONFIG:-release}" != release ]; then
    skip "ARM64 kernels" "the program is the same in every configuration; CONFIG=release runs it"
    plan
    exit 0
fi
for tool in $gcc qemu-aarch64; do
    if ! command -v $tool >/dev/null; then
        skip "ARM64 kernels" "no $tool (tools/install-deps --dev)"
        plan
        exit 0
    fi
done
if ! echo '#include <stdlib.h>' | $gcc -E - >/dev/null 2>&1; then
    skip "ARM64 kernels" "no C library for $gcc (tools/install-deps --dev)"
    plan
    exit 0
fi

# proves NAME CPU ISAS [FILTER]: all that checkkernel tries passes, and it tries kernels of each of ISAS
proves() {
    local name=$1 cpu=$2 isas=$3 isa
    shift 3
    if ! qemu-aarch64 -cpu "$cpu" "$checkkernel" --tap "$@" >log 2>&1 || grep -q '^not ok' log; then
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

MAKEFLAGS='' check "checkkernel cross-compiles without a warning" make -C "$root" WERROR=1 aarch64
proves "C and NEON on a Cortex-A53" cortex-a53 'c neon'
check "which lacks dot products" grep -q 'skipped: CPU lacks dotprod' log
proves "dot products on a Cortex-A76" cortex-a76 dotprod _dotprod
plan
