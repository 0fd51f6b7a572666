#!/usr/bin/env bash
# Installs the Debian or Ubuntu packages given that are missing. Says what it would need where it cannot.
set -euo pipefail

command -v swift >/dev/null || {
    echo "setup: no Swift found. Install Swift 6.3 from swift.org, and put its usr/bin into PATH." >&2
    exit 1
}
missing=()
for package in "$@"; do
    dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'install ok installed' || missing+=("$package")
done
[ ${#missing[@]} -eq 0 ] && exit 0

echo "setup: installing ${missing[*]}"
run=()
if [ "$(id -u)" != 0 ]; then
    command -v sudo >/dev/null || {
        echo "setup: please install, as root: apt-get install ${missing[*]}" >&2
        exit 1
    }
    run=(sudo)
fi
export DEBIAN_FRONTEND=noninteractive
"${run[@]}" apt-get install -y --no-install-recommends "${missing[@]}" >/dev/null 2>&1 || {
    "${run[@]}" apt-get update -qq
    "${run[@]}" apt-get install -y --no-install-recommends "${missing[@]}" >/dev/null
}
