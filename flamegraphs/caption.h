/* SPDX-License-Identifier: MIT
 * What a picture says above itself: whose time it is, which part is drawn, and how far the record can be
 * trusted. */
#ifndef FLAMEGRAPHS_CAPTION_H
#define FLAMEGRAPHS_CAPTION_H

#include "flamegraphs/view.h"

struct bn_caption {
    char *title, *what, *quality; /* one line each; owned */
};

/* Of a view of a recording; `tree` is that view's. Whatever is not known is called unknown. */
struct bn_caption bn_caption_of_profile(const struct bn_profile *p, const struct bn_view *view,
                                        const struct bn_tree *tree);
/* Of folded stacks, about which nothing else is known; name: of the file. */
struct bn_caption bn_caption_of_folded(const char *name, const struct bn_tree *tree, bool callers);
void bn_caption_free(struct bn_caption *caption);

#endif
