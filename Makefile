# SPDX-License-Identifier: MIT
# make help lists the targets. Everything is built under build/$(CONFIG); only release writes ./bnprof.
CONFIG  ?= release
CC      ?= gcc
PREFIX  ?= /usr/local
DESTDIR ?=
MODELS  ?= $(wildcard ../shared/models)
LIBDIR  ?= $(PREFIX)/lib
V       ?= 0
Q       := $(if $(filter 1,$(V)),,@)
BUILD   := build/$(CONFIG)
ARCH    := $(shell uname -m)
MAKEFLAGS += -r --no-print-directory

PACKAGES := libdw libelf libunwind libunwind-generic libcjson libpcre2-8 libcrypto
PKG_CONFIG ?= pkg-config
OBJCOPY ?= objcopy

WARN     := -Wall -Wextra -Wshadow -Wvla -Wstrict-prototypes -Wmissing-prototypes
CFLAGS_release := -O2
CFLAGS_debug   := -O0
CFLAGS_asan    := -O1 -fsanitize=address,undefined -fno-sanitize-recover=all
CFLAGS_tsan    := -O1 -fsanitize=thread
CFLAGS_fuzz    := -O1 -fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=all
ifeq ($(CFLAGS_$(CONFIG)),)
$(error CONFIG=$(CONFIG): expected release, debug, asan or tsan)
endif
CFLAGS   ?=
ALL_CFLAGS  = -std=c11 -D_GNU_SOURCE -I. -I$(BUILD) $(CFLAGS_$(CONFIG)) -g -fno-omit-frame-pointer -ffp-contract=off \
              -pthread $(WARN) $(if $(WERROR),-Werror) $(shell $(PKG_CONFIG) --cflags $(PACKAGES) 2>/dev/null) $(CFLAGS)
ALL_LDFLAGS = $(filter -fsanitize%,$(CFLAGS_$(CONFIG))) -pthread $(LDFLAGS)
# libiberty has no .pc file.
LIBS        = $(shell $(PKG_CONFIG) --libs $(PACKAGES)) -liberty -lm

# A kernel file's suffix says which instructions it may use; every other file is for the baseline CPU.
ISA.avx2       := -mavx2 -mfma -mf16c
ISA.avx512     := $(ISA.avx2) -mavx512f -mavx512bw -mavx512dq -mavx512vl
ISA.avx512vnni := $(ISA.avx512) -mavx512vnni
ISA.neon       := -march=armv8-a
ISA.dotprod    := -march=armv8.2-a+dotprod
isa = $(ISA.$(lastword $(subst _, ,$(basename $(notdir $1)))))

