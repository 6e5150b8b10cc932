#!/bin/sh
# Debian packages that pip cannot bring: EGL and GLES, which mediapipe loads; with the argument "browser" also chromium, in which
# the tests open the player.
# Installs what is missing where it may (root, or sudo without a password); else says what is missing and goes on.
set -eu

command -v dpkg >/dev/null 2>&1 || { echo "system packages: no dpkg here; mediapipe needs libEGL and libGLESv2 on Linux"; exit 0; }
missing=""
packages="libegl1 libgles2"
[ "${1:-}" = browser ] && packages="$packages chromium"
for package in $packages; do
    dpkg -s "$package" >/dev/null 2>&1 || missing="$missing $package"
done
[ -z "$missing" ] && exit 0

if [ "$(id -u)" = 0 ]; then
    as_root=""
elif command -v sudo >/dev/null 2>&1 && sudo -n true 2>/dev/null; then
    as_root="sudo"
else
    echo "system packages missing:$missing (run: sudo apt-get install$missing); what needs them is left out"
    exit 0
fi
echo "system packages: installing$missing"
# sudo keeps no environment, hence `env`. Offline the rest still runs, so a failure is told and passed over.
{ $as_root apt-get update -qq &&
    $as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >/dev/null; } ||
    echo "system packages not installed:$missing; what needs them is left out"
