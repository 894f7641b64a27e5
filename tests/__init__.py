"""Tests, in an environment that is the same everywhere."""

from tests.isolation import isolate

isolate()  # before any module of the suite or of the program reads the environment
