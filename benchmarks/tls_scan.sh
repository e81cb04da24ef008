#!/bin/sh
# Scans a listener of ours with sslyze against Mozilla's intermediate profile, and fails if sslyze
# finds anything that the profile forbids. What sslyze printed is kept in tls_scan.txt.
#
# One thing is added to the profile: the curves X448 and secp521r1. OpenSSL has them switched on, and
# pyOpenSSL has no call to choose among curves. Both are stronger than those that Mozilla lists.
#
#     benchmarks/tls_scan.sh [BASE_PORT]
#
# The listener is that of a demonstration cluster of one node, which is started for the purpose with
# the first twisted-patroni on the PATH. sslyze is installed into a virtual environment of its own,
# which is thrown away, since it pins the versions of libraries that we use, too.
#
# Of the findings that are possible, those about the certificate (path, life span, kind of key,
# signature) would concern the demonstration's certificate, not the listener; it is made such that
# there are none. That the public stores do not know its authority is no finding.
set -eu

port=${1:-18408}
here=$(cd "$(dirname "$0")" && pwd)
# Short, for PostgreSQL's socket is in it, and open, for PostgreSQL's account must get in.
scratch=$(mktemp -d /tmp/scan-XXXXXX)
chmod 755 "$scratch"
demo=

finish() {
    trap - EXIT INT TERM
    if [ -n "$demo" ]; then
        kill "$demo" 2>/dev/null || true
        wait "$demo" || true
    fi
    rm -rf "$scratch"
}
trap finish EXIT
trap 'exit 1' INT TERM

python3 -m venv "$scratch/venv"
"$scratch/venv/bin/pip" install --quiet --disable-pip-version-check 'sslyze>=6.3,<7'

twisted-patroni demo --tls --nodes 1 --base-port "$port" --directory "$scratch/cluster" \
    >"$scratch/demo.log" 2>&1 &
demo=$!
seconds=0
until grep -q '^The cluster is ready' "$scratch/demo.log"; do
    seconds=$((seconds + 1))
    if [ "$seconds" -gt 90 ] || ! kill -0 "$demo" 2>/dev/null; then
        cat "$scratch/demo.log" >&2
        exit 1
    fi
    sleep 1
done

"$scratch/venv/bin/python" - >"$scratch/intermediate.json" <<'PYTHON'
import json
from pathlib import Path

import sslyze

(file,) = (Path(sslyze.__file__).parent / "mozilla_tls_profile").glob("*.json")
profile = json.loads(file.read_text())["configurations"]["intermediate"]
profile["tls_curves"] += ["X448", "secp521r1"]
print(json.dumps(profile))
PYTHON

code=0
"$scratch/venv/bin/sslyze" --custom_tls_config="$scratch/intermediate.json" \
    --certinfo_ca_file="$scratch/cluster/tls/ca.pem" \
    --certinfo --tlsv1_2 --tlsv1_3 --sslv2 --sslv3 --tlsv1 --tlsv1_1 --elliptic_curves --ems \
    --compression --reneg --resum --fallback --early_data --heartbleed --openssl_ccs --robot \
    "localhost:$port" >"$scratch/scan.txt" || code=$?
{
    twisted-patroni --version
    "$scratch/venv/bin/python" -c 'from importlib.metadata import version as v; print("sslyze", v("sslyze"))'
    sed "s|$scratch|.|g; s| *$||" "$scratch/scan.txt"
} >"$here/tls_scan.txt"
cat "$here/tls_scan.txt"
exit "$code"
