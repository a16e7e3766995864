#!/bin/bash
# The scope library as its users meet it: installed, found by pkg-config, the programs of docs/scopes.md as they stand there.
. tests/cli/lib.sh
make_it() {
    make -C "$root" --no-print-directory CONFIG="$CONFIG" DESTDIR="$dir/stage" PREFIX=/opt/bnprof "$@"
}

if ! command -v pkg-config >/dev/null || ! command -v make >/dev/null; then
    skip "scopes" "needs make and pkg-config"
    plan
    exit 0
fi

is() { # NAME GOT WANT
    if [ "$2" = "$3" ]; then ok "$1"; else not_ok "$1" "got '$2', expected '$3'"; fi
}

# code NAME: the block of docs/scopes.md that is marked with the file's name
code() {
    awk -v name="$1" '/^```/ { inside = $2 == name; next } inside' "$root/docs/scopes.md" >"$1"
    test -s "$1"
}

# field FILE PATH KEY: of the stage with that path in the output of stages --json
field() {
    awk -v path="$2" -v key="$3" '
        function value(s) { sub(/^[^:]*:[ \t]*/, "", s); gsub(/[",]/, "", s); return s }
        /"name":/ { depth = (length($0) - length(substr($0, match($0, /[^ \t]/)))); d = depth; name[d] = value($0);
                    full = ""; for (i = 0; i <= d; i++) if (i in name && i > 1) full = full (full == "" ? "" : ";") name[i];
                    for (i in name) if (i > d) delete name[i] }
        $1 == "\"" key "\":" && full == path { print value($0); exit }' "$1"
}

# ---- installed and found ----
check "make install" make_it install
export PKG_CONFIG_SYSROOT_DIR="$dir/stage" PKG_CONFIG_LIBDIR="$dir/stage/opt/bnprof/lib/pkgconfig"
library=$dir/stage/opt/bnprof/lib
check "pkg-config knows it" pkg-config --exists bnprof-scope
is "version" "$(pkg-config --modversion bnprof-scope)" "$("$BNPROF" --version | grep -oE '[0-9]+(\.[0-9]+)+' | head -1)"
check "soname" sh -c "readelf -d '$library/libbnprof-scope.so' | grep -q 'SONAME.*libbnprof-scope\.so\.1\]'"
is "the libraries show nothing but the header's names" \
    "$( (nm -D --defined-only "$library/libbnprof-scope.so"; nm -g --defined-only "$library/libbnprof-scope.a") | awk 'NF == 3 { print $3 }' | grep -v '^bnprof_[a-z_]*_$')" ""
read -r -a flags <<<"$(pkg-config --cflags --libs bnprof-scope)"
read -r -a compile <<<"$(pkg-config --cflags bnprof-scope)"
flags+=(-O2 -g -pthread -Wall -Wextra -Wpedantic -Werror "-Wl,-rpath,$library")
cat >all.c <<'END'
#include <bnprof/scope.h>
int main(void)
{
    static struct bnprof_stage stage = BNPROF_STAGE("y");
    BNPROF_SCOPE("x");
    BNPROF_SCOPE_OF(&stage);
    BNPROF_WORK_FOR(bnprof_here());
    BNPROF_WAIT();
    return bnprof_active();
}
END
cp all.c all.cpp
for std in c99 c11; do
    for cc in gcc clang; do
        if command -v $cc >/dev/null; then
            check "$cc -std=$std" $cc -std=$std all.c "${flags[@]}" -Wshadow -Wstrict-prototypes -o all
        else
            skip "$cc -std=$std" "no $cc"
        fi
    done
done
for std in c++11 c++17; do
    for cxx in g++ clang++; do
        if command -v $cxx >/dev/null; then
            check "$cxx -std=$std without exceptions" $cxx -std=$std -fno-exceptions -fno-rtti all.cpp "${flags[@]}" -Wshadow -o all
        else
            skip "$cxx -std=$std without exceptions" "no $cxx"
        fi
    done
done
check "and it runs" ./all

# ---- the documented programs ----
check "docs/scopes.md has tokens.c" code tokens.c
check "docs/scopes.md has sort.cpp" code sort.cpp
check "tokens.c, shared library" cc tokens.c "${flags[@]}" -o tokens
check "tokens.c, static library" cc tokens.c "${compile[@]}" -O2 -g -pthread "$library/libbnprof-scope.a" -o tokens-static
./tokens >plain
./tokens-static >plain-static
check "both say the same" cmp plain plain-static
if command -v g++ >/dev/null; then
    check "sort.cpp" g++ -std=c++11 -fno-exceptions sort.cpp "${flags[@]}" -o sort
else
    skip "sort.cpp" "no g++"
fi
if ! "$BNPROF" record -- true 2>refused && grep -q 'perf events are refused' refused; then
    skip "recorded" "$(sed 's/^bnprof: //' refused)"
    plan
    exit 0
fi
for program in tokens tokens-static; do
    "$BNPROF" record -F 999 -o $program.data -- ./$program >out 2>err
    is "$program: recorded" $? 0
    check "$program: says the same as alone" cmp out plain
    "$BNPROF" stages $program.data/latest --json >stages.json
    is "$program: load" "$(field stages.json load calls)" 1
    is "$program: tokens" "$(field stages.json token calls)" 40
    is "$program: layers" "$(field stages.json 'token;layer;multiply' calls)" 160
    is "$program: waiting" "$(field stages.json 'token;layer;multiply;wait' calls)" 160
    is "$program: operations of both threads" "$(field stages.json token ops)" $((2 * 160 * 2 * 1500 * 1024))
    check "$program: workers" test "$(field stages.json 'token;layer;multiply' worker_ns)" -gt 1000000
    is "$program: steps are its tokens" "$(grep -oE '"tokens_total": ?[0-9]+' $program.data/latest/profile.json | grep -oE '[0-9]+$')" 40
    check "$program: the thread's name" grep -q '"worker"' $program.data/latest/profile.json
    "$BNPROF" svg $program.data/latest -o - >graph.svg 2>/dev/null
    check "$program: a flame graph by stage" grep -q '<title>multiply (' graph.svg
    check "$program: with the token as root" grep -q '<title>token (' graph.svg
    "$BNPROF" hotspots $program.data/latest >hotspots.md
    check "$program: hotspots begin with the stage" grep -qE 'token.*layer.*multiply' hotspots.md
    check "$program: its own stages are no loading" grep -qE "In the program's stages: 9[0-9]" hotspots.md
    check "$program: time per step" grep -qE 'Per step\*\*: [0-9.]+ .s of CPU time' hotspots.md
    check "$program: one layer" "$BNPROF" svg $program.data/latest --layer 2 -o layer.svg
done
if [ -x sort ]; then
    "$BNPROF" record -F 999 -o sort.data -- ./sort >out 2>err
    is "sort: recorded" $? 0
    "$BNPROF" stages sort.data/latest --json >stages.json
    is "sort: rounds" "$(field stages.json round calls)" 25
    is "sort: a stage named at run time" "$(field stages.json 'round;sort' calls)" 25
    is "sort: bytes" "$(field stages.json 'round;sort' bytes)" $((25 * 800000))
    is "sort: a function's own" "$(field stages.json 'round;make' calls)" 25
fi

# ---- timers against the CPU clock ----
# A scope's time is the CPU time that the program measures in it, within 2 %, but for what it measures itself that it did not
# run there (wall time beyond CPU time): so a busy machine does not change the verdict.
check "scope_cpu.c" cc "$root/tests/data/scope_cpu.c" "${flags[@]}" -o scope_cpu
"$BNPROF" record -F 999 -o cpu.data -- ./scope_cpu >measured 2>err
is "scope_cpu: recorded" $? 0
"$BNPROF" stages cpu.data/latest --json >stages.json
while read -r stage cpu wall; do
    is "$stage: calls" "$(field stages.json "round;$stage" calls)" 120
    self=$(field stages.json "round;$stage" self_ns)
    check "$stage: $self ns by the scopes, $cpu ns of CPU, $wall ns by the clock" \
        awk -v self="$self" -v cpu="$cpu" -v wall="$wall" 'BEGIN { exit !(self >= 0.98 * cpu && self <= 1.02 * cpu + (wall - cpu)) }'
done <measured
is "three stages were measured" "$(wc -l <measured)" 3

# ---- scopes that are open at the end ----
# What the program saw itself bounds what must be found, but for the scopes' own cost, which is taken out.
check "scope_open.c" cc "$root/tests/data/scope_open.c" "${flags[@]}" -o scope_open
for event in auto timer; do
    for end in exit:3 abort:134 exec:3; do
        what="$event, ${end%:*}"
        "$BNPROF" record -F 999 -e $event -o open.data -- ./scope_open "${end%:*}" >seen 2>err
        is "$what: status" $? "${end#*:}"
        "$BNPROF" stages open.data/latest --json >stages.json
        is "$what: calls" "$(field stages.json main calls) $(field stages.json 'main;inner' calls)" "1 4"
        is "$what: still open" "$(field stages.json main open_calls) $(field stages.json 'main;inner' open_calls)" "1 1"
        read -r _ main inner begin <seen
        total=$(field stages.json main total_ns)
        check "$what: main, $total ns, was open for $main ns" test "$total" -ge $((main - 20000))
        check "$what: inner was open for $inner ns" test "$(field stages.json 'main;inner' total_ns)" -ge $((inner + 30000000 - 20000))
        after=$(sed -n 's/^after //p' seen)
        check "$what: and to no later end" test "$total" -le \
            "$(if [ "$after" ]; then echo $((after - begin)); else sed -n 's/.*"duration_ns": *\([0-9]*\).*/\1/p' open.data/latest/profile.json | head -1; fi)"
        "$BNPROF" stages open.data/latest >table
        check "$what: the table says so" grep -qE '^  inner .* 1 still open$' table
        "$BNPROF" hotspots open.data/latest >report
        check "$what: the report says so" grep -q '^| main;inner | 4 (1 still open) |' report
        check "$what: its timers agree with its samples" sh -c "! grep -q '^| main.*more samples than timer' report"
    done
done
wait_for_line() { # FILE PATTERN
    for _ in $(seq 300); do
        grep -q "$2" "$1" 2>/dev/null && return
        sleep 0.1
    done
}
for end in INT KILL; do
    rm -rf open.data
    setsid "$BNPROF" record -F 999 -o open.data -- setsid ./scope_open stay >out 2>err &
    pid=$!
    wait_for_line out ready
    sleep 1.5
    kill -$end $pid
    if [ $end = INT ]; then
        sleep 0.3
        kill -INT $pid
    fi
    wait $pid 2>/dev/null
    kill -KILL "$(sed -n 's/^ready //p' out)"
    run=$(find open.data -mindepth 1 -maxdepth 1 -type d)
    "$BNPROF" stages "$run" --json >stages.json 2>err
    is "SIG$end: still open" "$(field stages.json main open_calls) $(field stages.json 'main;inner' open_calls)" "1 1"
    check "SIG$end: up to the recording's end" test "$(field stages.json 'main;inner' total_ns)" -ge 230000000
    "$BNPROF" hotspots "$run" >report
    check "SIG$end: its timers agree with its samples" sh -c "! grep -q '^| main.*more samples than timer' report"
done

# ---- who else gets the region ----
"$BNPROF" record -o shell.data -- sh -c './all; ./tokens' >out 2>err
is "the first program with a scope has it" "$("$BNPROF" stages shell.data/latest --json >s.json; field s.json token calls)" ""
"$BNPROF" record -o shell.data -- sh -c 'true; ./tokens' >out 2>err
is "a shell in front does not" "$("$BNPROF" stages shell.data/latest --json >s.json; field s.json token calls)" 40
check "and its samples are joined" sh -c "'$BNPROF' svg shell.data/latest -o - 2>/dev/null | grep -q '<title>multiply ('"
# ---- C++, two files ----
cat >shared.hpp <<'END'
#include <bnprof/scope.h>
inline void in_header(int rounds)
{
    BNPROF_SCOPE("in_header");
    for (volatile int i = 0; i < rounds * 1000; i++)
        ;
}
template <int n> void in_template()
{
    BNPROF_SCOPE("in_template");
    in_header(n);
}
void other_file();
END
cat >one.cpp <<'END'
#include "shared.hpp"
#include <stdexcept>
int main()
{
    for (int i = 0; i < 30; i++) {
        try {
            BNPROF_SCOPE("main_file");
            in_template<3>();
            other_file();
        } catch (const std::runtime_error &) {
            in_template<4>(); // the scope around has ended with the exception
        }
    }
}
END
cat >two.cpp <<'END'
#include "shared.hpp"
#include <stdexcept>
void other_file()
{
    BNPROF_SCOPE("other_file");
    in_template<3>();
    in_header(2);
    throw std::runtime_error("out of two scopes");
}
END
if command -v g++ >/dev/null; then
    check "C++ from two files" g++ -std=c++11 one.cpp two.cpp "${flags[@]}" -o two
    "$BNPROF" record -F 999 -o two.data -- ./two >out 2>err
    is "C++ from two files: recorded" $? 0
    "$BNPROF" stages two.data/latest --json >stages.json
    is "C++: a stage of the main file" "$(field stages.json main_file calls)" 30
    is "C++: a template of both, here" "$(field stages.json 'main_file;in_template;in_header' calls)" 30
    is "C++: and there, below the other file's stage" "$(field stages.json 'main_file;other_file;in_template;in_header' calls)" 30
    is "C++: an inline function of both is one stage" "$(field stages.json 'main_file;other_file;in_header' calls)" 30
    is "C++: an exception ends the scopes that it leaves" "$(field stages.json 'in_template;in_header' calls)" 30
else
    skip "C++ from two files" "no g++"
fi

# ---- plugins ----
cat >plugin.c <<'END'
#include <bnprof/scope.h>
void work(void);
void work(void)
{
    BNPROF_SCOPE("plugin");
    for (volatile int i = 0; i < 1000000; i++)
        ;
}
END
cat >host.c <<'END'
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
static pthread_barrier_t worked, unloaded;
static void *thread(void *work)
{
    void (*call)(void);
    *(void **)&call = work;
    call();
    pthread_barrier_wait(&worked);
    pthread_barrier_wait(&unloaded);
    return NULL; /* what the plugin left to be done at the thread's end is gone */
}
int main(int argc, char **argv)
{
    pthread_barrier_init(&worked, NULL, 2);
    pthread_barrier_init(&unloaded, NULL, 2);
    for (int i = 0; i < 3; i++) {
        pthread_t id;
        void *plugin = dlopen(argv[argc - 1], RTLD_NOW), *work = plugin ? dlsym(plugin, "work") : NULL;
        if (!work || pthread_create(&id, NULL, thread, work) != 0)
            return 2;
        pthread_barrier_wait(&worked);
        dlclose(plugin);
        pthread_barrier_wait(&unloaded);
        pthread_join(id, NULL);
    }
    return 0;
}
END
check "host.c" cc host.c -O2 -pthread -ldl -o host
check "plugin.c, shared library" cc -shared -fPIC plugin.c "${flags[@]}" -o plugin-shared.so
check "plugin.c, static library" cc -shared -fPIC plugin.c "${compile[@]}" -O2 "$library/libbnprof-scope.a" -o plugin-static.so
for kind in shared static; do
    check "$kind plugin, not recorded" ./host ./plugin-$kind.so
    "$BNPROF" record -F 999 -o plugin.data -- ./host ./plugin-$kind.so >out 2>err
    is "$kind plugin: loaded and unloaded three times" $? 0
done
"$BNPROF" record -F 999 -o plugin.data -- ./host ./plugin-shared.so >out 2>err
is "the shared library goes on when the plugin comes back" "$("$BNPROF" stages plugin.data/latest --json >s.json; field s.json plugin calls)" 3

cat >becomes.c <<'END'
#include <bnprof/scope.h>
#include <time.h>
#include <unistd.h>
static void spin(double seconds)
{
    while (clock() < seconds * CLOCKS_PER_SEC)
        ;
}
int main(int argc, char **argv)
{
    if (argc == 1) {
        BNPROF_SCOPE("before");
        spin(0.2);
        execl("/proc/self/exe", argv[0], "again", (char *)0);
    }
    BNPROF_SCOPE("after");
    spin(0.8); /* the process's CPU clock goes on: 0.6 s more */
    return bnprof_active();
}
END
check "becomes.c" cc becomes.c "${flags[@]}" -o becomes
"$BNPROF" record -F 999 -o becomes.data -- ./becomes >out 2>err
is "a program that execs itself" $? 0
"$BNPROF" svg becomes.data/latest -o - >graph.svg 2>/dev/null
percent=$(sed -n 's/.*<title>before ([0-9,]* samples, \([0-9]*\)\.[0-9]*%.*/\1/p' graph.svg)
check "what it ran there: $percent % of the samples" test "$percent" -gt 12 -a "$percent" -lt 40
"$BNPROF" record -o foreign.data -- "$root/$BUILD/tests/data/truth_spin" 200 >out 2>err
check "a program without scopes has no stages" sh -c "'$BNPROF' stages foreign.data/latest 2>&1 | grep -q 'marks none'"
"$BNPROF" record -o foreign.data -- sh -c 'exec 3</dev/null; readlink /proc/self/fd/3' >out 2>err
is "the program's own descriptors keep their numbers" "$(cat out)" /dev/null
(
    ulimit -f 20000
    "$BNPROF" record -o limited.data -- ./tokens >out 2>err
    echo $? >status
)
is "no room for the region: the program is recorded without" "$(cat status)" 0
check "and it is said why" sh -c "'$BNPROF' stages limited.data/latest 2>&1 | grep -q 'no stages: shared memory for the scopes: File too large'"

check "make uninstall" make_it uninstall
is "leaves no file" "$(find "$dir/stage" -type f -o -type l | wc -l)" 0
plan
