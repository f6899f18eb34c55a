"""What outlives the process: runs that somebody may ask for later, idempotency records, callbacks to deliver."""
