#!/usr/bin/env bash
# A real Apache Kafka for the tests: one node (KRaft), on free ports of 127.0.0.1, everything it writes in one folder.
#
#   broker.sh start DIR      start a broker whose data live in DIR (made if missing; data that are there are kept), wait
#                            until it answers, print   BOOTSTRAP=127.0.0.1:PORT DIR=DIR PID=PID
#   broker.sh stop DIR       stop it: politely, after 20 s by force; DIR stays, so that `start DIR` brings it back
#   broker.sh tool CLASS …   run one of Kafka's own tools, e.g. org.apache.kafka.tools.TopicCommand --bootstrap-server …
#
# Needs java (17 or newer) and mvn, which fetches Kafka once (tests/kafka/pom.xml). In the environment:
#   PORT        a fixed port            HEAP    the broker's heap (256m)
#   PROPERTIES  a file of further server properties; they win
#   FORMAT      a file of further options of kafka-storage format, one a line
#   OWNER       a process id: the broker is stopped when that process is gone, so that a killed test leaves nothing behind
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/negstream-kafka
# shellcheck source=tests/java_server.sh
. "$here/../java_server.sh"
java=(java -Xmx"${HEAP:-256m}" -XX:+UseSerialGC -XX:TieredStopAtLevel=1)

start() {
  local dir=$1 jars port control pid log
  jars=$(classpath)
  mkdir -p "$dir"
  dir=$(cd "$dir" && pwd)
  log=$dir/broker.log
  # The same port after a restart: clients that wait for the broker find it again.
  port=${PORT:-$(cat "$dir/port" 2>/dev/null || free_port)}
  control=$(free_port)
  echo "$port" >"$dir/port"
  cat >"$dir/server.properties" <<PROPERTIES
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:$control
listeners=PLAINTEXT://127.0.0.1:$port,CONTROLLER://127.0.0.1:$control
advertised.listeners=PLAINTEXT://127.0.0.1:$port
controller.listener.names=CONTROLLER
log.dirs=$dir/data
num.partitions=1
auto.create.topics.enable=false
offsets.topic.num.partitions=1
offsets.topic.replication.factor=1
transaction.state.log.num.partitions=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.num.partitions=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
PROPERTIES
  [[ -z ${PROPERTIES:-} ]] || cat "$PROPERTIES" >>"$dir/server.properties"
  local run=("${java[@]}" -Dorg.slf4j.simpleLogger.defaultLogLevel=info -cp "$jars")
  if [[ ! -f $dir/data/meta.properties ]]; then
    local options=()
    [[ -z ${FORMAT:-} ]] || mapfile -t options < <(grep . "$FORMAT" || true)
    # Any 16 bytes in URL-safe base64 name a cluster. One word with its option: one id in 64 begins with a hyphen.
    "${run[@]}" kafka.tools.StorageTool format \
      --cluster-id="$(head -c 16 /dev/urandom | base64 | tr '+/' '-_' | tr -d '=')" \
      -c "$dir/server.properties" "${options[@]}" >"$dir/format.log" 2>&1 || { cat "$dir/format.log" >&2; die "formatting failed"; }
  fi
  [[ ! -f $log ]] || mv "$log" "$log.old"
  : >"$log"
  nohup "${run[@]}" kafka.Kafka "$dir/server.properties" >"$log" 2>&1 </dev/null &
  pid=$!
  echo "$pid" >"$dir/pid"
  if [[ -n ${OWNER:-} ]]; then
    (while kill -0 "$OWNER" 2>/dev/null && kill -0 "$pid" 2>/dev/null; do sleep 1; done; kill "$pid" 2>/dev/null) \
      >/dev/null 2>&1 </dev/null &
  fi
  for _ in $(seq 480); do
    kill -0 "$pid" 2>/dev/null || { tail -20 "$log" >&2; die "kafka ended at once"; }
    if grep -q "Kafka Server started" "$log" && (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then
      echo "BOOTSTRAP=127.0.0.1:$port DIR=$dir PID=$pid"
      return
    fi
    sleep 0.25
  done
  tail -20 "$log" >&2
  kill -9 "$pid" 2>/dev/null || true
  die "kafka does not answer"
}

stop() {
  local pid
  pid=$(cat "$1/pid" 2>/dev/null) || die "no broker was started in $1"
  kill "$pid" 2>/dev/null || return 0
  for _ in $(seq 80); do
    kill -0 "$pid" 2>/dev/null || return 0
    sleep 0.25
  done
  kill -9 "$pid" 2>/dev/null || true
}

case ${1:-}:${2:-} in
start:?*) start "$2" ;;
stop:?*) stop "$2" ;;
tool:?*) jars=$(classpath); shift; "${java[@]}" -Dorg.slf4j.simpleLogger.defaultLogLevel=warn -cp "$jars" "$@" ;;
*) sed -n '2,14s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2; exit 2 ;;
esac
