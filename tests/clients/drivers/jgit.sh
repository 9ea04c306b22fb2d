#!/usr/bin/env bash
# JGit's own command line.
set -euo pipefail
# Debian's script leaves out jars that the program needs to start and to speak HTTP.
JGIT_CLASSPATH=$(printf '/usr/share/java/%s.jar:' org.eclipse.jgit.lfs \
  org.eclipse.jgit.http.apache httpclient httpcore commons-logging commons-codec slf4j-nop)
export JGIT_CLASSPATH
# Java takes the home folder from the user database, not from $HOME. The rest makes so short
# a life cheap.
export java_args="-Duser.home=$HOME -XX:TieredStopAtLevel=1 -XX:+UseSerialGC"

# Takes user name and password out of the URL: the program drops the password (and sends
# "null" in its place), but reads .netrc.
login() {
  local rest=${1#*://} scheme=${1%%://*}
  URL=$scheme://${rest#*@}
  local user=${rest%%@*} host=${rest#*@}
  printf 'machine %s login %s password %s\n' "${host%%[:/]*}" "${user%%:*}" "${user#*:}" >"$HOME/.netrc"
  chmod 600 "$HOME/.netrc"
}
step=$1; shift
case $step in
  version) jgit version ;;
  init) jgit init "$1"; echo 'ref: refs/heads/main' >"$1/.git/HEAD" ;;
  commit) cd "$1"; jgit add .; jgit commit -m "$2" ;;
  rewrite) cd "$1"; jgit add .; jgit commit --amend -m "$2" ;;
  branch) cd "$1"; jgit branch "$2" ;;
  tag) cd "$1"; jgit tag -m "$3" "$2" ;;
  push)
    cd "$1"; login "$2"
    # Its status is 0 whatever became of the refs: what it prints has to tell.
    said=$(jgit push "$URL" "$3" 2>&1) || { printf '%s\n' "$said" >&2; exit 1; }
    printf '%s\n' "$said"
    if grep -q 'rejected\]' <<<"$said"; then exit 1; fi ;;
  fetch) cd "$1"; login "$2"; jgit fetch "$URL" '+refs/heads/*:refs/remotes/origin/*' ;;
  clone) login "$1"; jgit clone "$URL" "$2" ;;
  *) echo "no step $step" >&2; exit 2 ;;
esac
