#!/usr/bin/env bash
# A real OpenSearch with its k-NN plugin for the tests: one node, on a free port of 127.0.0.1, all it writes in one folder.
#
#   server.sh start DIR      start a node whose data live in DIR (made if missing), wait until it answers, print   URL=http://127.0.0.1:PORT
#   server.sh stop DIR       stop it: politely, after 20 s by force
#
# Needs java (17 or newer), mvn and python3, which unpacks the plugin. In the environment:
#   OWNER    a process id: the server is stopped when that process is gone, so that a killed test leaves nothing behind
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/negstream-opensearch
# shellcheck source=tests/java_server.sh
. "$here/../java_server.sh"

# The server refuses root: in a user namespace of its own it is nobody, with the same files.
unprivileged=()
((EUID != 0)) || unprivileged=(unshare --user)

# A module is a folder with a descriptor: name, class, jars, what it extends.
module() {
  local folder=$1 name=$2 class=$3 pattern=$4 version
  mkdir -p "$folder/$name"
  version=$(grep -o '/opensearch-[0-9.]*\.jar$' <<<"$jars" | head -1 | sed 's/.opensearch-//; s/\.jar//')
  printf '%s\n' "description=$name" "version=$version" "name=$name" "classname=$class" "java.version=11" \
    "opensearch.version=$version" "has.native.controller=false" >"$folder/$name/plugin-descriptor.properties"
  grep -E "$pattern" <<<"$jars" | xargs -I {} cp {} "$folder/$name/"
}

start() {
  local dir=$1 jars port pid log home zip lib
  jars=$(classpath | tr : '\n')
  mkdir -p "$dir"
  dir=$(cd "$dir" && pwd)
  log=$dir/server.log
  home=$dir/home
  port=${PORT:-$(cat "$dir/port" 2>/dev/null || free_port)}
  echo "$port" >"$dir/port"
  mkdir -p "$home"/{config,lib,modules,plugins}
  module "$home/modules" transport-netty4 org.opensearch.transport.Netty4Plugin '/netty-|transport-netty4'
  printf '%s\n' 'grant {' '  permission java.net.SocketPermission "*", "accept,connect,listen,resolve";' \
    '  permission java.lang.RuntimePermission "*";' '  permission java.util.PropertyPermission "*", "read,write";' '};' \
    >"$home/modules/transport-netty4/plugin-security.policy"
  module "$home/modules" lang-painless org.opensearch.painless.PainlessPlugin 'lang-painless|painless-spi|/antlr4|/asm'
  printf '%s\n' 'grant {' '  permission java.lang.RuntimePermission "*";' '};' >"$home/modules/lang-painless/plugin-security.policy"
  zip=$(grep '\.zip$' <<<"$jars")
  mkdir -p "$home/plugins/opensearch-knn"
  python3 -m zipfile -e "$zip" "$home/plugins/opensearch-knn"
  lib=$(grep -vE '\.zip$|/netty-|transport-netty4|lang-painless|painless-spi|/antlr4|/asm' <<<"$jars" | paste -sd:)
  cat >"$home/config/opensearch.yml" <<YML
cluster.name: negstream-tests
node.name: node
discovery.type: single-node
network.host: 127.0.0.1
http.port: $port
transport.port: 0
path.data: $dir/data
path.logs: $dir/logs
bootstrap.memory_lock: false
cluster.routing.allocation.disk.threshold_enabled: false
YML
  cat >"$home/config/log4j2.properties" <<'P'
status = error
appender.console.type = Console
appender.console.name = console
appender.console.layout.type = PatternLayout
appender.console.layout.pattern = [%d{ISO8601}][%-5p][%c{1.}] %m%n
rootLogger.level = info
rootLogger.appenderRef.console.ref = console
P
  "${unprivileged[@]}" java -Xmx"${HEAP:-512m}" -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -Dopensearch.path.home="$home" \
    -Dopensearch.path.conf="$home/config" -Djava.security.manager=allow -Dlog4j2.disable.jmx=true \
    -cp "$lib" org.opensearch.bootstrap.OpenSearch >"$log" 2>&1 </dev/null &
  pid=$!
  echo "$pid" >"$dir/pid"
  for ((i = 0; i < 900; i++)); do
    kill -0 "$pid" 2>/dev/null || { tail -30 "$log" >&2; die "it ended by itself"; }
    if (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then
      if [[ -n ${OWNER:-} ]]; then
        (while kill -0 "$OWNER" 2>/dev/null && kill -0 "$pid" 2>/dev/null; do sleep 1; done; kill -9 "$pid" 2>/dev/null) \
          >/dev/null 2>&1 </dev/null &
      fi
      echo "URL=http://127.0.0.1:$port"
      return
    fi
    sleep 0.1
  done
  kill -9 "$pid"
  tail -30 "$log" >&2
  die "it does not answer"
}

stop() {
  local pid
  pid=$(cat "$1/pid" 2>/dev/null) || return 0
  kill "$pid" 2>/dev/null || return 0
  for ((i = 0; i < 200; i++)); do kill -0 "$pid" 2>/dev/null || return 0; sleep 0.1; done
  kill -9 "$pid" 2>/dev/null || true
}

case ${1:-} in
  start) start "$2" ;;
  stop) stop "$2" ;;
  *) die "start DIR | stop DIR" ;;
esac
