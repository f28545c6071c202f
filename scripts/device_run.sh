#!/usr/bin/env bash
# Builds and runs dlk from this folder alone; see scripts/device_bundle.
set -euo pipefail
here="$(cd "$(dirname "$0")" && pwd)"
prefix="$here/prefix" site="$here/site" source="$here/source"
library="$prefix/usr/lib/x86_64-linux-gnu"

find_driver() { find /usr/local/nvidia /usr/lib /usr/lib64 /opt -name "$1" 2>/dev/null | head -n 1; }

# ARCHIVE FOLDER; the machine may have no xz, Python has.
unpack() {
  mkdir -p "$2"
  python3 -c 'import sys, tarfile; tarfile.open(sys.argv[1]).extractall(sys.argv[2], filter="fully_trusted")' "$@"
}

environment() {
  export PYTHONPATH="$site:$source" DLK_CACHE_DIR="${DLK_CACHE_DIR:-$here/cache}"
  export DLK_OPENCL_LIBRARY="${DLK_OPENCL_LIBRARY:-$library/libOpenCL.so.1}"
  export DLK_VULKAN_LIBRARY="${DLK_VULKAN_LIBRARY:-$library/libvulkan.so.1}"
  # A vendor's driver outside the standard folders, alone: CPU drivers beside it only get in the way.
  local opencl vulkan
  opencl="$(find_driver libnvidia-opencl.so.1)" vulkan="$(find_driver nvidia_icd.json)"
  if [ -n "$opencl" ] && [ -z "${OCL_ICD_VENDORS:-}" ]; then
    unset OCL_ICD_FILENAMES
    mkdir -p "$here/vendors"
    echo "$opencl" >"$here/vendors/nvidia.icd"
    export OCL_ICD_VENDORS="$here/vendors"
  fi
  if [ -n "$vulkan" ] && [ -z "${VK_DRIVER_FILES:-}" ]; then
    export VK_DRIVER_FILES="$vulkan" VK_ICD_FILENAMES="$vulkan"
  fi
  export LD_LIBRARY_PATH="$library${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
}

build() {
  mkdir -p "$prefix" "$site" "$source"
  tar -xzf "$here/source.tar.gz" -C "$source"
  for package in "$here"/debs/*.deb; do dpkg -x "$package" "$prefix"; done
  unpack "$here/site.tar.xz" "$site"
  # A compiler that brings only a static C++ runtime would clash with the shared one of glslang.
  mkdir -p "$prefix/link"
  ln -sf "$(ldconfig -p | sed -n 's/.*libstdc++.so.6 .*x86-64.*=> //p' | head -n 1)" "$prefix/link/libstdc++.so"
  export LDFLAGS="-L$prefix/link"
  PYTHONPATH="$site" CPATH="$prefix/usr/include" cmake -S "$source" -B "$here/build" -G Ninja \
    -DDLK_BUILD_PYTHON=ON -DCMAKE_PREFIX_PATH="$site/cmeel.prefix;$prefix/usr" \
    -DPython_EXECUTABLE="$(command -v python3)" "$@"
  PYTHONPATH="$site" CPATH="$prefix/usr/include" cmake --build "$here/build"
  rm -rf "$site/dlk"
  ln -s "$source/python/dlk" "$site/dlk"
}

command="${1:-}"; shift || true
case "$command" in
  build) build "$@" ;;
  test) environment; cd "$source"; exec python3 -m pytest tests/parity -q "$@" ;;
  dlk) environment; exec python3 -m dlk "$@" ;;
  exec) environment; exec "$@" ;;
  engines) unpack "$here/engines.tar.xz" "$here/engines" ;;
  *) sed -n 's/^# //p' "$0" | head -n 2; echo "usage: $0 build|test|dlk|exec|engines"; exit 2 ;;
esac
