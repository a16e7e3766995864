#!/bin/bash
# The pictures of stacks.folded and of recording.json (made by hand: 616 samples of a run with two threads), byte for
# byte but for style and script, are what the stored SVG files hold.
# After a wanted change: UPDATE=1 tests/golden/test_svg.sh, look at the difference, commit it.
[ -z "${UPDATE:-}" ] || cd "$(dirname "$0")/../.." || exit
# shellcheck source=tests/cli/lib.sh
. tests/cli/lib.sh
golden=$root/tests/golden

# picture NAME ARGUMENT…
picture() {
    local name=$1
    shift
    if ! "$BNPROF" svg "$@" -o "$name.svg" >out 2>err; then
        not_ok "$name is drawn" "$(cat err)"
        return
    fi
    sed '/<style>/,/<\/style>/d; /<script>/,/<\/script>/d' "$name.svg" >"$name.plain"
    if [ -n "${UPDATE:-}" ]; then
        cp "$name.plain" "$golden/$name.svg"
        echo "# wrote tests/golden/$name.svg"
    fi
    check "$name is as stored" diff -u "$golden/$name.svg" "$name.plain"
    if command -v xmllint >/dev/null; then
        check "$name is well-formed XML" xmllint --noout "$name.svg"
    else
        skip "$name is well-formed XML" "no xmllint"
    fi
}

picture stacks --folded "$golden/stacks.folded"
picture stacks-icicle --folded "$golden/stacks.folded" --icicle --min-width 2
picture stacks-callers --folded "$golden/stacks.folded" --callers
picture recording-stage "$golden/recording.json"
picture recording-thread "$golden/recording.json" --by thread --phase decode
plan
