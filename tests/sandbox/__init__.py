"""Tests of the emulated providers, against their documentation and over HTTP."""
