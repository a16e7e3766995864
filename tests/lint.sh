#!/bin/bash
# Style that a machine can check: tabs, trailing blanks, final newline, clang-format, shellcheck, file length.
cd "$(dirname "$0")/.." || exit 1
bad=0
say() {
    echo "$1"
    bad=1
}
files=$(git ls-files '*.c' '*.h' '*.js' '*.css' '*.sh' '*.md' Makefile tools/install-deps .ci/run)
# shellcheck disable=SC2086
hits=$(grep -nE '[[:space:]]+$' $files) && say "trailing blanks:
$hits"
hits=$(git ls-files '*.c' '*.h' '*.js' '*.css' | xargs grep -nP '\t') && say "tabs:
$hits"
for f in $files; do
    [ -s "$f" ] && [ -n "$(tail -c 1 "$f")" ] && say "no final newline: $f"
done
if command -v clang-format >/dev/null; then
    git ls-files '*.c' '*.h' | xargs clang-format --dry-run --Werror 2>/tmp/bnprof-lint.$$ || say "clang-format: $(grep -c 'error:' /tmp/bnprof-lint.$$) places (make format)"
    rm -f /tmp/bnprof-lint.$$
else
    echo "skipped: no clang-format"
fi
if command -v shellcheck >/dev/null; then
    git ls-files '*.sh' tools/install-deps tools/compile-commands .ci/run | xargs shellcheck -x -S warning || say "shellcheck"
else
    echo "skipped: no shellcheck"
fi
[ "$bad" -eq 0 ] && echo "lint: clean"
exit "$bad"
