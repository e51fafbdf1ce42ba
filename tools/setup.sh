# shellcheck shell=bash
# Sourced by tools/demo and tools/test; its functions run in the root of the checkout. One virtual environment for both.
#
# The environment is .venv; it is kept as long as pyproject.toml does not change. Each set of extras has its own
# stamp, and a larger set stamps the smaller one too, so that demo and test can take turns without installing again.

VENV=.venv
export PIP_DISABLE_PIP_VERSION_CHECK=1

say() {
    printf '== %s\n' "$*"
}

fail() {
    printf 'Error: %s\n' "$*" >&2
    exit 1
}

# Prints the first Python 3.11 to 3.13 that can make a virtual environment; $PYTHON goes first where it is set.
find_python() {
    local candidate
    for candidate in ${PYTHON:+"$PYTHON"} python3 python3.13 python3.12 python3.11; do
        if "$candidate" -c 'import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' \
            >/dev/null 2>&1; then
            command -v "$candidate"
            return 0
        fi
    done
    return 1
}

# What an installation depends on: the project's declarations and the interpreter.
environment_checksum() {
    {
        cat pyproject.toml
        "$VENV/bin/python" -c 'import sys; print(sys.version, sys.prefix)'
    } | cksum
}

# set_up_venv EXTRAS...: installs the project with the extras "all", or "all" and "dev".
set_up_venv() {
    local extras=("$@") largest="${!#}" checksum started=$SECONDS extra python
    if ! "$VENV/bin/python" -c 'import pip' >/dev/null 2>&1; then
        python=$(find_python) || fail "No Python 3.11, 3.12 or 3.13 with venv was found. Install one (Debian: apt-get" \
            "install python3-venv), or name it: PYTHON=/path/to/python3.12 $0"
        say "Making $VENV with $("$python" --version)"
        "$python" -m venv --clear "$VENV"
    fi
    checksum=$(environment_checksum)
    if [[ -f "$VENV/installed-$largest" && "$(<"$VENV/installed-$largest")" == "$checksum" ]]; then
        return 0
    fi
    local joined
    joined=$(IFS=,; printf '%s' "${extras[*]}")
    say "Installing Python packages [$joined] into $VENV: about 3 GB, one to three minutes the first time"
    "$VENV/bin/python" -m pip install --quiet --editable ".[$joined]"
    for extra in "${extras[@]}"; do
        printf '%s\n' "$checksum" >"$VENV/installed-$extra"
    done
    say "Python packages are ready ($((SECONDS - started)) s)"
}

# Prints the Debian packages of the tool chain whose commands are missing.
missing_debian_packages() {
    command -v gcc >/dev/null || echo gcc
    command -v gcc >/dev/null && [[ -e /usr/include/stdio.h ]] || echo libc6-dev
    command -v arm-none-eabi-gcc >/dev/null || echo gcc-arm-none-eabi
    command -v arm-none-eabi-gcc >/dev/null && [[ "$(arm-none-eabi-gcc -print-file-name=libc.a)" == /* ]] ||
        echo libnewlib-arm-none-eabi
    command -v qemu-system-arm >/dev/null || echo qemu-system-arm
    command -v cmake >/dev/null || echo cmake
    command -v make >/dev/null || echo make
    find_python >/dev/null || echo python3-venv
}

# Installs the missing packages where that is allowed (root, with apt-get); says what stays out where it is not.
set_up_debian_packages() {
    local started=$SECONDS packages
    mapfile -t packages < <(missing_debian_packages)
    if [[ ${#packages[@]} -eq 0 ]]; then
        return 0
    fi
    if [[ $(id -u) -ne 0 ]] || ! command -v apt-get >/dev/null; then
        say "Not installed (needs root and apt-get): ${packages[*]}"
        return 0
    fi
    say "Installing Debian packages: ${packages[*]}"
    if { apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends \
        "${packages[@]}"; } >/dev/null 2>&1 </dev/null; then
        say "Debian packages are ready ($((SECONDS - started)) s)"
    else
        say "Not installed (apt-get failed): ${packages[*]}"
    fi
}
