#!/usr/bin/env bash
# Mercurial with hg-git. Branches are bookmarks; the git side is in .hg/git.
set -euo pipefail
HG=(hg --config extensions.hggit= --config 'ui.username=Ada <ada@example.org>' --noninteractive)

# Takes user name and password out of the URL: hg-git reads them from Mercurial's
# configuration only.
login() {
  local rest=${1#*://} scheme=${1%%://*}
  URL=$scheme://${rest#*@}
  local user=${rest%%@*}
  HG+=(--config "auth.remote.prefix=$URL" --config "auth.remote.username=${user%%:*}"
    --config "auth.remote.password=${user#*:}")
}
step=$1; shift
case $step in
  version)
    dpkg-query -W -f 'hg-git ${Version}, ' mercurial-git
    "${HG[@]}" version -q ;;
  init) "${HG[@]}" init "$1" ;;
  commit)
    cd "$1"; "${HG[@]}" addremove -q; "${HG[@]}" commit -m "$2"
    "${HG[@]}" bookmark main ;;
  # Beside the old one and not in its place (--amend): hg-git wants to look at the commit
  # that the remote has.
  rewrite)
    cd "$1"; "${HG[@]}" update -q -r '.^' --tool internal:local
    "${HG[@]}" addremove -q; "${HG[@]}" commit -m "$2"
    "${HG[@]}" bookmark -f main ;;
  branch) cd "$1"; "${HG[@]}" bookmark -i -r . "$2" ;;
  tag) cd "$1"; "${HG[@]}" tag --git -r . "$2" ;;
  push)
    cd "$1"; login "$2"
    force=(); case $3 in +*) force=(-f) ;; esac
    "${HG[@]}" push "${force[@]}" -r "${3##*/}" "$URL" ;;
  fetch) cd "$1"; login "$2"; "${HG[@]}" pull "$URL" ;;
  clone) login "$1"; "${HG[@]}" clone "$URL" "$2" ;;
  *) echo "no step $step" >&2; exit 2 ;;
esac
