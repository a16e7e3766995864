/* SPDX-License-Identifier: MIT
 * The demo model: core/tiny-bitnet-i2s.gguf, put into the binary by the Makefile. */
#include "core/builtin.h"

extern const unsigned char bn_embed_tiny_bitnet_i2s_gguf[], bn_embed_tiny_bitnet_i2s_gguf_end[];

struct bn_str bn_builtin_model(void)
{
    return (struct bn_str){(const char *)bn_embed_tiny_bitnet_i2s_gguf,
                           (size_t)(bn_embed_tiny_bitnet_i2s_gguf_end - bn_embed_tiny_bitnet_i2s_gguf)};
}
