#!/usr/bin/env bash
# redis 8.1.0 (redis-py) beside opentelemetry-sdk 1.45.2.
#
# redis-py can report metrics to OpenTelemetry, which is off until a program configures it. Its import
# nevertheless loads the whole metrics SDK wherever that package is installed, although nobody has
# asked for metrics: every process that talks to Redis starts later and is larger because something
# else in its environment, such as an exporter of traces, depends on the SDK.
#
# Seen, modules of the SDK after `import redis.asyncio`, without and with the package installed, and
# whether the import has at least 40 modules more then: "none; some; more".
source "$(dirname "${BASH_SOURCE[0]}")/ground"
packages redis==8.1.0
look() {
  python -c '
import sys
import redis.asyncio
own = [one for one in sys.modules if one.startswith("opentelemetry.sdk.metrics")]
print("some" if own else "none", len(sys.modules))'
}
read -r without modules_without < <(look)
pip install -qq --disable-pip-version-check opentelemetry-sdk==1.45.2
read -r with modules_with < <(look)
echo "$modules_without modules, and $modules_with"
more=$([ "$modules_with" -ge $((modules_without + 40)) ] && echo more || echo "hardly more")
verdict "redis 8.1.0, opentelemetry-sdk 1.45.2" "$without; $with; $more" "none; some; more"
