#!/bin/sh
# Certificates for broker, collector and nodes from a small authority of one's own, by openssl(1) alone.
#
#   certificate.sh authority             once: authority.crt (give to everybody) and authority.key (keep, offline)
#   certificate.sh broker HOST           broker.crt, broker.key for the name or address by which clients reach it
#   certificate.sh collector             collector.crt, collector.key
#   certificate.sh node NAME             NAME.crt, NAME.key
#
# Files are written to the current folder; none is overwritten. DAYS=30 changes the length of life, 365 by default.
# Another authority serves as well, as long as it signs no other common names than this script would: the common name
# is the identity, and a `/` in it could be mistaken for another topic.
set -eu
umask 077
days=${DAYS:-365}

fail() {
  echo "certificate.sh: $1" >&2
  exit 2
}

issue() { # file, common name, extended key usage, subject alternative name
  [ -e authority.key ] || fail "no authority.key here; first: certificate.sh authority"
  [ ! -e "$1.key" ] && [ ! -e "$1.crt" ] || fail "$1.key or $1.crt exists already"
  openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj "/CN=$2" \
    -keyout "$1.key" -out "$1.csr" 2>/dev/null
  cat >"$1.ext" <<EXTENSIONS
basicConstraints=critical,CA:FALSE
keyUsage=critical,digitalSignature
extendedKeyUsage=$3
subjectAltName=$4
subjectKeyIdentifier=hash
authorityKeyIdentifier=keyid
EXTENSIONS
  openssl x509 -req -in "$1.csr" -CA authority.crt -CAkey authority.key -days "$days" -extfile "$1.ext" \
    -set_serial "0x$(openssl rand -hex 16)" -out "$1.crt" 2>/dev/null
  rm "$1.csr" "$1.ext"
  chmod 644 "$1.crt"
  echo "$1.crt $1.key"
}

case ${1:-} in
authority)
  [ ! -e authority.key ] || fail "authority.key exists already"
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 3650 -subj "/CN=holdfast authority" \
    -addext keyUsage=critical,keyCertSign,cRLSign -keyout authority.key -out authority.crt 2>/dev/null
  chmod 644 authority.crt
  echo "authority.crt authority.key"
  ;;
broker)
  host=${2:?the name or address by which clients reach the broker}
  case $host in
  *[!0-9.]*) names="DNS:$host" ;;
  *) names="IP:$host" ;;
  esac
  issue broker "$host" serverAuth "$names"
  ;;
collector)
  issue collector holdfast-collector clientAuth DNS:holdfast-collector
  ;;
node)
  node=${2:?the name of the node}
  printf %s "$node" | tr '\n' / | LC_ALL=C grep -Eqx '[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?' ||
    fail "'$node' names no node: 1 to 63 of a-z 0-9 . - with a letter or digit at both ends"
  case $node in
  holdfast-collector | authority | broker | collector) fail "'$node' is taken: it would not be a node" ;;
  esac
  issue "$node" "$node" clientAuth "DNS:$node"
  ;;
*)
  fail "authority, broker HOST, collector or node NAME"
  ;;
esac
