#!/bin/bash
# Who may include whom: the folders' arrows of docs/architecture.md, checked by reading the #include lines.
cd "$(dirname "$0")/.." || exit 1
bad=0
allow() { # ROOM REGEX-of-allowed-headers
    local hits
    hits=$(grep -nE '^[[:space:]]*#[[:space:]]*include[[:space:]]+"' "$1"/*.[ch] 2>/dev/null | grep -vE "\"($2)\"")
    if [ -n "$hits" ]; then
        echo "$1 may include only: $2"
        printf '%s\n' "$hits" | sed 's/^/  /'
        bad=1
    fi
}
allow kernels 'kernels/[^"]*'
allow core '(core|kernels)/[^"]*'
allow profiler 'profiler/[^"]*|core/base\.h|core/scope\.h'
allow flamegraphs 'flamegraphs/[^"]*|profiler/profile\.h|profiler/stats\.h|core/base\.h'
allow hotspots 'hotspots/[^"]*|profiler/profile\.h|profiler/stats\.h|core/base\.h'
allow tools '(tools|core|kernels|profiler|flamegraphs|hotspots)/[^"]*'
allow scopelib 'include/bnprof/scope\.h|core/scope\.h|core/scope_private\.h'
if grep -nE '^[[:space:]]*#[[:space:]]*include[[:space:]]+"' core/scope.h include/bnprof/scope.h; then
    echo "core/scope.h and include/bnprof/scope.h include nothing of ours"
    bad=1
fi
twice=$(git ls-files '*.c' | xargs -n1 basename | sort | uniq -d)
if [ -n "$twice" ]; then
    echo "file stems must be unique: $twice"
    bad=1
fi
[ "$bad" -eq 0 ] && echo "arrows: all includes follow the map"
exit "$bad"
