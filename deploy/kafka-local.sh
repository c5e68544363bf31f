#!/usr/bin/env bash
# A real Apache Kafka broker (KRaft, one node) on loopback, for tests and for trying the stream.
#
#   deploy/kafka-local.sh start [DIR]   fetch the jars once, start, wait, print the broker's address
#   deploy/kafka-local.sh start DIR secure  the same, and listeners with TLS and SASL beside the plain one
#   deploy/kafka-local.sh stop [DIR]    stop the broker that was started in DIR, by its process id
#   deploy/kafka-local.sh kill [DIR]    the same with SIGKILL, as a crash would; start goes on after it
#   deploy/kafka-local.sh address [DIR] print the address of the broker in DIR
#
# DIR defaults to target/kafka; everything is in it: lib (jars), data, broker.properties, broker.log,
# address, pid. Needs Java 17 or newer and Maven, which reads the jars from Maven Central. A second
# `start` in the same DIR keeps data and ports. Remove DIR/data to begin anew.
#
# With `secure`, which needs openssl, DIR/secure holds what clients need: the addresses of the listeners in
# ssl, sasl_plaintext and sasl_ssl, ca.pem, client.pem and client.key, and the password of the user
# `recommender` (PLAIN, SCRAM-SHA-256, SCRAM-SHA-512) in password.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

KAFKA_VERSION="4.1.0"
# Seconds until a broker that does not answer is given up.
START_LIMIT=60

say() { printf '[kafka-local] %s\n' "$*" >&2; }
die() { say "$*"; exit 1; }

absolute() { mkdir -p "$1" && (cd "$1" && pwd); }

