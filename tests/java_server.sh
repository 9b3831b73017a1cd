# What the launchers of Java servers for the tests share: sourced by kafka/broker.sh and opensearch/server.sh, which set `here`, their
# folder with a pom.xml, and `cache`, where Maven's answer is kept.

die() { echo "$(basename "$0"): $*" >&2; exit 1; }

# Maven resolves the classpath once; a new pom.xml, or jars that were cleared away, ask for it again.
classpath() {
  local known=$cache/classpath fresh
  if [[ ! -s $known || $here/pom.xml -nt $known || ! -e $(cut -d: -f1 "$known") ]]; then
    mkdir -p "$cache"
    fresh=$(mktemp "$cache/classpath.XXXXXX")
    mvn -q -B -f "$here/pom.xml" dependency:build-classpath -Dmdep.outputFile="$fresh" >&2 ||
      die "mvn cannot fetch what $here/pom.xml names"
    mv "$fresh" "$known"
  fi
  cat "$known"
}

# Below the range from which outgoing connections take theirs.
free_port() {
  local port
  while :; do
    port=$((20000 + RANDOM % 12000))
    (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null || { echo "$port"; return; }
  done
}
