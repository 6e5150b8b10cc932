#!/bin/sh
# Debian packages that pip cannot bring: EGL and GLES for mediapipe, a browser for the browser tests.
# Installs what is missing where it may (root, or sudo without a password); else says what is missing and goes on.
set -eu

command -v dpkg >/dev/null 2>&1 || { echo "system packages: no dpkg here; mediapipe needs libEGL and libGLESv2 on Linux"; exit 0; }
missing=""
for package in libegl1 libgles2; do
    dpkg -s "$package" >/dev/null 2>&1 || missing="$missing $package"
done
[ -z "$missing" ] && exit 0

if [ "$(id -u)" = 0 ]; then
    as_root=""
elif command -v sudo >/dev/null 2>&1 && sudo -n true 2>/dev/null; then
    as_root="sudo"
else
    echo "system packages missing:$missing (run: sudo apt-get install$missing); landmark errors will be left out without them"
    exit 0
fi
echo "system packages: installing$missing"
$as_root apt-get update -qq
DEBIAN_FRONTEND=noninteractive $as_root apt-get install -y -qq --no-install-recommends $missing >/dev/null
