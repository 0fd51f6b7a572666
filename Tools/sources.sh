#!/usr/bin/env bash
# The Swift files that people write: generated ones are left out.
cd "$(dirname "$0")/.."
git ls-files -co --exclude-standard 'Package.swift' 'Sources/*.swift' 'Tests/*.swift' | grep -v '\.pb\.swift$' | while read -r f; do [ -e "$f" ] && echo "$f"; done
