#!/usr/bin/env bash
# Git itself: the program is $GIT, plain or with git-lfs ($LFS set).
set -euo pipefail
step=$1; shift
at() { local folder=$1; shift; "$GIT" -C "$folder" "$@"; }
case $step in
  version) if [ -n "${LFS:-}" ]; then "$GIT" lfs version; else "$GIT" version; fi ;;
  init)
    "$GIT" init -q -b main "$1"
    if [ -n "${LFS:-}" ]; then at "$1" lfs install --local && at "$1" lfs track '*.bin'; fi ;;
  commit) at "$1" add -A && at "$1" commit -q -m "$2" ;;
  rewrite) at "$1" add -A && at "$1" commit -q --amend -m "$2" ;;
  branch) at "$1" branch "$2" ;;
  tag) at "$1" tag -a -m "$3" "$2" ;;
  push) at "$1" push "$2" "$3" ;;
  fetch) at "$1" fetch "$2" '+refs/heads/*:refs/remotes/origin/*' ;;
  clone)
    "$GIT" clone -q "$1" "$2"
    if [ -n "${LFS:-}" ]; then at "$2" lfs install --local && at "$2" lfs pull "$1"; fi ;;
  *) echo "no step $step" >&2; exit 2 ;;
esac
