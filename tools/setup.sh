#!/bin/sh
# Makes .venv with everything: a torch that fits the machine first, then the package. Does nothing when it is up to date.
set -eu

PYTHON="${PYTHON:-python3}"
stamp=.venv/.raf_lite_setup
wanted="$(cat pyproject.toml tools/setup.sh | cksum)"
[ -f "$stamp" ] && [ "$(cat "$stamp")" = "$wanted" ] && exit 0

stop() {
    echo "setup: $1" >&2
    exit 1
}
command -v "$PYTHON" >/dev/null 2>&1 || stop "there is no $PYTHON here; install Python 3.11, 3.12 or 3.13, or set PYTHON=... to one"
"$PYTHON" -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if (3, 11) <= v < (3, 14) else f"setup: raf_lite needs Python 3.11 to 3.13, and {sys.executable} is {v[0]}.{v[1]}; set PYTHON=... to another one")'
where=.
[ -d .venv ] && where=.venv
[ -w "$where" ] || stop "$(pwd)/$where cannot be written to; give yourself the right (chown), or clone into a folder of your own"
[ -x .venv/bin/python ] || "$PYTHON" -m venv .venv || stop "could not make a virtual environment; on Debian: apt-get install python3-venv"
pip=".venv/bin/python -m pip --disable-pip-version-check"

if ! .venv/bin/python -c 'import torch' 2>/dev/null; then
    if command -v nvidia-smi >/dev/null 2>&1 && nvidia-smi >/dev/null 2>&1; then
        echo "setup: installing torch for CUDA"
        $pip install -q torch || stop "torch could not be installed (see above); connect to the network and run this again"
    else
        echo "setup: installing torch for the CPU"
        $pip install -q --timeout 15 --retries 0 --index-url https://download.pytorch.org/whl/cpu torch 2>/dev/null ||
            $pip install -q torch==2.13.0 || stop "torch could not be installed (see above); connect to the network and run this again"
    fi
fi
# Whatever comes later must not replace that torch: elsewhere pip would bring a CUDA build of several gigabytes.
.venv/bin/python -c 'from importlib.metadata import version; print("torch==" + version("torch"))' >.venv/constraints.txt
echo "setup: installing raf_lite and what it needs"
$pip install -q -c .venv/constraints.txt -e '.[course,encode,metrics,dev,docs]' &&
    $pip install -q --no-deps dreifus==0.1.28 gsplat==1.5.3 nersemble_benchmark==0.2.0 ||
    stop "packages could not be installed (see above); connect to the network and run this again, or remove .venv to begin anew"
echo "$wanted" >"$stamp"
