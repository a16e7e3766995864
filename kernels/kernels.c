/* SPDX-License-Identifier: MIT
 * The ladder: each instruction set overwrites the slots for which it has something better. */
#include "kernels/kernels.h"

#include "kernels/cpu.h"
#include "kernels/isa.h"

#include <string.h>

const char *bn_kernel_slot_name(enum bn_kernel_slot slot)
{
#define SLOT_NAME(name, ret, args) #name,
    static const char *const names[] = {BN_KERNEL_SLOTS(SLOT_NAME)};
#undef SLOT_NAME

    return names[slot];
}

void bn_kernels_init_c(struct bn_kernels *kernels)
{
#define USE_C(slot, ret, args) BN_USE(slot, c);
    BN_KERNEL_SLOTS(USE_C)
#undef USE_C
}

#ifdef __x86_64__
void bn_kernels_init_avx2(struct bn_kernels *kernels)
{
#define USE_AVX2(slot, ret, args) BN_USE(slot, avx2);
    BN_KERNEL_SLOTS(USE_AVX2)
#undef USE_AVX2
}

/* Without VNNI the ternary products gain little over AVX2, so they stay there. */
void bn_kernels_init_avx512(struct bn_kernels *kernels)
{
    BN_USE(tl1_gemv, avx512);
    BN_USE(tl1_gemm, avx512);
    BN_USE(tl2_gemv, avx512);
    BN_USE(tl2_gemm, avx512);
    BN_USE(i8_quantize, avx512);
    BN_USE(i32_scale, avx512);
    BN_USE(f16_gemv, avx512);
    BN_USE(bf16_gemv, avx512);
    BN_USE(f32_gemv, avx512);
    BN_USE(screen_encode, avx512);
    BN_USE(screen_pack, avx512);
    BN_USE(screen_select, avx512);
    BN_USE(f16_to_f32, avx512);
    BN_USE(f32_to_f16, avx512);
    BN_USE(bf16_to_f32, avx512);
    BN_USE(f32_rmsnorm, avx512);
    BN_USE(i8_rmsnorm, avx512);
    BN_USE(f32_add, avx512);
    BN_USE(f32_relu2_mul, avx512);
    BN_USE(f32_silu_mul, avx512);
    BN_USE(f32_rope_neox, avx512);
    BN_USE(f32_rope_norm, avx512);
    BN_USE(f16_attn_scores, avx512);
    BN_USE(f16_attn_values, avx512);
    BN_USE(f32_exp_sum, avx512);
    BN_USE(f32_join, avx512);
    BN_USE(f32_argmax, avx512);
}

void bn_kernels_init_avx512vnni(struct bn_kernels *kernels)
{
    BN_USE(i2s_gemv, avx512vnni);
    BN_USE(i2s_gemm, avx512vnni);
    BN_USE(i8_attn_scores, avx512vnni);
    BN_USE(i8_attn_weights, avx512vnni);
    BN_USE(i8_attn_values, avx512vnni);
    BN_USE(i2s_pack, avx512vnni);
    BN_USE(qk256_gemv, avx512vnni);
    BN_USE(qk256_gemm, avx512vnni);
    BN_USE(screen_high_gemv, avx512vnni);
    BN_USE(screen_mid_gemv, avx512vnni);
    BN_USE(screen_low_gemv, avx512vnni);
    BN_USE(q8_0_gemv, avx512vnni);
    BN_USE(q8_0_gemm, avx512vnni);
    BN_USE(q4_0_gemv, avx512vnni);
    BN_USE(q4_0_gemm, avx512vnni);
    BN_USE(q6_k_gemv, avx512vnni);
    BN_USE(q6_k_gemm, avx512vnni);
    BN_USE(q4_k_gemv, avx512vnni);
    BN_USE(q4_k_gemm, avx512vnni);
    BN_USE(i2s_block_gemv, avx512vnni);
    BN_USE(i2s_block_gemm, avx512vnni);
    BN_USE(i8_block_sums, avx512vnni);
}
#elif defined __aarch64__
void bn_kernels_init_neon(struct bn_kernels *kernels)
{
    BN_USE(i2s_gemv, neon);
    BN_USE(i2s_gemm, neon);
    BN_USE(i2s_pack, neon);
    BN_USE(qk256_gemv, neon);
    BN_USE(qk256_gemm, neon);
    BN_USE(i2s_block_gemv, neon);
    BN_USE(i2s_block_gemm, neon);
    BN_USE(i8_block_sums, neon);
    BN_USE(q8_0_gemv, neon);
    BN_USE(q8_0_gemm, neon);
    BN_USE(q4_0_gemv, neon);
    BN_USE(q4_0_gemm, neon);
    BN_USE(q6_k_gemv, neon);
    BN_USE(q6_k_gemm, neon);
    BN_USE(q4_k_gemv, neon);
    BN_USE(q4_k_gemm, neon);
    BN_USE(screen_encode, neon);
    BN_USE(screen_pack, neon);
    BN_USE(screen_high_gemv, neon);
    BN_USE(screen_mid_gemv, neon);
    BN_USE(screen_low_gemv, neon);
    BN_USE(screen_select, neon);
    BN_USE(i8_quantize, neon);
    BN_USE(i8_rmsnorm, neon);
    BN_USE(i32_scale, neon);
    BN_USE(f16_gemv, neon);
    BN_USE(bf16_gemv, neon);
    BN_USE(f32_gemv, neon);
    BN_USE(f16_to_f32, neon);
    BN_USE(f32_to_f16, neon);
    BN_USE(bf16_to_f32, neon);
    BN_USE(f32_rmsnorm, neon);
    BN_USE(f32_add, neon);
    BN_USE(f32_relu2_mul, neon);
    BN_USE(f32_silu_mul, neon);
    BN_USE(f32_rope_neox, neon);
    BN_USE(f32_rope_norm, neon);
    BN_USE(f16_attn_scores, neon);
    BN_USE(f16_attn_values, neon);
    BN_USE(i8_attn_scores, neon);
    BN_USE(i8_attn_weights, neon);
    BN_USE(i8_attn_values, neon);
    BN_USE(f32_exp_sum, neon);
    BN_USE(f32_join, neon);
    BN_USE(f32_argmax, neon);
}

