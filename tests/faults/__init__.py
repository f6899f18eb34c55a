"""A faulty upstream, and tests of the gateway's reactions to it."""
