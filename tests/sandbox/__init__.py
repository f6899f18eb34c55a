"""Tests of the emulated providers: against their pages, and over real HTTP."""
