# What people type. `make try` is the first thing to type; `make test` is the whole gate.

PREFIX ?= $(HOME)/.local
DESTDIR ?=
CARGO ?= cargo

# The target, found once and only when a recipe needs it: musl, so that the program is one static
# file; else what the compiler itself makes, with a note.
TARGET = $(eval TARGET := $$(shell sh tests/target.sh))$(TARGET)
OUT = $(or $(CARGO_TARGET_DIR),target)/$(TARGET)/release
TRIPMINE = $(OUT)/tripmine

.PHONY: help try build install test check bench

help:
	@echo 'make try      a throwaway cube with this folder in it, and a shell'
	@echo 'make test     every check and test that this host can run, and a count'
	@echo 'make build    the program, in release, as one static file'
	@echo 'make install  the program, its manual page and completions, to PREFIX ($(PREFIX))'
	@echo 'make check    format, lints and the rules of the house, without the tests'
	@echo 'make bench    how long a launch takes'

build:
	$(CARGO) build --release --locked --target $(TARGET)

# The shell's own exit code is no failure of make's; 125 is tripmine's own, 101 a fault in it.
try: build
	@echo '$(TRIPMINE) --mount $(CURDIR) --shell'
	@'$(TRIPMINE)' --mount '$(CURDIR)' --shell; case $$? in 101|125) exit 1;; esac

install: build
	install -D -m 0755 '$(TRIPMINE)' '$(DESTDIR)$(PREFIX)/bin/tripmine'
	install -d '$(DESTDIR)$(PREFIX)/share/man/man1' \
	  '$(DESTDIR)$(PREFIX)/share/bash-completion/completions' \
	  '$(DESTDIR)$(PREFIX)/share/zsh/site-functions' \
	  '$(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d'
	'$(TRIPMINE)' man --all '$(DESTDIR)$(PREFIX)/share/man/man1' > /dev/null
	'$(TRIPMINE)' completions bash > '$(DESTDIR)$(PREFIX)/share/bash-completion/completions/tripmine'
	'$(TRIPMINE)' completions zsh > '$(DESTDIR)$(PREFIX)/share/zsh/site-functions/_tripmine'
	'$(TRIPMINE)' completions fish > '$(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d/tripmine.fish'

test:
	@TARGET='$(TARGET)' bash tests/run.sh

check:
	$(CARGO) fmt --check
	$(CARGO) clippy --locked --all-targets --target $(TARGET) -- -D warnings
	$(CARGO) test --locked --target $(TARGET) --test tidy

bench: build
	benches/bench.py all
