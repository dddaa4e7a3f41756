#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# install-packages.sh LIST TARGET...: install what the list (harness/packages.txt) has for these targets and is missing.
# A target is known by the beginning of its name: aarch64-16k needs what aarch64 needs; a group needs all.
# Those for old kernels need musl besides.
# Looks for what each package brings, so that it needs neither root nor Debian where nothing is missing.
set -eu

list=$1
shift
wanted=" all "
for target; do
	case ${target%%-*} in
	all | every | pages | hash) wanted="$wanted x86_64 aarch64 ppc64 ppc64le " ;;
	old) wanted="$wanted x86_64 " ;;
	*) wanted="$wanted ${target%%-*} " ;;
	esac
	case $target in
	old | every | *-old) wanted="$wanted musl " ;;
	esac
done

missing=
while read -r target package sign; do
	case $target in '' | '#'*) continue ;; esac
	case $wanted in *" $target "*) ;; *) continue ;; esac
	case $sign in
	/*) [ -e "$sign" ] && continue ;;
	*:*) "${sign%%:*}" -c "import ${sign#*:}" 2>/dev/null && continue ;;
	*) command -v "$sign" >/dev/null 2>&1 && continue ;;
	esac
	case " $missing " in *" $package "*) ;; *) missing="$missing $package" ;; esac
done <"$list"

[ -n "$missing" ] || exit 0

if ! command -v apt-get >/dev/null 2>&1; then
	echo "missing (Debian's package names):$missing; this is no Debian, install them with your package manager" >&2
	exit 1
fi
as_root=
if [ "$(id -u)" != 0 ]; then
	if ! command -v sudo >/dev/null 2>&1; then
		echo "missing:$missing; no root and no sudo here, so let root run: apt-get install$missing" >&2
		exit 1
	fi
	as_root="sudo"
fi
echo "installing:$missing"
$as_root apt-get update -qq
# shellcheck disable=SC2086 # a list of words
$as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >/dev/null