void bn_kernels_init_dotprod(struct bn_kernels *kernels)
{
    BN_USE(i2s_gemv, dotprod);
    BN_USE(i2s_gemm, dotprod);
    BN_USE(qk256_gemv, dotprod);
    BN_USE(qk256_gemm, dotprod);
    BN_USE(i2s_block_gemv, dotprod);
    BN_USE(i2s_block_gemm, dotprod);
    BN_USE(q8_0_gemv, dotprod);
    BN_USE(q8_0_gemm, dotprod);
    BN_USE(q4_0_gemv, dotprod);
    BN_USE(q4_0_gemm, dotprod);
    BN_USE(q6_k_gemv, dotprod);
    BN_USE(q6_k_gemm, dotprod);
    BN_USE(q4_k_gemv, dotprod);
    BN_USE(q4_k_gemm, dotprod);
    BN_USE(screen_high_gemv, dotprod);
    BN_USE(screen_mid_gemv, dotprod);
    BN_USE(screen_low_gemv, dotprod);
    BN_USE(i8_attn_scores, dotprod);
}
#endif

void bn_kernels_init_mock(struct bn_kernels *kernels)
{
    BN_USE(i2s_gemv, mock);
    BN_USE(i2s_gemm, mock);
    BN_USE(qk256_gemv, mock);
    BN_USE(qk256_gemm, mock);
    BN_USE(tl1_gemv, mock);
    BN_USE(tl1_gemm, mock);
    BN_USE(tl2_gemv, mock);
    BN_USE(tl2_gemm, mock);
    BN_USE(i2s_block_gemv, mock);
    BN_USE(i2s_block_gemm, mock);
    BN_USE(f16_gemv, mock);
    BN_USE(bf16_gemv, mock);
    BN_USE(f32_gemv, mock);
    BN_USE(q8_0_gemv, mock);
    BN_USE(q8_0_gemm, mock);
    BN_USE(q4_0_gemv, mock);
    BN_USE(q4_0_gemm, mock);
    BN_USE(q6_k_gemv, mock);
    BN_USE(q6_k_gemm, mock);
    BN_USE(q4_k_gemv, mock);
    BN_USE(q4_k_gemm, mock);
}

void bn_kernels_init(struct bn_kernels *kernels, unsigned cpu_flags)
{
    memset(kernels, 0, sizeof *kernels);
    bn_kernels_init_c(kernels);
#ifdef __x86_64__
    if (cpu_flags & BN_CPU_AVX2)
        bn_kernels_init_avx2(kernels);
    if (cpu_flags & BN_CPU_AVX512)
        bn_kernels_init_avx512(kernels);
    if (cpu_flags & BN_CPU_AVX512VNNI)
        bn_kernels_init_avx512vnni(kernels);
#elif defined __aarch64__
    if (cpu_flags & BN_CPU_NEON)
        bn_kernels_init_neon(kernels);
    if (cpu_flags & BN_CPU_DOTPROD)
        bn_kernels_init_dotprod(kernels);
#else
    (void)cpu_flags;
#endif
}
