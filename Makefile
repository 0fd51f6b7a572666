# Everything a person or CI runs. `make` alone lists the targets.
SHELL := /bin/bash
SWIFT ?= swift
BUILD := $(SWIFT) build -c release
ATOLL := .build/release/atoll
PACKAGES := libuv1-dev libssl-dev zlib1g-dev libmicrohttpd-dev bible-kjv pkg-config

.DEFAULT_GOAL := help
.PHONY: help setup build test demo sim storm survival transcripts consensus bench bench-engine bench-models bench-exchange bench-overlay bench-planning bench-floods bench-faults bench-flow \
  bench-simulation bench-connectivity bench-pairs bench-changes bench-line bench-prediction bench-volunteer deb check-package image format lint \
  layers clean events protocol

help:
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):[^#]*## (.*)/  make \1\t\2/' | expand -t 22

setup: ## install what is missing (Debian, Ubuntu)
	@Tools/setup.sh $(PACKAGES)

build: setup ## build the program
	$(BUILD) --product atoll

demo: build ## the main job: ten processes on loopback train a model, one is killed, a checkpoint comes out
	$(ATOLL) demo --out out/demo $(DEMO)

test: setup lint layers ## every test, the end-to-end one included
	$(BUILD) --product atoll-trainingPackageTests
	$(BUILD) --product atoll
	$(SWIFT) test -c release --skip-build --parallel $(or $(TEST),--skip EndToEndTests)
	@# Live pools have the machine to themselves: what they wait for is not what other tests leave them.
	$(if $(TEST),,$(SWIFT) test -c release --skip-build --parallel --filter EndToEndTests)

sim: build ## the demo's job in virtual time
	$(ATOLL) replay Topologies/demo.yaml --job Topologies/jobs/demo.yaml

storm: build ## seeded worlds in which things go wrong, watched by checkers; WORLDS=N SEED=S ELECTORS=N HOMES=1
	$(ATOLL) replay --storm $(or $(WORLDS),1000) --seed $(or $(SEED),1) $(if $(ELECTORS),--electors $(ELECTORS)) $(if $(HOMES),--homes)

survival: build ## what blackouts, kills, bad writes and churn cost: docs/STORM.md
	$(ATOLL) replay --study blackouts
	$(ATOLL) replay --study kills
	$(ATOLL) replay --study writes
	$(ATOLL) replay --study churn

transcripts: ## pin the simulator's transcripts anew: look at the diff, explain it in the commit
	$(BUILD) --product atoll-trainingPackageTests
	ATOLL_TRANSCRIPTS=rewrite $(SWIFT) test -c release --skip-build --filter 'SimulationTests.*(Pinned|Golden) transcripts'
	@git diff --stat -- Tests/SimulationTests/Transcripts

consensus: ## ten thousand worlds in which electors, their disks and their network fail; WORLDS=N SEED=N
	$(BUILD) --product atoll-trainingPackageTests
	ATOLL_CONSENSUS_WORLDS=$(or $(WORLDS),10000) ATOLL_CONSENSUS_SEED=$(or $(SEED),1) \
	  $(SWIFT) test -c release --skip-build --filter ConsensusTests

bench: bench-engine bench-exchange bench-overlay bench-planning bench-simulation ## every benchmark, beside its anchor

bench-engine: build ## a training step against PyTorch (when it is there) on one thread
	@Tools/engine/bench.sh $(ATOLL)

bench-models: build ## vocabularies, checkpoints and answers against tokenizers, tiktoken, transformers, openai and lm_eval (Python packages); TEXT=FILE
	python3 Tools/models/fixtures.py out/fixtures
	python3 Tools/models/check_tokenizers.py $(ATOLL) out/fixtures $(TEXT)
	python3 Tools/models/check_models.py $(ATOLL) out/fixtures out/models
	python3 Tools/models/check_server.py $(ATOLL) out/fixtures/smollm2
	python3 Tools/models/check_harness.py $(ATOLL) out/fixtures/smollm2

bench-overlay: build ## the overlay: libtorrent beside it (when it is there), real nodes, simulated nodes
	$(ATOLL) bench overlay-live
	$(ATOLL) bench overlay-sim
	$(ATOLL) bench door
	$(ATOLL) bench channels
	python3 Tools/overlay/interop.py $(ATOLL)

bench-faults: build ## live: eight paced peers, one killed or stopped every 29 s, beside an undisturbed pool (MINUTES=30)
	python3 Tools/survival/faults.py $(ATOLL) $(or $(MINUTES),30)

bench-prediction: build ## predicted beside measured seconds a step of 2 to 6 peers that share this machine, slowed down by nothing; alone on the machine
	python3 Tools/planning/unpaced.py $(ATOLL)

bench-volunteer: build ## what a peer costs its owner: idle, when the machine is wanted back, its caps (root, iproute2); SECONDS_IDLE=60
	python3 Tools/volunteer/bench.py $(ATOLL) $(or $(SECONDS_IDLE),60)
	python3 Tools/volunteer/caps.py $(ATOLL) || test $$? = 77

bench-floods: build ## hostile members written in Python: floods, and every field with every value, against a launcher and peers
	python3 Tools/hostile/floods.py $(ATOLL)
	python3 Tools/hostile/fields.py $(ATOLL)

bench-connectivity: build ## two homes, a launcher at a third and a public node in network namespaces (root, iproute2, nftables); KIND=symmetric
	@Tools/connectivity/homes.sh $(ATOLL) out/homes

bench-pairs: build ## thirteen kinds of hosts in network namespaces, and how each two of them reach each other (root, iproute2, nftables); RUNS=3
	@python3 Tools/connectivity/pairs.py $(ATOLL) --runs $(or $(RUNS),3)

bench-changes: build ## a job while lines get other addresses, paths go dark and relays die, in network namespaces (root, iproute2, nftables, conntrack)
	@python3 Tools/connectivity/changes.py $(ATOLL)

bench-line: build ## what `atoll doctor net` says behind routers of six kinds, in network namespaces (root, iproute2, nftables)
	@Tools/connectivity/line.sh $(ATOLL)

bench-flow: build ## flows over simulated lines beside TCP CUBIC over the same ones; a GB of a flow over loopback beside TCP
	@$(ATOLL) bench flow-lines
	@$(ATOLL) bench flow

bench-planning: build ## the planner against published costs, annealing, exact optima; 256 and 10 000 peers
	@$(ATOLL) bench planning
	@python3 Tools/planning/prediction.py $(ATOLL)
	@$(BUILD) --product atoll-trainingPackageTests > /dev/null
	@$(SWIFT) test -c release --skip-build --filter PlanningTests.Against | grep 'exact optimum'

bench-exchange: build ## the codecs against memcpy and the entropy limit; exchanges in virtual time against their bounds
	$(ATOLL) codec bench --megabytes $(or $(MEGABYTES),256)
	$(ATOLL) bench exchange-protocol

bench-simulation: build ## a replay of 64 peers and 200 steps, compute charged: CPU time and memory
	@$(ATOLL) bench simulation

format: ## rewrite the sources in the project's style
	$(SWIFT) format --in-place --recursive --configuration .swift-format $$(Tools/sources.sh)

lint: ## style, strictly
	$(SWIFT) format lint --strict --configuration .swift-format $$(Tools/sources.sh)

layers: ## imports point upward only; files, functions and values stay small
	@Tools/check-layers.sh
	@Tools/check-shape.sh

protocol: ## regenerate the protobuf messages (needs protoc and protoc-gen-swift)
	protoc --swift_opt=Visibility=Public --swift_opt=UseAccessLevelOnImports=true \
	  --swift_out=Sources/Base/Wire/Protocol --proto_path=Sources/Base/Wire/Protocol swarm.proto tensorboard.proto

events: build ## rewrite docs/EVENTS.md from the types of events
	$(ATOLL) events-reference > docs/EVENTS.md.new && mv docs/EVENTS.md.new docs/EVENTS.md

deb: setup ## a Debian package in out/: docs/INSTALL.md
	program=$$(Tools/packaging/build.sh) && Tools/packaging/deb.sh $$program out

check-package: ## the package of `make deb`: lintian, its units, a bare Debian, a booted one (root, lintian, systemd); DEBIAN=FOLDER (debootstrap --variant=minbase bookworm FOLDER)
	lintian --allow-root --fail-on error out/atoll_*.deb
	Tools/packaging/units.sh || test $$? = 77
	Tools/packaging/test.sh out/atoll_*.deb $(DEBIAN) || test $$? = 77
	Tools/packaging/boot.sh out/atoll_*.deb $(DEBIAN) || test $$? = 77

image: ## a container image from the package of `make deb` (docker, or CONTAINER=podman): docs/INSTALL.md
	$(or $(CONTAINER),docker) build -f Tools/packaging/Containerfile -t atoll:$$($(ATOLL) --version) out

clean: ## remove what was built
	rm -rf .build out
