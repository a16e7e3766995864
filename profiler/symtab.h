/* SPDX-License-Identifier: MIT
 * Symbols of an image: which name covers an address. A symbol never reaches beyond its own size, so code that
 * no symbol covers stays nameless instead of taking the neighbour's name. */
#ifndef PROFILER_SYMTAB_H
#define PROFILER_SYMTAB_H

#include "core/base.h"

struct bn_image;
struct bn_symtab;

/* Name of the function at vaddr as the symbol table spells it, NULL = none covers it; *exported (may be
 * NULL): it is a function that other files can call by this name. The name belongs to the image. The first
 * call reads the tables; not for several threads at once. */
const char *bn_symtab_find(struct bn_image *image, uint64_t vaddr, bool *exported);
/* Does the image, or its separate debug file, have a table of all its functions (.symtab), not only of those
 * that other files can call? */
bool bn_symtab_is_full(const struct bn_image *image);
/* Where the function that covers vaddr begins, by its symbol; false = none that is typed as a function. */
bool bn_symtab_start(struct bn_image *image, uint64_t vaddr, uint64_t *start);
void bn_symtab_free(struct bn_symtab *symtab);

/* Length of a name without what compilers append to parts and clones of a function (.cold .part.0 .isra.0
 * .constprop.0 .lto_priv.0 .localalias .llvm.123) and without a symbol version. */
size_t bn_symtab_fold(const char *name);

#endif
