"""An upstream that misbehaves on request, and the tests of what Runward makes of it."""
