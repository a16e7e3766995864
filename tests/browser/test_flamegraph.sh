#!/bin/bash
# The flame graph's script in headless Chromium: the picture is drawn by bnprof, flamegraph_checks.js is put in as its
# last script, the DOM afterwards holds the results.
# shellcheck source=tests/cli/lib.sh
. tests/cli/lib.sh
browser=$(command -v chromium || command -v chromium-browser || command -v google-chrome)
if [ -z "$browser" ]; then
    skip "flame graph in a browser" "no chromium"
    plan
    exit
fi

# draw NAME CHECKS [OPTION…]: NAME.svg with the checks in it
draw() {
    local name=$1 checks=$2
    shift 2
    if ! "$BNPROF" svg --folded stacks.folded "$@" -o "$name.svg" >out 2>err; then
        not_ok "$name is drawn" "$(cat err)"
        return 1
    fi
    # Without its last line, "</svg>".
    { sed '$d' "$name.svg"; printf '<script data-checks="%s"><![CDATA[\n' "$checks"
      cat "$root/tests/browser/flamegraph_checks.js"; printf ']]></script>\n</svg>\n'; } >"$name-checks.svg"
}

# run_checks CHECKS FILE[#FRAGMENT] WIDTH: the TAP lines, numbered
run_checks() {
    local checks=$1 dom=dom-$1.txt line
    timeout 120 "$browser" --headless --no-sandbox --disable-gpu --disable-quic --no-first-run \
        --disable-background-networking --disable-component-update --disable-sync --hide-scrollbars \
        --user-data-dir="$(mktemp -d "$dir/chromium.XXXXXX")" --virtual-time-budget=20000 \
        --window-size="$3,800" --dump-dom "file://$dir/$2" >"$dom" 2>chromium.log </dev/null
    if ! grep -q "^# end of $checks\$" "$dom"; then
        not_ok "$checks: the checks ran to their end" "$(tail -n 5 chromium.log)"
        return
    fi
    while IFS= read -r line; do
        case $line in
        'ok - '*) ok "${line#ok - }" ;;
        'not ok - '*) not_ok "${line#not ok - }" ;;
        *) printf '%s\n' "$line" ;;
        esac
    done < <(sed -n '/<desc id="tap">/,/^# end of/p' "$dom" | sed -n '/^ok\|^not ok\|^# /p')
}

cat >stacks.folded <<'END'
main;decode;ffn;gemv_avx2 600
main;decode;ffn;quant 50
main;decode;attention;gemv_avx2 250
main;decode;attention;softmax 40
main;load;memcpy 45
main;load 10
odd/name&p=x#y%z 5
END
draw main main && run_checks main main-checks.svg 1300
draw fragment fragment && run_checks fragment 'fragment-checks.svg#p=main/decode&s=GEMV&i=1' 1300
draw wide wide && run_checks wide wide-checks.svg 1900
draw narrow narrow && run_checks narrow narrow-checks.svg 500
draw icicle icicle --icicle && run_checks icicle icicle-checks.svg 1300
printf 'main;a 9990\nmain;b;c;d;deepest 10\n' >stacks.folded
draw deep deep && run_checks deep deep-checks.svg 1300
: >stacks.folded
draw empty empty && run_checks empty empty-checks.svg 1300
plan