ROOMS   := kernels core profiler flamegraphs hotspots tools
SOURCES := $(filter-out profiler/timer_preload.c profiler/truth_library.c,$(sort $(foreach room,$(ROOMS),$(wildcard $(room)/*.c))))
KERNELS.x86_64  := avx2 avx512 avx512vnni
KERNELS.aarch64 := neon dotprod
SOURCES := $(filter-out $(patsubst %,\%_%.c,$(filter-out $(KERNELS.$(ARCH)),$(KERNELS.x86_64) $(KERNELS.aarch64))),$(SOURCES))
EMBED   := core/tiny-bitnet-i2s.gguf $(wildcard flamegraphs/*.js flamegraphs/*.css)
SWAP    := $(BUILD)/profiler/truth_first.so $(BUILD)/profiler/truth_other.so
OBJECTS := $(SOURCES:%.c=$(BUILD)/%.o)
LIBRARY := $(BUILD)/libbnprof.a
SCOPE   := $(BUILD)/libbnprof-scope
PROGRAM := $(BUILD)/bnprof
PRELOAD := $(BUILD)/libbnprof-timer.so
TESTS   := $(patsubst %.c,$(BUILD)/%,$(sort $(wildcard tests/unit/test_*.c)))
TRUTHS  := $(patsubst %.c,$(BUILD)/%,$(sort $(wildcard tests/data/truth_*.c))) $(BUILD)/tests/data/swap_one.so $(BUILD)/tests/data/swap_two.so \
           $(BUILD)/tests/data/replaced_calls.so
AGREE := $(BUILD)/tests/engine/agree
CHECKKERNEL := $(if $(wildcard tests/kernels/*.c),$(BUILD)/tests/kernels/checkkernel)

all: $(if $(filter release,$(CONFIG)),bnprof,$(PROGRAM)) $(SCOPE).a $(SCOPE).so $(PRELOAD) compile_commands.json ## build (default): ./bnprof

bnprof: $(BUILD)/bnprof
	$(Q)ln -f $< $@ 2>/dev/null || cp $< $@

$(PROGRAM): $(BUILD)/tools/bnprof.o $(LIBRARY)
	@echo "  LD  $@"
	$(Q)$(CC) $(ALL_LDFLAGS) -o $@ $^ $(LIBS)

$(LIBRARY): $(filter-out $(BUILD)/tools/bnprof.o,$(OBJECTS)) $(EMBED:%=$(BUILD)/%.embed.o) $(SWAP:%=%.embed.o)
	@echo "  AR  $@"
	$(Q)rm -f $@ && $(AR) rcs $@ $^

$(BUILD)/%.o: %.c Makefile
	@mkdir -p $(@D)
	@echo "  CC  $<"
	$(Q)$(CC) $(ALL_CFLAGS) $(call isa,$<) -MMD -MP -c -o $@ $<

# For other programs: <bnprof/scope.h>. Built plainly, never with a sanitizer. Both forms show only the header's names.
SCOPE_SOURCES := core/scope_region.c scopelib/scopelib.c
SCOPE_SONAME  := libbnprof-scope.so.1
$(BUILD)/pic/%.o: %.c Makefile
	@mkdir -p $(@D)
	@echo "  CC  $<"
	$(Q)$(CC) -std=c11 -D_GNU_SOURCE -I. -O2 -g -fno-omit-frame-pointer -fPIC -fvisibility=hidden -ftls-model=initial-exec \
	    -pthread $(WARN) $(if $(WERROR),-Werror) -MMD -MP -c -o $@ $<

$(SCOPE).so: $(SCOPE_SOURCES:%.c=$(BUILD)/pic/%.o)
	@echo "  LD  $@"
	$(Q)$(CC) -shared -pthread -Wl,-soname,$(SCOPE_SONAME),-z,defs,-z,nodelete -o $@ $^

$(SCOPE).a: $(SCOPE_SOURCES:%.c=$(BUILD)/pic/%.o)
	@echo "  AR  $@"
	$(Q)$(CC) -r -nostdlib -o $(BUILD)/pic/bnprof-scope.o $^ && $(OBJCOPY) --localize-hidden $(BUILD)/pic/bnprof-scope.o && \
	    rm -f $@ && $(AR) rcs $@ $(BUILD)/pic/bnprof-scope.o

# What record loads into other programs where perf events are refused. Never with a sanitizer: it is a guest there.
$(PRELOAD): $(patsubst %,profiler/timer_%.c,inside maps preload ring take) $(patsubst %,profiler/timer_%.h,inside maps region ring take) Makefile
	@mkdir -p $(@D)
	@echo "  LD  $@"
	$(Q)$(CC) -std=c11 -D_GNU_SOURCE -I. -O2 -g -fno-omit-frame-pointer -fPIC -fvisibility=hidden -pthread $(WARN) $(if $(WERROR),-Werror) \
	    -shared -Wl,-soname,$(@F) -o $@ $(filter %.c,$^) -ldl

# The fingerprint tells what was built, and from what; it is remade when that changes.
VERSION := $(shell sed -n 's/^\#define BN_VERSION "\(.*\)"/\1/p' tools/cmds.h)
GIT_DESCRIBE := $(shell git describe --always --dirty --abbrev=12 2>/dev/null || echo unknown)
$(shell mkdir -p $(BUILD); echo '$(GIT_DESCRIBE)' | cmp -s - $(BUILD)/git-describe || echo '$(GIT_DESCRIBE)' > $(BUILD)/git-describe)
$(BUILD)/profiler/fingerprint.o: CFLAGS += -DBN_BUILD_VERSION='"$(VERSION)"' -DBN_GIT_DESCRIBE='"$(GIT_DESCRIBE)"' -DBN_BUILD_FLAGS='"$(CFLAGS_$(CONFIG)) -g -fno-omit-frame-pointer -ffp-contract=off"'
$(BUILD)/profiler/fingerprint.o: $(BUILD)/git-describe

# Any file as bytes: bn_embed_<name> … bn_embed_<name>_end, with every character of the base name that C does not allow as _.
define embed
	@mkdir -p $(@D)
	@echo "  EMB $<"
	$(Q)name=bn_embed_$$(basename $< | tr -c 'A-Za-z0-9\n' '_'); \
	printf '.section .rodata\n.balign 64\n.global %s\n%s:\n.incbin "%s"\n.global %s_end\n%s_end:\n.byte 0\n.section .note.GNU-stack,"",%%progbits\n' \
	    $$name $$name $< $$name $$name | $(CC) -c -x assembler -o $@ -
endef
$(BUILD)/%.embed.o: % Makefile
	$(embed)
$(BUILD)/%.so.embed.o: $(BUILD)/%.so Makefile
	$(embed)

# Two libraries of one size for the self-test. Built plainly: they are what is measured.
$(SWAP): $(BUILD)/profiler/truth_%.so: profiler/truth_library.c Makefile
	@mkdir -p $(@D)
	@echo "  LD  $@"
	$(Q)$(CC) -std=c11 -DWORK=truth_in_$* -O1 -fno-omit-frame-pointer -fPIC -shared -nostdlib -Wl,-soname,$*.so -o $@ $<

$(BUILD)/tests/unit/test_scopelib: $(BUILD)/scopelib/scopelib.o
$(BUILD)/tests/unit/%: $(BUILD)/tests/unit/%.o $(LIBRARY)
	@echo "  LD  $@"
	$(Q)$(CC) $(ALL_LDFLAGS) $(LDFLAGS.$(notdir $@)) -o $@ $(filter %.o,$^) $(filter-out %.o,$^) $(LIBS) -lcmocka

# Needs no library but libc: it can be built for another machine.
$(BUILD)/tests/kernels/checkkernel: $(patsubst %.c,$(BUILD)/%.o,$(wildcard tests/kernels/*.c) $(filter kernels/%,$(SOURCES)) core/base.c)
	@echo "  LD  $@"
	$(Q)$(CC) $(ALL_LDFLAGS) -o $@ $^ -lm

# The engine without what needs other libraries: the tokenizer and digests.
ENGINE := $(filter-out core/digest.c core/pretokenize.c core/tokenizer_json.c,$(filter kernels/% core/%,$(SOURCES))) tools/engine.c
$(BUILD)/libengine.a: $(ENGINE:%.c=$(BUILD)/%.o) $(patsubst %,$(BUILD)/%.embed.o,$(filter core/%,$(EMBED)))
	@echo "  AR  $@"
	$(Q)rm -f $@ && $(AR) rcs $@ $^

$(BUILD)/tests/engine/agree: $(BUILD)/tests/engine/agree.o $(BUILD)/libengine.a
	@echo "  LD  $@"
	$(Q)$(CC) $(ALL_LDFLAGS) -o $@ $^ -lm

# For ARM64, by a cross compiler: the kernels with their proof, and the engine on the demo model.
AARCH64 := aarch64-linux-gnu-
aarch64: ## checkkernel and the engine for ARM64, in build/aarch64
	$(Q)$(MAKE) CONFIG=release BUILD=build/aarch64 ARCH=aarch64 CC=$(AARCH64)gcc CFLAGS= AR=$(AARCH64)ar PACKAGES= LDFLAGS= \
	    build/aarch64/tests/kernels/checkkernel build/aarch64/tests/engine/agree

# Programs whose profile is known. Built plainly, never with a sanitizer: they are what is measured, not what measures.
$(BUILD)/tests/data/truth_%: tests/data/truth_%.c Makefile
	@mkdir -p $(@D)
	@echo "  CC  $<"
	$(Q)$(CC) -std=c11 -D_GNU_SOURCE -I. -O1 -g -fno-omit-frame-pointer -pthread -o $@ $< -ldl -lm

# Two libraries of the same size that differ in one name of the same length.
$(BUILD)/tests/data/swap_%.so: tests/data/swap_library.c Makefile
	@mkdir -p $(@D)
	@echo "  CC  $@"
	$(Q)$(CC) -std=c11 -D_GNU_SOURCE -DSWAP_NAME=work_of_$* -O1 -g -fno-omit-frame-pointer -fPIC -shared -o $@ $<

# Loaded before bnprof, for what tests cannot bring about on the machine itself.
$(BUILD)/tests/data/replaced_calls.so: tests/data/replaced_calls.c Makefile
	@mkdir -p $(@D)
	@echo "  CC  $@"
	$(Q)$(CC) -std=c11 -D_GNU_SOURCE -O1 -g -fPIC -shared -o $@ $< -ldl

demo: all ## the main job on the demo model: record, svg, hotspots
	./bnprof record --freq 999 -- run
	./bnprof svg
	./bnprof hotspots --compare previous

tests-build: all $(TESTS) $(TRUTHS) $(CHECKKERNEL) $(AGREE)

test: tests-build ## all tests (MODELS=DIR: where the optional vocabularies and models are)
	$(Q)BUILD=$(BUILD) CONFIG=$(CONFIG) MODELS="$(abspath $(MODELS))" tests/run.sh

check: lint arrows test ## test, lint, arrows and the tests under ASan and UBSan
	$(Q)$(MAKE) CONFIG=asan test

checkkernel: $(CHECKKERNEL) ## prove every kernel against the C definition
	$(CHECKKERNEL)

bench: $(CHECKKERNEL) ## time every kernel against the C definition
	$(CHECKKERNEL) --bench

# libFuzzer's hours for the functions that test_fuzz runs for seconds. Findings stay in build/fuzz.
FUZZ_SECONDS ?= 30
FUZZERS := fuzz_elf fuzz_part fuzz_part_mended fuzz_records fuzz_profile
FUZZED  := $(patsubst %.c,$(BUILD)/%.o,$(filter profiler/% core/base.c core/scope%.c,$(SOURCES)))
$(FUZZERS:%=$(BUILD)/tests/fuzz/%): $(BUILD)/tests/fuzz/%: tests/fuzz/fuzz_target.c $(wildcard tests/fuzz/*.h) $(FUZZED)
	@mkdir -p $(@D)
	@echo "  LD  $@"
	$(Q)$(CC) $(ALL_CFLAGS) -DFUZZ=$(@F) $(ALL_LDFLAGS) -fsanitize=fuzzer -o $@ $< $(FUZZED) $(LIBS)

fuzz: $(BUILD)/tests/unit/test_fuzz $(BUILD)/tests/data/truth_inline ## feed damaged files to the readers, FUZZ_SECONDS each (needs clang)
	$(Q)mkdir -p $(FUZZERS:%=build/fuzz/inputs/%)
	$(Q)BUILD=$(BUILD) $< --seeds build/fuzz/inputs
	$(Q)$(MAKE) CONFIG=fuzz CC=clang $(FUZZERS:%=build/fuzz/tests/fuzz/%)
	$(Q)set -e; for f in $(FUZZERS); do \
	    build/fuzz/tests/fuzz/$$f -max_total_time=$(FUZZ_SECONDS) -timeout=20 -rss_limit_mb=4096 -print_final_stats=1 \
	        -artifact_prefix=build/fuzz/$$f- build/fuzz/inputs/$$f; done

browser: all ## the flame graph's script in headless Chromium
	$(Q)BUILD=$(BUILD) tests/browser/run.sh

format: ## rewrite the sources in house style
	clang-format -i $(sort $(wildcard $(ROOMS:%=%/*.[ch]) include/*/*.h scopelib/*.c tests/*/*.[ch]))

lint: ## style and shell checks
	$(Q)tests/lint.sh

arrows: ## who may include whom
	$(Q)tests/arrows.sh

compile_commands.json: Makefile
	$(Q)CC="$(CC)" CFLAGS="$(ALL_CFLAGS)" SOURCES="$(SOURCES)" tools/compile-commands > $@

install: all ## install to $(DESTDIR)$(PREFIX): the program, and for other programs <bnprof/scope.h> and libbnprof-scope
	install -D -m 755 $(PROGRAM) $(DESTDIR)$(PREFIX)/bin/bnprof
	install -D -m 644 -t $(DESTDIR)$(PREFIX)/lib/bnprof $(PRELOAD)
	install -D -m 644 include/bnprof/scope.h $(DESTDIR)$(PREFIX)/include/bnprof/scope.h
	install -D -m 644 $(SCOPE).a $(DESTDIR)$(LIBDIR)/libbnprof-scope.a
	install -D -m 755 $(SCOPE).so $(DESTDIR)$(LIBDIR)/$(SCOPE_SONAME)
	ln -sf $(SCOPE_SONAME) $(DESTDIR)$(LIBDIR)/libbnprof-scope.so
	install -d $(DESTDIR)$(LIBDIR)/pkgconfig
	sed 's|@PREFIX@|$(PREFIX)|; s|@LIBDIR@|$(LIBDIR)|; s|@VERSION@|$(VERSION)|' scopelib/bnprof-scope.pc.in \
	    > $(DESTDIR)$(LIBDIR)/pkgconfig/bnprof-scope.pc
	install -D -m 644 -t $(DESTDIR)$(PREFIX)/share/doc/bnprof README.md LICENSE $(wildcard docs/*.md)

uninstall: ## remove what install put there
	rm -rf $(DESTDIR)$(PREFIX)/bin/bnprof $(DESTDIR)$(PREFIX)/lib/bnprof $(DESTDIR)$(PREFIX)/share/doc/bnprof $(DESTDIR)$(PREFIX)/include/bnprof \
	    $(DESTDIR)$(LIBDIR)/libbnprof-scope.a $(DESTDIR)$(LIBDIR)/libbnprof-scope.so $(DESTDIR)$(LIBDIR)/$(SCOPE_SONAME) \
	    $(DESTDIR)$(LIBDIR)/pkgconfig/bnprof-scope.pc

clean: ## remove everything built
	rm -rf build bnprof compile_commands.json

help: ## this list
	@echo "CONFIG=release|debug|asan|tsan   CC=gcc|clang   V=1   WERROR=1   MODELS=DIR"
	@sed -n 's/^\([a-z0-9-]*\):.*## \(.*\)/  \1|\2/p' Makefile | sort | column -t -s '|'

.PHONY: all fuzz demo tests-build test check checkkernel bench aarch64 browser format lint arrows install uninstall clean help
.SECONDARY:
-include $(OBJECTS:.o=.d) $(wildcard $(BUILD)/tests/*/*.d $(BUILD)/pic/*/*.d $(BUILD)/scopelib/*.d)