# A port on 127.0.0.1 that nobody answers on.
free_port() {
    local port
    for _ in $(seq 100); do
        port=$((20000 + RANDOM % 20000))
        if ! (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then
            printf '%s\n' "$port"
            return
        fi
    done
    die "no free port found between 20000 and 40000"
}

fetch_jars() {
    local dir="$1"
    [[ -e "$dir/lib/kafka_2.13-$KAFKA_VERSION.jar" ]] && return
    command -v mvn >/dev/null || die "needs Maven (mvn) to fetch org.apache.kafka:kafka_2.13:$KAFKA_VERSION"
    mkdir -p "$dir"
    cat >"$dir/pom.xml" <<POM
<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>recommender</groupId>
  <artifactId>kafka-local</artifactId>
  <version>1</version>
  <dependencies>
    <dependency>
      <groupId>org.apache.kafka</groupId>
      <artifactId>kafka_2.13</artifactId>
      <version>$KAFKA_VERSION</version>
    </dependency>
  </dependencies>
</project>
POM
    say "fetching Apache Kafka $KAFKA_VERSION"
    mvn --quiet --batch-mode --file "$dir/pom.xml" dependency:copy-dependencies \
        -DincludeScope=runtime -DoutputDirectory="$(absolute "$dir")/lib" >&2 || die "Maven could not fetch the jars"
}

write_properties() {
    local dir="$1" broker controller
    broker="$(free_port)"
    controller="$(free_port)"
    cat >"$dir/broker.properties" <<PROPERTIES
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:$controller
listeners=PLAINTEXT://127.0.0.1:$broker,CONTROLLER://127.0.0.1:$controller
advertised.listeners=PLAINTEXT://127.0.0.1:$broker
controller.listener.names=CONTROLLER
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
log.dirs=$(absolute "$dir")/data
num.partitions=3
offsets.topic.num.partitions=4
offsets.topic.replication.factor=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
log.retention.hours=24
PROPERTIES
    printf '127.0.0.1:%s\n' "$broker" >"$dir/address"
}

# A key and its certificate, signed by the authority beside it, for 127.0.0.1.
certificate() {
    local tls="$1" name="$2"
    openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj "/CN=$name" \
        -keyout "$tls/$name.key" -out "$tls/$name.csr" || return
    printf 'subjectAltName=IP:127.0.0.1\n' >"$tls/san"
    openssl x509 -req -in "$tls/$name.csr" -CA "$tls/ca.pem" -CAkey "$tls/ca.key" -CAcreateserial -days 3650 \
        -extfile "$tls/san" -out "$tls/$name.pem"
}

# Certificates, a password, and the properties of three more listeners.
write_secure() {
    local dir="$1" tls listeners="" protocol name password
    command -v openssl >/dev/null || die "needs openssl for listeners with TLS"
    tls="$(absolute "$dir/secure")"
    chmod 700 "$tls"
    {
        openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 3650 -subj "/CN=kafka-local" \
            -keyout "$tls/ca.key" -out "$tls/ca.pem" &&
            certificate "$tls" server && certificate "$tls" client
    } 2>"$tls/openssl.log" || die "openssl made no certificates: $(tail -n 1 "$tls/openssl.log")"
    cat "$tls/server.key" "$tls/server.pem" >"$tls/server-store.pem"
    openssl rand -hex 16 >"$tls/password"
    password="$(cat "$tls/password")"
    for protocol in SSL SASL_PLAINTEXT SASL_SSL; do
        name="$(printf '%s' "$protocol" | tr '[:upper:]' '[:lower:]')"
        printf '127.0.0.1:%s\n' "$(free_port)" >"$tls/$name"
        listeners="$listeners,$protocol://$(cat "$tls/$name")"
    done
    sed -e "s|^\\(listeners=.*\\)\$|\\1$listeners|" -e "s|^\\(advertised.listeners=.*\\)\$|\\1$listeners|" \
        -e "s|^\\(listener.security.protocol.map=.*\\)\$|\\1,SSL:SSL,SASL_PLAINTEXT:SASL_PLAINTEXT,SASL_SSL:SASL_SSL|" \
        "$dir/broker.properties" >"$dir/broker.properties.secure"
    mv "$dir/broker.properties.secure" "$dir/broker.properties"
    cat >>"$dir/broker.properties" <<PROPERTIES
inter.broker.listener.name=PLAINTEXT
ssl.keystore.type=PEM
ssl.keystore.location=$tls/server-store.pem
ssl.truststore.type=PEM
ssl.truststore.location=$tls/ca.pem
listener.name.ssl.ssl.client.auth=requested
sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512
PROPERTIES
    local plain="org.apache.kafka.common.security.plain.PlainLoginModule required user_recommender=\"$password\";"
    local scram="org.apache.kafka.common.security.scram.ScramLoginModule required;"
    for name in sasl_plaintext sasl_ssl; do
        cat >>"$dir/broker.properties" <<PROPERTIES
listener.name.$name.plain.sasl.jaas.config=$plain
listener.name.$name.scram-sha-256.sasl.jaas.config=$scram
listener.name.$name.scram-sha-512.sasl.jaas.config=$scram
PROPERTIES
    done
}

running() { [[ -e "$1/pid" ]] && kill -0 "$(cat "$1/pid")" 2>/dev/null; }

wait_for() {
    local dir="$1" port
    port="$(cut -d: -f2 "$dir/address")"
    for _ in $(seq $((START_LIMIT * 5))); do
        running "$dir" || die "the broker ended: $(tail -n 3 "$dir/broker.log")"
        if (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then
            return
        fi
        sleep 0.2
    done
    die "the broker did not answer within $START_LIMIT s: $(tail -n 3 "$dir/broker.log")"
}

start() {
    local dir="$1" mode="$2" scram=()
    command -v java >/dev/null || die "needs Java 17 or newer (java)"
    if ! running "$dir"; then
        fetch_jars "$dir"
        if [[ ! -e "$dir/data/meta.properties" ]]; then
            write_properties "$dir"
            if [[ "$mode" == secure ]]; then
                write_secure "$dir"
                for mechanism in SCRAM-SHA-256 SCRAM-SHA-512; do
                    scram+=(--add-scram "$mechanism=[name=recommender,password=$(cat "$dir/secure/password")]")
                done
            fi
            java -cp "$dir/lib/*" kafka.tools.StorageTool format \
                --cluster-id "$(java -cp "$dir/lib/*" kafka.tools.StorageTool random-uuid 2>/dev/null)" \
                --config "$dir/broker.properties" "${scram[@]}" >"$dir/broker.log" 2>&1 ||
                die "the broker's folder could not be formatted: $(tail -n 1 "$dir/broker.log")"
        fi
        setsid nohup java -Xms128m -Xmx512m -cp "$dir/lib/*" kafka.Kafka "$dir/broker.properties" \
            >>"$dir/broker.log" 2>&1 </dev/null &
        printf '%s\n' "$!" >"$dir/pid"
        wait_for "$dir"
    fi
    cat "$dir/address"
}

stop() {
    local dir="$1" signal="$2" pid
    running "$dir" || { rm -f "$dir/pid"; return 0; }
    pid="$(cat "$dir/pid")"
    kill "-$signal" "$pid"
    for _ in $(seq 150); do
        kill -0 "$pid" 2>/dev/null || break
        sleep 0.2
    done
    kill -0 "$pid" 2>/dev/null && kill -KILL "$pid"
    rm -f "$dir/pid"
}

dir="${2:-target/kafka}"
case "${1:-}" in
    start) start "$dir" "${3:-plain}" ;;
    stop) stop "$dir" TERM ;;
    kill) stop "$dir" KILL ;;
    address) cat "$dir/address" ;;
    *) die "usage: deploy/kafka-local.sh start|stop|kill|address [DIR] [secure]" ;;
esac
