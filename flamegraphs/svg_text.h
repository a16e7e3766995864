/* SPDX-License-Identifier: MIT
 * Text in an SVG: escaping, cutting, numbers. */
#ifndef FLAMEGRAPHS_SVG_TEXT_H
#define FLAMEGRAPHS_SVG_TEXT_H

#include "core/base.h"

/* Text for XML elements and quoted attributes: & < > " ' escaped; malformed UTF-8, characters that XML
 * forbids, C1 controls and those that turn the writing direction become U+FFFD, tabs and line ends a space.
 */
void bn_svg_put_text(FILE *f, const char *s, size_t n);

/* The same, as much as fits into `room` (at least 1) columns, the rest replaced by "…". Characters from
 * U+1100 on take two columns. */
void bn_svg_put_cut(FILE *f, const char *s, size_t room);

/* "12,345" into buf. Returns buf. */
const char *bn_svg_grouped(uint64_t value, char buf[32]);

#endif
