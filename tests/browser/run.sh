#!/bin/bash
# All browser tests (make browser).
cd "$(dirname "$0")/../.." || exit 1
exec tests/run.sh browser/
