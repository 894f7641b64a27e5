"""What Locust's users do: post one picture after the other.

`LOCUST_PICTURES` names a folder of pictures; `LOCUST_RATE` is each user's requests/s, as fast as
it can if not given. An answer other than 200, 503 and 504 is a failure.
"""

import os
from itertools import cycle
from pathlib import Path
from typing import Any

from locust import FastHttpUser, constant_throughput, task

PICTURES = [file.read_bytes() for file in sorted(Path(os.environ["LOCUST_PICTURES"]).iterdir())]
BODIES = [
    b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.jpg"\r\n'
    b"Content-Type: image/jpeg\r\n\r\n" + picture + b"\r\n--x--\r\n"
    for picture in PICTURES
]
HEADERS = {"Content-Type": "multipart/form-data; boundary=x"}


class Caller(FastHttpUser):
    """One connection."""

    if "LOCUST_RATE" in os.environ:
        wait_time = constant_throughput(float(os.environ["LOCUST_RATE"]))

    def on_start(self) -> None:
        self.bodies = cycle(BODIES)

    @task
    def predict(self) -> None:
        body: Any = next(self.bodies)  # bytes, which the types of Locust leave out
        with self.client.post(
            "/predict", data=body, headers=HEADERS, catch_response=True
        ) as answer:
            if answer.status_code in (503, 504):
                answer.success()
                self.environment.stats.log_request("refused", str(answer.status_code), 0, 0)
