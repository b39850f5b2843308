# SPDX-License-Identifier: Apache-2.0
#
# A thin front: the work is done by Meson and by scripts/. `make help` lists what there is.

PREFIX ?= /usr/local
DESTDIR ?=
FUZZ_SECONDS ?= 60
SOAK_SECONDS ?= 60
SIM_SEEDS ?= 100000
ROUNDS ?= 20
JOBS ?= $(shell nproc)
export JOBS

.DEFAULT_GOAL := help
.PHONY: help setup build run cluster story test sim kill-loop bench bench-daemon bench-cluster fuzz soak lint \
	screenshot format install deb docs clean

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' Makefile | expand -t 21

setup: ## install what is missing (Debian packages)
	@scripts/setup all

build: ## the library, the examples and the tests, optimised, into build/
	@scripts/setup build
	@scripts/build build

run: build ## presenced with agents and a gateway to look at, until Ctrl-C
	@python3 examples/feed.py build

cluster: build ## three presenced on one nats-server: one is killed, one cut off, one stopped, and all agree at the end
	@scripts/setup test
	@python3 examples/cluster.py build

story: build ## the library's example: an API server, agents as processes, and what changes when one dies
	@examples/demo.sh build

test: ## build and run every test; the last line is the count
	@scripts/setup test
	@scripts/run-tests

sim: ## SIM_SEEDS (100,000) random clusters in virtual time, and the stories
	@scripts/setup test
	@scripts/sim $(SIM_SEEDS)

kill-loop: ## ROUNDS (20) in each of four places: real nodes and NATS servers killed, frozen and cut off
	@scripts/setup test
	@scripts/kill-loop $(ROUNDS)

bench: ## the benchmarks beside their yardsticks
	@scripts/setup test
	@scripts/build build
	@build/tests/bench/bench_recorder --all
	@if [ -x build/tests/bench/bench_wire ]; then build/tests/bench/bench_wire; fi

bench-daemon: ## presenced beside redis-server, by redis-benchmark
	@scripts/setup test
	@scripts/bench-daemon

bench-cluster: ## three nodes of a cluster: latency, rates, deaths, idle traffic and memory, against the targets
	@scripts/setup test
	@scripts/bench-cluster

fuzz: ## every fuzz target for FUZZ_SECONDS (60) from the committed corpora
	@scripts/setup all
	@scripts/fuzz $(FUZZ_SECONDS)

soak: ## a bad day for presenced under sanitizers: SOAK_SECONDS (60) of random clients, kills and garbage
	@scripts/setup all
	@scripts/soak $(SOAK_SECONDS)

lint: ## format, clang-tidy, man pages, and the rules of the house
	@scripts/setup all
	@scripts/lint

format: ## let clang-format lay out every C file
	@scripts/setup all
	@scripts/lint --format

install: ## into DESTDIR and PREFIX (/usr/local)
	@scripts/setup build
	@scripts/build build-install -Dprefix=$(PREFIX) -Dtests=false -Dexamples=false
	@meson install -C build-install --no-rebuild $(if $(DESTDIR),--destdir $(abspath $(DESTDIR)))

deb: ## the Debian package of presenced and the presence command, into build-deb/
	@scripts/setup all
	@scripts/deb

screenshot: build ## the picture of the dashboard in docs/dashboard.png
	@scripts/setup test
	@tests/web/run.sh $(CURDIR)/build/tests/web/modules screenshot.js build/src/daemon/presenced docs/dashboard.png

docs: ## the man pages as text and HTML into build/docs; and check every link in the papers
	@scripts/setup test
	@scripts/docs

clean: ## remove everything that was built
	rm -rf build build-*
