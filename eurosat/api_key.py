"""The API key of a service: where it comes from, and which request carries it."""

import hmac
import os

from eurosat.errors import EuroSATError

VARIABLE = "EUROSAT_API_KEY"
"""The environment variable that holds the key."""


def read_api_key() -> str | None:
    """Read the key from the environment, without white space at its ends.

    Files of secrets often end with a newline, which no header can carry.

    Returns:
        The key; None if the variable is not set, so that the service is open.

    Raises:
        EuroSATError: The variable is set to an empty key, or to a key that no header can carry.
    """
    given = os.environ.get(VARIABLE)
    if given is None:
        return None
    key = given.strip()
    if not key:
        raise EuroSATError(f"{VARIABLE} is empty: set a key, or unset the variable")
    if not key.isprintable():  # control characters, or bytes that are not UTF-8
        raise EuroSATError(
            f"{VARIABLE} holds a line break or another character that no header can carry: set a "
            "key of letters and digits"
        )
    return key


def carries_key(api_key: str | None, header: bytes, authorization: bytes) -> bool:
    """Return whether a request may pass.

    Args:
        api_key: The key; None lets every request pass.
        header: Value of the request's header ``X-API-Key``; empty without the header.
        authorization: Value of the header ``Authorization``, whose scheme ``Bearer`` may have any
            case (RFC 9110, section 11.1); empty without the header.
    """
    if api_key is None:
        return True
    scheme, _, token = authorization.partition(b" ")
    given = header or (token if scheme.lower() == b"bearer" else b"")
    return hmac.compare_digest(given.strip(), api_key.encode())
