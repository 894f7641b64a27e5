"""The service against its own description: schemathesis makes up requests and checks answers."""

import shutil
import subprocess
import sysconfig
from pathlib import Path

from tests.serving.conftest import Service


def test_no_made_up_request_breaks_it_or_its_description(service: Service, tmp_path: Path) -> None:
    command = shutil.which("schemathesis", path=sysconfig.get_path("scripts"))
    assert command is not None
    tried = subprocess.run(
        [
            *(command, "run", f"{service.url}/openapi.json", "--no-color", "--seed=1"),
            *("--phases=examples,coverage,fuzzing", "--max-examples=40", "--continue-on-failure"),
            # What is base64 by its letters is no image, and is refused, as it should be.
            "--exclude-checks=positive_data_acceptance",
        ],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert tried.returncode == 0, tried.stdout[-3000:] + tried.stderr[-3000:]
    assert "Tested: 15" in tried.stdout
    assert "Traceback" not in service.log.read_text()
    assert not [
        line
        for line in service.get("/metrics").text.splitlines()
        if line.startswith("eurosat_requests_total")
        and 'status="500"' in line
        and not line.endswith(" 0.0")
    ]
