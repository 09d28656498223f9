"""The README's walk works as it is pasted."""

import asyncio
import re
from pathlib import Path

from tests.conftest import Doors

_README = Path(__file__).parents[2] / "README.md"
_BASH = re.compile(r"^```bash\n(.*?)^```$", re.MULTILINE | re.DOTALL)


async def test_the_walk_with_curl_works_as_pasted(doors: Doors) -> None:
    blocks = _BASH.findall(_README.read_text(encoding="utf-8"))
    script = "set -euo pipefail\n" + "\necho\n".join(blocks)
    process = await asyncio.create_subprocess_exec(
        "bash",
        "-c",
        script,
        env={
            "PATH": "/usr/bin:/bin:/usr/local/bin",
            "ACKLEDGER_URL": doors.system.http_url,
            "ACKLEDGER_API_KEY": doors.system.api_key,
        },
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await asyncio.wait_for(process.communicate(), timeout=60)
    text = output.decode()

    assert process.returncode == 0, text
    assert text.count('"status":"COMPLETED"') == 3
    assert "Idempotency-Replayed: true" in text
    assert '"balance":"25.50"' in text
    assert '"balance_after":"74.50"' in text
